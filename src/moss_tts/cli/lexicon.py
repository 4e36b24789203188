"""The command `moss-tts lexicon check`: what a lexicon would change in a text. What is slow to import waits inside."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from moss_tts.cli.arguments import read_text
from moss_tts.cli.options import EXISTING, HELP, examples

CHECK_EXAMPLES = examples(
    ("See what a lexicon changes", 'moss-tts lexicon check names.txt "Ada Lovelace made a GIF."'),
    ("Read the text from a pipe", "cat chapter.txt | moss-tts lexicon check names.txt"),
    notes=("The last line is the text as a model is given it. Speak with the lexicon: moss-tts say --help.",),
)

app = typer.Typer(
    help="Look at lexicons: files that say how words are spoken.",
    epilog=examples(("See what a lexicon changes", 'moss-tts lexicon check names.txt "Ada made a GIF."')),
    context_settings={"help_option_names": HELP},
    no_args_is_help=True,
)


@app.command(epilog=CHECK_EXAMPLES)
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", **EXISTING, help="Use this lexicon.")],
    text: Annotated[
        str | None,
        typer.Argument(
            metavar="TEXT", help="Change this text. Without it, or with -, it comes from a pipe.", show_default=False
        ),
    ] = None,
    language: Annotated[
        str | None, typer.Option(metavar="NAME", help='Use the lines for this language too, such as "French".')
    ] = None,
) -> None:
    """Show the words of a text that a lexicon changes, and the text that a model is given. Nothing is spoken."""
    from moss_tts.cli.terminal import Terminal
    from moss_tts.text.lexicon import Lexicon

    lexicon = Lexicon.read(file)
    respelt = lexicon.respeller(language)(read_text(text, None, needed=True) or "")
    terminal = Terminal()
    entries = Counter((entry.written, entry.language) for entry in lexicon.entries)
    for (written, _), times in entries.items():
        if times > 1:
            terminal.warn(f"{written!r} is in the lexicon {times} times; its last form holds")
    for change in respelt.changes:
        terminal.say(f"{' '.join(change.written.split())} = {respelt.text[change.start : change.end]}")
    count = len(respelt.changes)
    terminal.say(f"{'1 word' if count == 1 else f'{count} words'} changed, {len(lexicon.entries)} in the lexicon")
    terminal.say(respelt.text)
