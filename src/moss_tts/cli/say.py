"""The command `moss-tts say`. What is slow to import waits inside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moss_tts.cli.arguments import read_text
from moss_tts.cli.options import EXISTING, Play, Quiet

EXAMPLES = (
    "[bold]Examples[/bold]",
    'Into speech.wav:  moss-tts say "Hello there."',
    'Out loud:  moss-tts say "Hello there." --play',
    "A file:  moss-tts say --file letter.txt --output letter.mp3",
)


def say(
    text: Annotated[
        str | None,
        typer.Argument(metavar="TEXT", help="What to say; - is standard input, and so is a pipe.", show_default=False),
    ] = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="Read the text from this file.", **EXISTING)] = None,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE", help=".wav, .flac, .mp3 or .ogg; - is raw PCM to a pipe."),
    ] = Path("speech.wav"),
    play: Play = False,
    seed: Annotated[
        int | None, typer.Option(help="The same seed gives the same audio; random by default.", show_default=False)
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Say a text in the voice that comes with this package: English, offline, nothing to download.

    It is small and clear rather than beautiful; for other voices and languages, see moss-tts generate.
    """
    from moss_tts.checkpoints.packaged import packaged_voice
    from moss_tts.cli.speak_live import is_live, speak_live
    from moss_tts.cli.speak_text import Source, request_options, speak_to_file
    from moss_tts.cli.terminal import Terminal

    source = Source(str(packaged_voice()))
    options = request_options({"text": read_text(text, file, piped=True), "seed": seed})
    if is_live(output, None, play):
        raise typer.Exit(speak_live(options, output, play, source, quiet))
    raise typer.Exit(speak_to_file({**options, "stream": True}, output, source, Terminal(quiet)))
