"""Changes of step rate: steps folded into channels, and back out of them."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import TypeVar

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from moss_tts.codec.stages import PatchConfig

# MLX's and NumPy's are reshaped and transposed alike.
Steps = TypeVar("Steps", mx.array, np.ndarray)


class PatchState:
    """The state of a stage that carries nothing from call to call."""

    arrays: tuple[()] = ()

    def rows(self, _rows: Sequence[int | None], /) -> PatchState:
        """The same state for any streams."""
        return self


class Patch(nn.Module):
    """A change of step rate; it has no weights and carries nothing."""

    def __init__(self, config: PatchConfig) -> None:
        super().__init__()
        self._config = config

    def empty_state(self, _batch: int, /) -> PatchState:
        """The state of rows at the start of their streams."""
        return PatchState()

    def __call__(self, x: mx.array, state: PatchState, _counts: object) -> tuple[mx.array, PatchState]:
        """(B, T, D) -> (B, T / size, D * size) going down, the inverse going up."""
        return patched(x, self._config), state

    def in_c(self, _library: ctypes.CDLL, /) -> PackedPatch:
        """The same for packed steps; NumPy is quick enough."""
        return PackedPatch(self._config)


class PackedPatch:
    """A change of step rate of packed steps (N, D): those of all streams, one stream after the other."""

    def __init__(self, config: PatchConfig) -> None:
        self._config = config

    def empty_state(self, _batch: int, /) -> PatchState:
        """The state of streams at their start."""
        return PatchState()

    def __call__(self, x: np.ndarray, state: PatchState, _counts: object) -> tuple[np.ndarray, PatchState]:
        """(N, D) -> (N / size, D * size) going down, the inverse going up."""
        # C reads contiguous rows; for a single step, NumPy would change only the strides.
        return np.ascontiguousarray(patched(x[None], self._config)[0]), state


def patched(x: Steps, config: PatchConfig) -> Steps:
    """Steps (B, T, D) after a patch."""
    return patch_down(x, config.size) if config.down else patch_up(x, config.size)


def patch_down(x: Steps, size: int) -> Steps:
    """(B, T, D) -> (B, T / size, D * size); within a step the patch index runs fastest."""
    batch, steps, width = x.shape
    patches = x.reshape(batch, steps // size, size, width).transpose(0, 1, 3, 2)
    return patches.reshape(batch, steps // size, width * size)


def patch_up(x: Steps, size: int) -> Steps:
    """Inverse of patch_down: (B, T, D * size) -> (B, T * size, D)."""
    batch, steps, width = x.shape
    patches = x.reshape(batch, steps, width // size, size).transpose(0, 1, 3, 2)
    return patches.reshape(batch, steps * size, width // size)
