"""Memory: how much MLX may keep for reuse, and how unused memory returns to the system.

MLX's buffers on a CPU come from the C library's malloc. If that is glibc, it is told what to keep, too. Commands do
this before they import anything slow, so this module imports MLX only inside functions.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

# Freed buffers that are kept for the next frame. A frame needs a few MB, the prefill of a long prompt some 100 MB
# once, and without a limit MLX would keep as much as it ever used.
REQUEST_CACHE = 2**28


# Limits that are open now, and mlx's own from before the first of them: it has one limit for the whole process.
_open: list[int] = []
_before = 0


@contextmanager
def cache_limit(most: int = REQUEST_CACHE) -> Iterator[None]:
    """Keep at most this many bytes of freed buffers while this is open, and none after it.

    Several limits may be open, and end in any order. The smallest of them applies, or mlx's own if it is smaller.
    """
    import mlx.core as mx

    global _before
    before = mx.set_cache_limit(most)
    if not _open:
        _before = before
    _open.append(most)
    mx.set_cache_limit(min([_before, *_open]))
    try:
        yield
    finally:
        _open.remove(most)
        mx.set_cache_limit(min([_before, *_open]))
        mx.clear_cache()


def release_memory() -> None:
    """Return MLX's cached buffers, and what the C library holds back, to the system."""
    import mlx.core as mx

    mx.clear_cache()
    trim()


# --------------------------------------------------------------------------------------------- the C library

# mallopt's numbers in glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
ONE_HEAP = {M_ARENA_MAX: 1, M_MMAP_THRESHOLD: 2**30, M_TRIM_THRESHOLD: 2**31 - 1}


def use_one_heap() -> None:
    """Keep all freed memory in one heap until `trim`. Only for processes that belong to this program alone.

    By default glibc maps new pages for large blocks, frame after frame, and has one heap per thread, which it rarely
    returns completely. Settings of malloc in the environment stay.
    """
    if not any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ):
        for option, value in ONE_HEAP.items():
            _from_libc("mallopt")(option, value)


def trim() -> None:
    """Return what malloc holds back to the system.

    malloc keeps free memory between used blocks. Nothing leaks, but without this a process grows by a fifth in an
    hour of segments of different lengths.
    """
    _from_libc("malloc_trim")(0)


@cache
def _from_libc(name: str) -> Callable[..., object]:
    """A function of glibc; None if the C library is another one."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    return getattr(libc, name, lambda *_: None)


def size(count: float) -> str:
    """Bytes for people: GB, or MB below 0.1 GB, so that nothing that is there is shown as 0.0."""
    if count >= 1e8:
        return f"{count / 1e9:.2f} GB"
    return f"{count / 1e6:.3g} MB" if count >= 1000 else f"{count:.0f} B"
