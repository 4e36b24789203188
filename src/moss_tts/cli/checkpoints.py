"""The commands `moss-tts inspect` and `moss-tts demo-checkpoint`. What is slow to import waits inside."""

from __future__ import annotations

import shlex
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from moss_tts.cli.arguments import refuse_options_of_speech
from moss_tts.cli.options import Codec, examples
from moss_tts.errors import MossTTSError

INSPECT_EXAMPLES = examples(
    ("Ask whether a checkpoint runs on this machine", "moss-tts inspect DIR"),
    ("See whether a copy arrived whole", "moss-tts inspect DIR --verify"),
    ("Read one figure in a program", "moss-tts inspect DIR --json"),
)
DEMO_EXAMPLES = examples(
    ("Make a checkpoint and try it", 'moss-tts demo-checkpoint demo\n  moss-tts generate "Hello." --model demo'),
)


def inspect(
    directory: Annotated[
        str,
        typer.Argument(
            metavar="DIR|HUB_ID",
            help="Describe this checkpoint or codec. It need not be on this machine: the hub is asked then.",
        ),
    ],
    codec: Codec = None,
    codec_dtype: Annotated[
        str, typer.Option(metavar="TYPE", help="Count the memory of the codec's decoder in float32, bfloat16 or 8bit.")
    ] = "float32",
    verify: Annotated[
        bool, typer.Option("--verify", help="Read all weights, and compare them with the sums that convert wrote.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the facts as JSON.")] = False,
) -> None:
    """Say what a checkpoint is, what it needs and whether it runs on this machine.

    Only descriptions and the headers of weight files are read: some hundred kilobytes, if they come from the hub. With
    --verify, all weights are read as well. The exit code is 1 if the checkpoint cannot run.
    """
    from moss_tts.checkpoints.inspection import inspect_checkpoint
    from moss_tts.cli.inspection_text import as_json, as_text
    from moss_tts.cli.sound_inspection import show
    from moss_tts.text.harmless import without_controls

    if (sounds := _sound_model(directory)) is not None:
        refuse_options_of_speech({"codec": codec, "codec-dtype": None if codec_dtype == "float32" else codec_dtype})
        raise typer.Exit(0 if show(sounds, verify, json) else 1)
    inspection = inspect_checkpoint(directory, codec, codec_dtype, verify)
    print(as_json(inspection) if json else without_controls(as_text(inspection)))
    raise typer.Exit(0 if inspection.runs else 1)


def _sound_model(name: str) -> Path | None:
    """The directory of a sound model that is on this machine."""
    from moss_tts.kinds import sound_source

    # The inspection says what else it is, and what is wrong with it.
    with suppress(MossTTSError):
        source = sound_source(name, cached_only=True)
        return None if source is None else source.directory
    return None


def demo_checkpoint(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Write into this directory, which must be new or empty.")
    ],
    architecture: Annotated[
        str, typer.Option(metavar="NAME", help="Choose delay, local, local_v1_5, nano or realtime.")
    ] = "delay",
    seed: Annotated[int, typer.Option(metavar="N", help="Draw the weights with this seed.")] = 0,
) -> None:
    """Write a tiny checkpoint with random weights, for tests. It is complete and quick, and speaks noise."""
    from moss_tts.checkpoints.demo import NOTE, write_demo_checkpoint
    from moss_tts.cli.terminal import Terminal

    write_demo_checkpoint(directory, architecture, seed)
    terminal = Terminal()
    terminal.say(f"{directory}: {NOTE}")
    terminal.hint(f'Try it: moss-tts generate "Hello." --model {shlex.quote(str(directory))}')
