"""The command `moss-tts say`; cli.py registers it. What is slow to import waits inside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moss_tts.arguments import read_text

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
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="Read the text from this file.", exists=True, dir_okay=False)
    ] = None,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE", help=".wav, .flac, .mp3 or .ogg; - is raw PCM to a pipe."),
    ] = Path("speech.wav"),
    play: Annotated[
        bool, typer.Option("--play", help="Play it while it is made, with ffplay, aplay or afplay.")
    ] = False,
    seed: Annotated[
        int | None, typer.Option(help="The same seed gives the same audio; random by default.", show_default=False)
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and errors.")] = False,
) -> None:
    """Say a text in the voice that comes with this package: English, offline, nothing to download.

    It is small and clear rather than beautiful; for other voices and languages, see moss-tts generate.
    """
    from moss_tts.live_speaking import is_live, speak_live
    from moss_tts.packaged import packaged_voice, segmented
    from moss_tts.speaking import Source, request_options, speak_to_file
    from moss_tts.terminal import Terminal

    source = Source(str(packaged_voice()))
    given = read_text(text, file, piped=True)
    options = request_options({"text": given, "seed": seed, **segmented(given)})
    if is_live(output, None, play):
        raise typer.Exit(speak_live(options, output, play, source, quiet))
    raise typer.Exit(speak_to_file({**options, "stream": True}, output, source, Terminal(quiet)))
