"""A program of its own: it renders the chat template on its standard input, as transformers does.

chat_template.py starts it, confined. Nothing of this package is imported, nor transformers, which takes seconds.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment


class GenerationBlock(Extension):
    """{% generation %} marks text that a model is trained on; here only the text in it counts."""

    tags = {"generation"}  # noqa: RUF012  # as the base class has it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The statements in the block."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _raise_exception(message: object) -> NoReturn:
    raise TemplateError(str(message))


def _as_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationBlock, loopcontrols]
    )
    environment.filters["tojson"] = _as_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment


def main() -> None:
    """Render the template with each set of variables, and write [text, None] or [None, error] for each."""
    asked = json.loads(sys.stdin.buffer.read())
    sys.stderr.write(json.dumps({"renderings": [_rendering(asked["template"], one) for one in asked["variables"]]}))


def _rendering(template: str, variables: dict[str, Any]) -> tuple[str | None, str | None]:
    try:
        return _environment().from_string(template).render(**variables), None
    except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as error:
        return None, f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    main()
