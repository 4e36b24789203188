"""The command line `moss-tts`: from say to convert, and what looks after models and voices.

A module for each command declares its options; what they mean is request.py's business. Everything slow to import is
imported inside the commands, so that --help answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Annotated, NoReturn, cast

import typer

from moss_tts._version import __version__
from moss_tts.cli import bench, checkpoints, convert, generate, models, read, say, serve, voices
from moss_tts.cli.options import HELP
from moss_tts.cli.shell import lose_only_letters, text_advice
from moss_tts.device.memory import use_one_heap
from moss_tts.errors import MossTTSError, RequestError

# click's base of usage errors, wherever this release of typer keeps its click.
UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[1])

app = typer.Typer(
    name="moss-tts",
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": HELP},
)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    use_one_heap()
    lose_only_letters(sys.stdout)
    given = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if not set(HELP).isdisjoint(given):
        from moss_tts.cli.help import keep_names_whole

        keep_names_whole()
    try:
        code = app(given, prog_name="moss-tts", standalone_mode=False)
    except UsageError as error:
        _fail(f"{error.format_message().rstrip('.')}{text_advice(error, given)}; see moss-tts --help.", 2)
    except (MossTTSError, OSError) as error:
        _fail(str(error), 2 if isinstance(error, RequestError) else 1)
    # A command that ends without an exit code is done.
    raise SystemExit(code or 0)


def _fail(message: str, code: int) -> NoReturn:
    print(f"moss-tts: {message}", file=sys.stderr)
    raise SystemExit(code)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"moss-tts {__version__}")
        raise typer.Exit


ABOUT = (
    "Text to speech with the MOSS-TTS models, on this machine.",
    "A checkpoint is a directory with config.json, weights, tokenizer and codec, or the id of one on the Hugging "
    "Face hub. Nothing is downloaded unless you give a hub id.",
    "[bold]First steps[/bold]",
    "Does this checkpoint run here?  moss-tts inspect DIR",
    'Speak:  moss-tts generate "Hello there." --model DIR --output hello.wav',
    "Read a book:  moss-tts read book.epub --model DIR --output book.m4b",
    "Serve other programs, and a page for people:  moss-tts serve --model DIR",
    "No checkpoint at hand? Make a tiny one that speaks noise:  moss-tts demo-checkpoint demo",
    "[bold]Exit codes[/bold]  0 done, 1 failed, 2 wrong usage, 130 interrupted",
)


@app.callback(help="\n\n".join(ABOUT))
def moss_tts(
    version: Annotated[  # its callback has acted already
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options that come before a command."""


def _register(command: Callable[..., None], examples: Sequence[str] = ()) -> None:
    app.command(epilog="\n\n".join(examples))(command)


_register(generate.generate, generate.EXAMPLES)
_register(say.say, say.EXAMPLES)
_register(read.read, read.EXAMPLES)
_register(serve.serve, serve.EXAMPLES)
app.add_typer(voices.app, name="voices")
_register(models.download, models.EXAMPLES)
app.add_typer(models.app, name="models")
_register(convert.convert, convert.EXAMPLES)
_register(bench.bench, bench.EXAMPLES)
_register(checkpoints.inspect)
_register(checkpoints.demo_checkpoint)
