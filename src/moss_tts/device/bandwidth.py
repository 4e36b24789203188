"""How fast this machine reads its memory."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import mlx.core as mx
import numpy as np

from moss_tts.device.kernels import on_cpu


def read_bandwidth(megabytes: int = 512, repeats: int = 5) -> dict[str, float]:
    """Bytes per second that are read, best of several.

    By mlx (a matrix times a vector) and, where that computes on a CPU, by numpy (sums in every core).
    """
    width = 4096
    matrix = np.ones((megabytes * 2**20 // 4 // width, width), np.float32)
    weight, x = mx.array(matrix), mx.ones((1, width))
    mx.eval(weight, x)
    seconds = {"mlx": best_of(repeats, lambda: mx.eval(x @ weight.T))}
    if on_cpu():
        parts = np.array_split(matrix, os.cpu_count() or 1)
        with ThreadPoolExecutor(len(parts)) as pool:
            seconds["numpy"] = best_of(repeats, lambda: list(pool.map(lambda part: float(part.max()), parts)))
    return {name: matrix.nbytes / value for name, value in seconds.items()}


def best_of(repeats: int, action: Callable[[], object]) -> float:
    """Seconds of the fastest run: other programs can only make it slower."""
    action()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - start)
    return min(seconds)
