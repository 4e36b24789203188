"""Keep C libraries from writing to the terminal.

libmpg123, inside of libsndfile, tells stderr of every flaw of an mp3 file and has no switch for it that libsndfile
would pass on. So C's variables `stdout` and `stderr` name another stream meanwhile. The file descriptors stay what they
are: all that Python writes, from any thread, comes out.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

# Only where the variables are known to be such that may be written to: musl's are constants.
_NAMES = {"darwin": ("__stdoutp", "__stderrp")}
if platform.libc_ver()[0] == "glibc":
    _NAMES["linux"] = ("stdout", "stderr")
_lock = threading.Lock()
# Threads that are inside, and C's own streams, which the last one of them puts back.
_inside = 0
_own: list[int | None] = []


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Let C code write its messages to nowhere. Threads may overlap."""
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _inside, _own
    with _lock:
        if not _inside:
            _own = [variable.value for variable in _variables()]
            _point([_nowhere()] * len(_own))
        _inside += 1


def _leave() -> None:
    global _inside
    with _lock:
        _inside -= 1
        if not _inside:
            _point(_own)


def _point(streams: list[int | None]) -> None:
    for variable, stream in zip(_variables(), streams, strict=True):
        variable.value = stream


@cache
def _variables() -> list[ctypes.c_void_p]:
    library = ctypes.CDLL(None) if sys.platform in _NAMES else None
    return [ctypes.c_void_p.in_dll(library, name) for name in _NAMES.get(sys.platform, ())] if library else []


@cache
def _nowhere() -> int | None:
    """A C stream, never closed: another thread may still be writing to it."""
    fopen = ctypes.CDLL(None).fopen
    fopen.restype, fopen.argtypes = ctypes.c_void_p, [ctypes.c_char_p, ctypes.c_char_p]
    stream: int | None = fopen(os.devnull.encode(), b"w")
    return stream
