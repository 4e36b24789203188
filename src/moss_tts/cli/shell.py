"""Where shells and terminals come in between: arguments that they take apart, letters that they do not have."""

from __future__ import annotations

import io
import re
import shlex
from collections.abc import Sequence
from typing import Any, TextIO

TEXT = "TEXT"
EXTRA = re.compile(r"unexpected extra argument\S* \((.*)\)", re.DOTALL)


def lose_only_letters(stream: TextIO | None) -> None:
    """Have a stream write `?` for each letter that its code page lacks, where it would raise an error."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="replace")


def text_advice(error: Any, given: Sequence[str]) -> str:
    """What to do about a text that was taken for options or for several arguments; nothing after other mistakes.

    Args:
        error: click's usage error.
        given: the arguments of the program.
    """
    command: Any = getattr(error.ctx, "command", None)
    text = next((parameter for parameter in getattr(command, "params", ()) if parameter.metavar == TEXT), None)
    if command is None or text is None:
        return ""
    if extra := EXTRA.search(error.format_message()):
        whole = shlex.quote(f"{error.ctx.params.get(text.name)} {extra[1]}")
        return f". A text is one argument: put it in quotes, as in moss-tts {command.name} {whole}"
    # Only unknown options come with a list of those that were meant.
    if getattr(error, "possibilities", True):
        return ""
    letters = error.option_name.lstrip("-")
    taken = next((argument for argument in given if argument[:1] == "-" and letters in argument), error.option_name)
    return (
        f". A text that begins with - goes behind -- and all options: moss-tts {command.name} -- {shlex.quote(taken)}"
    )
