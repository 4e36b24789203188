"""The commands `moss-tts download`, `models` and `models remove`. What is slow to import waits inside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moss_tts.cli.options import HELP, Quiet, Revision, examples

if TYPE_CHECKING:
    from moss_tts.checkpoints.kept import Kept

EXAMPLES = examples(
    ("Fetch a model and its codec", "moss-tts download OpenMOSS-Team/MOSS-TTS"),
    ("See first whether it would run here", "moss-tts inspect OpenMOSS-Team/MOSS-TTS"),
    ("See what is here already", "moss-tts models"),
)

HERE_EXAMPLES = examples(
    ("See what is here", "moss-tts models"),
    ("Free disk space", "moss-tts models remove OpenMOSS-Team/MOSS-TTS"),
)

app = typer.Typer(
    epilog=HERE_EXAMPLES,
    help="Show the checkpoints on this machine: what each is, how large it is, and where.",
    context_settings={"help_option_names": HELP},
)


def download(
    name: Annotated[str, typer.Argument(metavar="HUB_ID", help="Fetch this checkpoint.")],
    revision: Revision = None,
    quiet: Quiet = False,
) -> None:
    """Fetch a checkpoint from the hub, with the codec that it speaks with.

    It says first how much that is. After an interruption the same command goes on: files that were complete are kept.
    A checkpoint that is here is brought up to date.
    """
    from moss_tts.checkpoints.downloads import needed
    from moss_tts.checkpoints.hub import check_room, fetch, shown_by
    from moss_tts.checkpoints.names import is_hub_name, no_checkpoint
    from moss_tts.cli.terminal import Terminal
    from moss_tts.device.memory import size
    from moss_tts.errors import RequestError

    if Path(name).is_dir():
        raise RequestError(f"{name} is a directory on this machine. Give a hub id, such as 'OpenMOSS-Team/MOSS-TTS'.")
    if not is_hub_name(name):
        raise RequestError(no_checkpoint(name, Path(name)))
    terminal = Terminal(quiet)
    repositories = needed(name, revision)
    for listed in repositories:
        here = listed.nbytes - sum(file.nbytes for file in listed.missing())
        terminal.say(f"{listed.name}: {size(listed.nbytes)}, {size(here)} of it already on this machine")
    check_room(*repositories)
    with shown_by(terminal.downloading):
        directories = [fetch(listed) for listed in repositories]
    terminal.say(f"{name} is complete: {directories[0]}")


@app.callback(invoke_without_command=True)
def models(
    context: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False,
) -> None:
    """Show the checkpoints on this machine."""
    if context.invoked_subcommand is not None:
        return
    from moss_tts.checkpoints.kept import checkpoints_here
    from moss_tts.text.harmless import without_controls

    here = checkpoints_here(Path())
    print(_as_json(here) if json else without_controls(_as_text(here)))


@app.command()
def remove(
    name: Annotated[
        str, typer.Argument(metavar="HUB_ID", help="Delete this checkpoint. `moss-tts models` shows its name.")
    ],
) -> None:
    """Delete a downloaded checkpoint. It can be downloaded again."""
    from moss_tts.checkpoints import kept
    from moss_tts.cli.terminal import Terminal
    from moss_tts.device.memory import size

    Terminal().say(f"{name} is deleted, which frees {size(kept.remove(name))}")


def _as_json(here: list[Kept]) -> str:
    from dataclasses import asdict
    from json import dumps

    return dumps([asdict(one) | {"directory": str(one.directory)} for one in here], indent=2)


def _as_text(here: list[Kept]) -> str:
    from moss_tts.checkpoints.names import PUBLISHED
    from moss_tts.device.memory import size

    rows = [(one.name or "(packaged voice)", one.kind, size(one.nbytes), _where(one)) for one in here]
    widths = [max(map(len, column)) for column in list(zip(*rows, strict=True))[:-1]]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]) for row in rows
    ]
    names = {one.name for one in here}
    absent = [one.id for one in PUBLISHED if not one.is_codec and one.id not in names]
    return "\n".join(
        [*lines, "", "More models on the hub; `moss-tts download NAME` gets one:", *(f"  {name}" for name in absent)]
    )


def _where(one: Kept) -> str:
    return str(one.directory) if one.complete else f"incomplete; `moss-tts download {one.name}` completes it"
