"""The command `moss-tts sound`. What is slow to import waits inside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moss_tts.cli.arguments import read_text
from moss_tts.cli.options import (
    EXISTING,
    Dtype,
    Mark,
    MaxMemory,
    Quiet,
    Revision,
    Verbose,
    examples,
    panel,
)

MODEL, SOUND, OUTPUT = panel("Model"), panel("The sound"), panel("Output")
EXAMPLES = examples(
    ("Make a sound of ten seconds", 'moss-tts sound "Rain on a tin roof" --model DIR -o rain.wav'),
    ("Try it in a quarter of the time", 'moss-tts sound "A door creaks" --model DIR --seconds 3 --steps 25'),
    ("Keep something out of it", 'moss-tts sound "A busy street" --model DIR --negative-prompt "speech, music"'),
    notes=("Ctrl-C stops after the current step; nothing is written then.",),
)


def sound(
    model: Annotated[
        str, MODEL("--model", "-m", metavar="DIR|HUB_ID", help="Use this sound model, such as MOSS-SoundEffect v2.")
    ],
    text: Annotated[
        str | None,
        typer.Argument(
            metavar="TEXT",
            help="Make this sound: a description in English or Chinese, in quotes. Without it, or with -, the "
            "description comes from a pipe.",
            show_default=False,
        ),
    ] = None,
    dtype: Dtype = None,
    revision: Revision = None,
    max_memory: MaxMemory = None,
    file: Annotated[
        Path | None, SOUND("--file", "-f", metavar="FILE", help="Read the description from this file.", **EXISTING)
    ] = None,
    seconds: Annotated[
        float | None, SOUND(metavar="SECONDS", help="Make the sound this long, 0.1 to 30. The default is 10.")
    ] = None,
    duration_suffix: Annotated[
        bool | None,
        SOUND(
            help="Tell the model the length. Otherwise the model decides when the sound is over, and the rest of the "
            "time is silence or goes on.",
            show_default=False,
        ),
    ] = None,
    negative_prompt: Annotated[str | None, SOUND(metavar="TEXT", help="Keep away from this.")] = None,
    steps: Annotated[
        int | None, SOUND(metavar="N", help="Take N steps from noise to sound, 1 to 1000. The default is 100.")
    ] = None,
    guidance: Annotated[
        float | None,
        SOUND(metavar="X", help="Follow the description this much. The default is 4; 1 takes half the time."),
    ] = None,
    shift: Annotated[
        float | None, SOUND(metavar="X", help="Spend more of the steps on the beginning. The default is 5.")
    ] = None,
    seed: Annotated[
        int | None, SOUND(metavar="N", help="Repeat a run: the same seed gives the same sound. The default is random.")
    ] = None,
    output: Annotated[
        Path,
        OUTPUT(
            "--output", "-o", metavar="FILE", help="Write this .wav, .flac, .mp3 or .ogg file; replace it if it exists."
        ),
    ] = Path("sound.wav"),
    play: Annotated[bool, OUTPUT("--play", help="Play the sound once it is finished.")] = False,
    mark: Mark = True,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Make a sound from a description, by diffusion (MOSS-SoundEffect v2)."""
    given = dict(locals())
    from moss_tts.cli.make_sound import make_sound
    from moss_tts.cli.speak_text import Destination, Source
    from moss_tts.cli.terminal import Terminal

    given["text"] = read_text(text, file, needed=True)
    del given["verbose"]
    to, source = Destination(output, play, mark=mark), Source.of(given, {})
    raise typer.Exit(make_sound(given, to, source, Terminal(quiet, verbose=verbose)))
