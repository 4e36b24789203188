"""How the process of a server ends: with an exit code, and in bounded time, whatever still runs.

An interpreter that is torn down while another of its threads computes is aborted (SIGABRT). So a process with work that
is not waited for ends without being torn down.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from signal import SIGINT
from typing import NoReturn

from moss_tts.server.models import Models

INTERRUPTED = 128 + SIGINT
# For the device to end its row, or the recording that it is at, once nobody waits for it any more.
SECONDS_TO_END = 5.0
SHOW_CURSOR = "\x1b[?25h"


def leave(code: int) -> NoReturn:
    """End the process as it stands."""
    with suppress(OSError, ValueError):
        if sys.stderr.isatty():  # the spinner of a model that is loaded has hidden it
            sys.stderr.write(SHOW_CURSOR)
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


class Deadline:
    """When the process is left, if it has not ended by itself."""

    def __init__(self) -> None:
        self._timer: threading.Timer | None = None

    def set(self, seconds: float, code: int) -> None:
        """Leave after this many seconds, with this exit code."""
        self._timer = threading.Timer(seconds, leave, [code])
        self._timer.daemon = True
        self._timer.start()

    def cancel(self) -> None:
        """Let it end by itself."""
        if self._timer is not None:
            self._timer.cancel()


@contextmanager
def stopped(models: Models) -> Iterator[None]:
    """Stop the models at the end, whatever happened; leave if one goes on, or without asking after Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt:
        leave(INTERRUPTED)
    finally:
        if not models.stop(SECONDS_TO_END):
            leave(1)
