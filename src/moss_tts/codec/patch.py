"""Changes of step rate: steps folded into channels, and back out of them."""

from __future__ import annotations

from typing import TypeVar

import mlx.core as mx
import mlx.nn as nn
import numpy as np

# MLX's and NumPy's are reshaped and transposed alike.
Steps = TypeVar("Steps", mx.array, np.ndarray)


class Patch(nn.Module):
    """A change of step rate; it has no weights and carries nothing."""

    def __init__(self, size: int, down: bool) -> None:
        super().__init__()
        self._size, self._down = size, down

    def __call__(self, x: Steps) -> Steps:
        """(B, T, D) -> (B, T / size, D * size) going down, the inverse going up."""
        return patch_down(x, self._size) if self._down else patch_up(x, self._size)

    def count(self, steps: int) -> int:
        """Steps after this patch."""
        return steps // self._size if self._down else steps * self._size


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
