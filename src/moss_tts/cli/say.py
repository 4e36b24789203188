"""The command `moss-tts say`. What is slow to import waits inside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moss_tts.cli.arguments import read_lora, read_text
from moss_tts.cli.options import (
    EXISTING,
    LexiconFiles,
    Lora,
    Mark,
    Play,
    Quiet,
    RecogniserModel,
    Speed,
    Subtitles,
    Words,
    examples,
    panel,
)

SPEAK, OUTPUT = panel("What to speak"), panel("Output")
# What advice may speak of.
FLAGS = ("seed",)
EXAMPLES = examples(
    ("Say a sentence into speech.wav", 'moss-tts say "Hello there."'),
    ("Say it out loud as well", 'moss-tts say "Hello there." --play'),
    ("Read a file into another", "moss-tts say --file letter.txt --output letter.mp3"),
    notes=(
        "Ctrl-C stops and keeps what has been said so far.",
        "A text that begins with - must come after all options and after --.",
    ),
)


def say(
    text: Annotated[
        str | None,
        typer.Argument(
            metavar="TEXT",
            help="Say this text; put it in quotes. Without it, or with -, the text comes from a pipe.",
            show_default=False,
        ),
    ] = None,
    file: Annotated[
        Path | None, SPEAK("--file", "-f", metavar="FILE", help="Read the text from this file.", **EXISTING)
    ] = None,
    output: Annotated[
        Path,
        OUTPUT(
            "--output",
            "-o",
            metavar="FILE",
            help="Write this .wav, .flac, .mp3 or .ogg file, and replace it if it exists. With -, write raw PCM into a "
            "pipe.",
        ),
    ] = Path("speech.wav"),
    speed: Speed = None,
    subtitles: Subtitles = None,
    words: Words = False,
    recogniser: RecogniserModel = None,
    mark: Mark = True,
    play: Play = False,
    seed: Annotated[
        int | None,
        OUTPUT(
            metavar="N",
            help="Repeat a run: the same seed gives the same audio. The default is random.",
            show_default=False,
        ),
    ] = None,
    lexicon: LexiconFiles = None,
    lora: Lora = None,
    quiet: Quiet = False,
) -> None:
    """Say a text in the voice that comes with this package: English, offline, nothing to download.

    It is small and clear rather than beautiful; for other voices and languages, see moss-tts generate --help.
    """
    from moss_tts.checkpoints.packaged import packaged_voice
    from moss_tts.cli.speak_live import is_live, speak_live
    from moss_tts.cli.speak_text import Source, request_options, speak_to_file
    from moss_tts.cli.subtitles import WantedSubtitles
    from moss_tts.cli.terminal import Terminal

    adapters, weights = read_lora(lora or [])
    source = Source(str(packaged_voice()), adapters=adapters)
    given = {
        "text": read_text(text, file, needed=True),
        "seed": seed,
        "speed": speed,
        "lexicon": lexicon,
        "adapters": weights,
    }
    options = request_options(given)
    wanted = WantedSubtitles(subtitles, words, recogniser)
    if is_live(output, None, play):
        raise typer.Exit(speak_live(options, output, play, source, FLAGS, quiet, subtitles=wanted, mark=mark))
    options |= {"stream": True}
    raise typer.Exit(speak_to_file(options, output, source, Terminal(quiet), FLAGS, wanted, mark))
