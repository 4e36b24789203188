"""GELU and attention of many rows on all cores of Linux CPUs, in C (many_rows.c); elsewhere MLX's.

MLX computes them on one core, while OpenBLAS has all cores for the products beside them.
"""

from __future__ import annotations

import ctypes

import mlx.core as mx
import numpy as np

from moss_tts.device import compiled
from moss_tts.device.blas import cores_in_use
from moss_tts.device.compiled_decoder import in_memory
from moss_tts.device.kernels import attend, gelu, on_cpu


def gelu_of_many(x: mx.array) -> mx.array:
    """`gelu` of x, which nobody else may hold: its memory becomes that of the result."""
    library = _library(x)
    if library is None:
        return gelu(x)
    mx.eval(x)
    values = np.array(x, copy=False)
    if not values.flags.c_contiguous:
        return gelu(x)
    library.moss_tts_gelu(ctypes.c_long(values.size), _address(values), cores_in_use())
    return x


def attend_to_all(q: mx.array, k: mx.array, v: mx.array) -> mx.array:
    """Attention of all rows to all rows: (B, T, heads, d) three times -> (B, T, heads * d)."""
    library = _library(q, k, v)
    if library is None:
        by_head = [one.swapaxes(1, 2) for one in (q, k, v)]
        # Head by head on a CPU: scores then stay in its cache.
        heads = zip(*(mx.split(one, one.shape[1], axis=1) for one in by_head), strict=True) if on_cpu() else [by_head]
        attended = mx.concatenate([attend(*head, scale=q.shape[-1] ** -0.5, mask=None) for head in heads], axis=1)
        return attended.swapaxes(1, 2).reshape(*q.shape[:2], -1)
    mx.eval(q, k, v)
    given = [in_memory(one) for one in (q, k, v)]
    out = np.empty_like(given[0])
    shape = np.array(out.shape, np.int64)
    if not library.moss_tts_attend_all(*[_address(array) for array in (shape, *given, out)], cores_in_use()):
        raise MemoryError(f"no memory for attention of {out.shape[1]} rows.")
    return mx.array(out.reshape(*out.shape[:2], -1))


def _library(*arrays: mx.array) -> ctypes.CDLL | None:
    """The C, where it can compute with these arrays."""
    plain = on_cpu() and all(array.dtype == mx.float32 for array in arrays)
    return compiled.library() if plain else None


def _address(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
