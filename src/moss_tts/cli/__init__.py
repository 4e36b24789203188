"""The command line `moss-tts`: commands to speak, to convert, and to manage models and voices.

A module for each command declares its options; request.py decides what they mean. Everything slow to import is
imported inside the commands, so that --help answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Annotated, NoReturn

import typer
from typer.core import TyperCommand

from moss_tts._version import __version__
from moss_tts.cli import (
    batch,
    bench,
    check_device,
    checkpoints,
    convert,
    dub,
    follow,
    generate,
    lexicon,
    models,
    read,
    say,
    serve,
    sound,
    voices,
)
from moss_tts.cli.messages import messages_shown
from moss_tts.cli.options import HELP
from moss_tts.cli.shell import TextCommand, UsageError, lose_only_letters, text_advice
from moss_tts.device.backend import explained_backend
from moss_tts.device.memory import use_one_heap
from moss_tts.errors import MossTTSError, RequestError
from moss_tts.text.harmless import without_controls

app = typer.Typer(
    name="moss-tts",
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": HELP},
)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    if arguments is None:
        # This process is the command's alone. Where PyTorch is installed, transformers would import it, for seconds.
        sys.modules.setdefault("torch", None)  # type: ignore[arg-type]
    use_one_heap()
    lose_only_letters(sys.stdout)
    given = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if not set(HELP).isdisjoint(given):
        from moss_tts.cli.help import keep_names_whole

        keep_names_whole()
    try:
        with messages_shown(), explained_backend():
            code = app(given, prog_name="moss-tts", standalone_mode=False)
    except UsageError as error:
        command = error.ctx.command_path if error.ctx else "moss-tts"
        message = error.format_message().rstrip(".") + text_advice(error, given)
        _fail(f"{message}{' See' if message.endswith('?') else '; see'} {command} --help.", 2)
    except (MossTTSError, OSError) as error:
        _fail(str(error), 2 if isinstance(error, RequestError) else 1)
    # A command that ends without an exit code is done.
    raise SystemExit(code or 0)


def _fail(message: str, code: int) -> NoReturn:
    print(f"moss-tts: {without_controls(message)}", file=sys.stderr)
    raise SystemExit(code)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"moss-tts {__version__}")
        raise typer.Exit


ABOUT = (
    "Text to speech with the MOSS-TTS models, on this machine.",
    """[bold]First steps[/bold]
  moss-tts say "Hello there." --play     Speak in the packaged voice.
  moss-tts read book.epub                Read a book aloud.
  moss-tts serve                         Open a page for people, and an API.""",
    """[bold]With a checkpoint of MOSS-TTS[/bold]
  moss-tts inspect DIR                   Ask if it runs on this machine.
  moss-tts generate "Hello." -m DIR      Speak in any voice.""",
    "A checkpoint is a directory with config.json, weights, tokenizer and codec, or the id of one on the Hugging "
    "Face hub. Nothing is downloaded unless you give a hub id.",
    "Each command has its own help with examples: moss-tts say --help.",
    "The exit code is 0 after success, 1 after a failure, 2 after wrong usage and 130 after Ctrl-C.",
)


@app.callback(help="\n\n".join(ABOUT))
def moss_tts(
    version: Annotated[  # its callback has done the work already
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options that come before a command."""


def _register(command: Callable[..., None], examples: str, panel: str, kind: type[TyperCommand] | None = None) -> None:
    app.command(epilog=examples, rich_help_panel=panel, cls=kind)(command)


SPEAKING, CHECKPOINTS = "To speak", "Checkpoints"
_register(say.say, say.EXAMPLES, SPEAKING, TextCommand)
_register(follow.follow, follow.EXAMPLES, SPEAKING)
_register(read.read, read.EXAMPLES, SPEAKING)
_register(serve.serve, serve.EXAMPLES, SPEAKING)
_register(generate.generate, generate.EXAMPLES, SPEAKING, TextCommand)
_register(batch.batch, batch.EXAMPLES, SPEAKING)
_register(dub.dub, dub.EXAMPLES, SPEAKING)
_register(sound.sound, sound.EXAMPLES, SPEAKING, TextCommand)
app.add_typer(voices.app, name="voices", rich_help_panel=SPEAKING)
app.add_typer(lexicon.app, name="lexicon", rich_help_panel=SPEAKING)
_register(models.download, models.EXAMPLES, CHECKPOINTS)
app.add_typer(models.app, name="models", rich_help_panel=CHECKPOINTS)
_register(checkpoints.inspect, checkpoints.INSPECT_EXAMPLES, CHECKPOINTS)
_register(convert.convert, convert.EXAMPLES, CHECKPOINTS)
_register(bench.bench, bench.EXAMPLES, CHECKPOINTS)
_register(check_device.check_device, check_device.EXAMPLES, CHECKPOINTS)
_register(checkpoints.demo_checkpoint, checkpoints.DEMO_EXAMPLES, CHECKPOINTS)
