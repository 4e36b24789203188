"""The noise that a sound begins as: upstream's for the same seed, without its library."""

from __future__ import annotations

import numpy as np

# Upstream's generator makes normal values in blocks: the first half gives radii, the second half angles.
_BLOCK = 16
_HALF = _BLOCK // 2
_MANTISSA = 24


def noise(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """Normal values, float32, of that shape; those of upstream's seed within 5e-7.

    Args:
        seed: 0..2**32 - 1.
        shape: a shape of at least 16 values, such as (C, T).
    """
    count = int(np.prod(shape))
    stream = np.random.RandomState(seed)
    drawn = _uniform(stream, count)
    values = _normal(drawn[: count - count % _BLOCK])
    if count % _BLOCK:
        # Upstream's last block is drawn anew, and covers values that are there already.
        values = np.concatenate([values[: count - _BLOCK], _normal(_uniform(stream, _BLOCK))])
    return values.reshape(shape)


def _uniform(stream: np.random.RandomState, count: int) -> np.ndarray:
    """Values in 0..1, float32."""
    drawn = stream.randint(0, 2**32, size=count, dtype=np.uint32)
    return (drawn & (2**_MANTISSA - 1)).astype(np.float32) * np.float32(2.0**-_MANTISSA)


def _normal(uniform: np.ndarray) -> np.ndarray:
    """Normal values of uniform ones, by Box and Muller, block by block."""
    blocks = uniform.reshape(-1, 2, _HALF)
    radius = np.sqrt(-2 * np.log(1 - blocks[:, 0]))
    angle = np.float32(2 * np.pi) * blocks[:, 1]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1).astype(np.float32)
