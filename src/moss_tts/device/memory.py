"""Memory: how much MLX may keep for reuse, and giving back what is no longer used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import mlx.core as mx

from moss_tts.device.malloc import trim

# Freed buffers that are kept for the next frame. A frame needs a few MB, the prefill of a long prompt some 100 MB
# once, and without a limit MLX would keep as much as it ever used.
REQUEST_CACHE = 2**28


# Limits that are open now, and mlx's own from before the first of them: it has one limit for the whole process.
_open: list[int] = []
_before = 0


@contextmanager
def cache_limit(most: int = REQUEST_CACHE) -> Iterator[None]:
    """Keep at most so many bytes of freed buffers while this is open, and none after it.

    Several may be open, and end in any order; the least of them holds, or mlx's own where that is less, as on a CPU.
    """
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
    mx.clear_cache()
    trim()
