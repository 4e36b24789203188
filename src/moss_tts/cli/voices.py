"""The commands `moss-tts voices add`, `list` and `remove`. What is slow to import waits inside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moss_tts.cli.arguments import read_adapter_weights
from moss_tts.cli.options import EXISTING, HELP, VOICES, examples

app = typer.Typer(
    help="Register voices under a name, for all commands that speak.",
    context_settings={"help_option_names": HELP},
)

ADD_EXAMPLES = examples(
    ("Register a recording", 'moss-tts voices add alice alice.wav --text "What alice.wav says."'),
    ("Speak in that voice", 'moss-tts generate "Hello there." --model DIR --voice alice'),
)
LIST_EXAMPLES = examples(("See which voices there are", "moss-tts voices list"))
REMOVE_EXAMPLES = examples(("Remove a voice", "moss-tts voices remove alice"))


@app.command(epilog=ADD_EXAMPLES)
def add(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Give the voice this name: 1 to 64 characters of a-z, 0-9, - and _.")
    ],
    recording: Annotated[
        Path,
        typer.Argument(metavar="FILE", **EXISTING, help="Use this recording: 5 to 30 seconds of the voice alone."),
    ],
    text: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", help="Give the words that the recording says. Dialogues and continuations need them."
        ),
    ] = None,
    description: Annotated[str | None, typer.Option(metavar="TEXT", help="Describe the voice for people.")] = None,
    adapter: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=WEIGHT",
            help="Let the voice bring this LoRA adapter, which --lora NAME=DIR loads. Repeat the option for more.",
        ),
    ] = None,
    lexicon: Annotated[
        Path | None,
        typer.Option(metavar="FILE", **EXISTING, help="Let the voice speak words as this lexicon says."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="DIR|HUB_ID",
            help="Encode the recording for this model now, not when the voice is first used.",
        ),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace a voice that has this name.")] = False,
    voices: Annotated[Path | None, typer.Option(**VOICES)] = None,
) -> None:
    """Register a recording as a voice, for instance one that VoiceGenerator made."""
    from moss_tts.cli.terminal import Terminal
    from moss_tts.voices import Voices, check_name

    check_name(name)
    weights = read_adapter_weights(adapter or [])
    loaded = None
    if model is not None:
        from moss_tts.cli.speak_text import Source

        loaded = Source(model).load_speech()
    added = Voices(voices).add(
        name,
        recording,
        transcript=text,
        description=description,
        adapters=weights,
        lexicon=lexicon,
        model=loaded,
        replace=replace,
    )
    Terminal().say(f"{added.name}: {added.record.seconds:.1f} s, {added.directory}")


@app.command("list", epilog=LIST_EXAMPLES)
def list_voices(
    voices: Annotated[Path | None, typer.Option(**VOICES)] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the voices as JSON.")] = False,
) -> None:
    """List the registered voices."""
    from dataclasses import asdict
    from json import dumps

    from moss_tts.cli.terminal import Terminal
    from moss_tts.voices import BrokenVoice, Voices

    registered = Voices(voices)
    listed = list(registered.listed())
    known = [voice for voice in listed if not isinstance(voice, BrokenVoice)]
    for voice in listed:
        if isinstance(voice, BrokenVoice):
            Terminal().warn(voice.why)
    if json:
        print(dumps([asdict(voice.record) for voice in known], indent=2))
        return
    if not listed:
        # Standard output is for voices: programs read it.
        Terminal().hint(
            f"There are no voices in {registered.directory} yet. Add one: moss-tts voices add alice alice.wav"
        )
    for voice in known:
        about = voice.record.description or voice.record.transcript or ""
        adapters = ", ".join(f"{name} {weight:g}" for name, weight in (voice.record.adapters or {}).items())
        with_adapters = f"[adapters: {adapters}] " if adapters else ""
        print(f"{voice.name:<20} {voice.record.seconds:6.1f} s  {with_adapters}{about[:70]}".rstrip())


@app.command(epilog=REMOVE_EXAMPLES)
def remove(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Remove this voice.")],
    voices: Annotated[Path | None, typer.Option(**VOICES)] = None,
) -> None:
    """Remove a voice, and delete its files."""
    from moss_tts.cli.terminal import Terminal
    from moss_tts.voices import Voices

    Voices(voices).remove(name)
    Terminal().say(f"The voice {name} is removed.")
