"""The C library's memory, where it is glibc: MLX's buffers on a CPU come from its malloc."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from functools import cache

# mallopt's numbers in glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
ONE_HEAP = {M_ARENA_MAX: 1, M_MMAP_THRESHOLD: 2**30, M_TRIM_THRESHOLD: 2**31 - 1}


def use_one_heap() -> None:
    """Have all that is freed kept in one place until `trim`. For processes that are ours alone.

    By itself glibc maps pages anew for large blocks, frame after frame, and has one heap per thread, few of which
    are ever given back whole. Whatever the environment sets of malloc stays.
    """
    if not any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ):
        for option, value in ONE_HEAP.items():
            _from_libc("mallopt")(option, value)


def trim() -> None:
    """Return what malloc holds back to the system.

    It keeps what was freed between blocks that are in use: nothing leaks, but over an hour of segments of uneven
    length a process grows by a fifth.
    """
    _from_libc("malloc_trim")(0)


@cache
def _from_libc(name: str) -> Callable[..., object]:
    """A function of glibc; where the C library is another one, nothing."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    return getattr(libc, name, lambda *_: None)
