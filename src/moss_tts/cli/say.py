"""The command `moss-tts say`. What is slow to import waits inside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moss_tts.cli.arguments import read_lora, read_text
from moss_tts.cli.options import (
    AudioFile,
    LexiconFiles,
    Lora,
    Mark,
    Play,
    Quiet,
    RecogniserModel,
    Seed,
    Speed,
    Subtitles,
    TextFile,
    Words,
    examples,
)

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
    lora: Lora = None,
    file: TextFile = None,
    lexicon: LexiconFiles = None,
    seed: Seed = None,
    output: AudioFile = Path("speech.wav"),
    speed: Speed = None,
    subtitles: Subtitles = None,
    words: Words = False,
    recogniser: RecogniserModel = None,
    mark: Mark = True,
    play: Play = False,
    quiet: Quiet = False,
) -> None:
    """Say a text in the voice that comes with this package: English, offline, nothing to download.

    It is small and clear rather than beautiful; for other voices and languages, see moss-tts generate --help.
    """
    given = dict(locals())
    from moss_tts.cli.speak_live import is_live, speak_live, terminal_beside
    from moss_tts.cli.speak_text import Destination, Source, request_options, speak_to_file
    from moss_tts.cli.subtitles import WantedSubtitles

    adapters, given["adapters"] = read_lora(lora or [])
    given["text"] = read_text(text, file, needed=True)
    source, options = Source.of(given, adapters), request_options(given) | {"stream": True}
    to = Destination(output, play, WantedSubtitles(subtitles, words, recogniser), mark)
    speak = speak_live if is_live(output, None, play) else speak_to_file
    raise typer.Exit(speak(options, to, source, terminal_beside(output, quiet), FLAGS))
