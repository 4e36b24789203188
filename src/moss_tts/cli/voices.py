"""The commands `moss-tts voices add`, `list` and `remove`. What is slow to import waits inside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moss_tts.cli.options import EXISTING, HELP, VOICES

app = typer.Typer(
    help="Voices under a name, for generate, read and serve alike.",
    context_settings={"help_option_names": HELP},
)


@app.command()
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="1 to 64 of a-z, 0-9, - and _.")],
    recording: Annotated[
        Path,
        typer.Argument(metavar="FILE", **EXISTING, help="Some 5 to 30 seconds of the voice alone."),
    ],
    text: Annotated[
        str | None, typer.Option(help="What the recording says; dialogues and continuations need it.")
    ] = None,
    description: Annotated[str | None, typer.Option(help="Words for people.")] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", metavar="DIR|HUB_ID", help="Encode it for this model now, not when first used."),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="In place of a voice of that name.")] = False,
    voices: Annotated[Path | None, typer.Option(**VOICES)] = None,
) -> None:
    """Register a recording as a voice, for instance one that VoiceGenerator made."""
    from moss_tts.cli.terminal import Terminal
    from moss_tts.voices import Voices, check_name

    check_name(name)
    loaded = None
    if model is not None:
        from moss_tts.model import load

        loaded = load(model)
    added = Voices(voices).add(name, recording, transcript=text, description=description, model=loaded, replace=replace)
    Terminal().say(f"{added.name}: {added.record.seconds:.1f} s, {added.directory}")


@app.command("list")
def list_voices(
    voices: Annotated[Path | None, typer.Option(**VOICES)] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """The registered voices."""
    from dataclasses import asdict
    from json import dumps

    from moss_tts.voices import Voices

    known = list(Voices(voices))
    if json:
        print(dumps([asdict(voice.record) for voice in known], indent=2))
        return
    for voice in known:
        about = voice.record.description or voice.record.transcript or ""
        print(f"{voice.name:<20} {voice.record.seconds:6.1f} s  {about[:70]}".rstrip())


@app.command()
def remove(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    voices: Annotated[Path | None, typer.Option(**VOICES)] = None,
) -> None:
    """Forget a voice, and delete its files."""
    from moss_tts.cli.terminal import Terminal
    from moss_tts.voices import Voices

    Voices(voices).remove(name)
    Terminal().say(f"{name} is gone")
