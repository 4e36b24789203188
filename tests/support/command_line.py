"""A run of moss-tts in the test's own process."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from moss_tts import cli


@dataclass(frozen=True)
class Ended:
    """How a run ended."""

    code: int
    out: str
    err: str


Run = Callable[..., Ended]


def runner(capsys: Any) -> Run:
    """Runs moss-tts with arguments of any kind."""

    def run(*arguments: object) -> Ended:
        with pytest.raises(SystemExit) as exit_:
            cli.main([str(argument) for argument in arguments])
        streams = capsys.readouterr()
        assert "Traceback" not in streams.err
        return Ended(int(exit_.value.code), streams.out, streams.err)

    return run


def pipe(monkeypatch: Any, text: str | bytes) -> None:
    """Put a text on standard input."""
    raw = text if isinstance(text, bytes) else text.encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))
