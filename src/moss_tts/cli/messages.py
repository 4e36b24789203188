"""Warnings and log lines of the package while a command runs, all in one form.

Both go to standard error as Terminal.warn writes them, even when a command is quiet. Python's own warnings and the log
of other libraries are left as they are.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from moss_tts.errors import MossTTSWarning

LOG = "moss_tts"


class _Handler(logging.Handler):
    """Shows records as this program's messages."""

    def emit(self, record: logging.LogRecord) -> None:
        """Show one record."""
        _show(self.format(record), record.levelname.lower())


def _show(text: str, level: str = "warning") -> None:
    from moss_tts.cli.terminal import Terminal

    Terminal().warn(text, level)


@contextmanager
def messages_shown() -> Iterator[None]:
    """Show warnings and log lines of the package until this ends."""
    log, handler = logging.getLogger(LOG), _Handler(logging.WARNING)
    passed_on = log.propagate
    log.addHandler(handler)
    log.propagate = False
    with warnings.catch_warnings():
        warnings.simplefilter("always", MossTTSWarning)
        others = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: object) -> None:
            if issubclass(category, MossTTSWarning):
                _show(str(message))
            else:
                others(message, category, *place)  # type: ignore[arg-type]

        warnings.showwarning = show  # type: ignore[assignment]
        try:
            yield
        finally:
            log.removeHandler(handler)
            log.propagate = passed_on
