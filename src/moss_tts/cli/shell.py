"""Faults of shells and terminals: arguments that were split, letters that a terminal does not have."""

from __future__ import annotations

import io
import re
import shlex
from collections.abc import Collection, Sequence
from typing import Any, TextIO, cast

import typer
from typer.core import TyperCommand

# click's base of usage errors, wherever this release of typer keeps its click.
UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[1])

TEXT = "TEXT"
EXTRA = re.compile(r"unexpected extra argument\S* \((.*)\)", re.DOTALL)


def lose_only_letters(stream: TextIO | None) -> None:
    """Let a stream write `?` for each letter that its code page lacks, instead of raising an error."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="replace")


class TextCommand(TyperCommand):
    """A command that takes a text. An argument that begins with - and has a space is a text, and never an option.

    Short options would otherwise take such texts apart: "-only joking" would be -o with the value "nly joking".
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Arguments as click parses them.

        Raises:
            UsageError: an argument among the options may be a text.
        """
        with_value = {flag for parameter in self.params for flag in parameter.opts if not _is_switch(parameter)}
        rest = iter(args)
        for argument in rest:
            if argument == "--":
                break
            if argument in with_value:
                next(rest, None)
            elif argument.startswith("-") and re.search(r"\s", argument.partition("=")[0]):
                raise UsageError(_taken_for_an_option(self.name, argument, with_value), ctx=ctx)
        return cast("list[str]", super().parse_args(ctx, args))


def _is_switch(parameter: Any) -> bool:
    return parameter.param_type_name != "option" or parameter.is_flag


def _taken_for_an_option(command: str | None, argument: str, with_value: Collection[str]) -> str:
    option, value = argument[:2], argument[2:]
    split = f". If you mean {option}, put a space after it: {option} {shlex.quote(value)}"
    return (
        f"{argument!r} could be an option or a text. {_behind_dashes(command, argument)}"
        f"{split if option in with_value else ''}"
    )


def _behind_dashes(command: str | None, text: str) -> str:
    return f"Put a text that begins with - after all options and after --: moss-tts {command} -- {shlex.quote(text)}"


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
    return f". {_behind_dashes(command.name, taken)}"
