"""Norms and rotary positions: mx.fast's kernels on GPUs, few primitives on CPUs.

Where MLX has no kernel (CPUs), mx.fast falls back to eleven primitives for a norm and twenty-eight for a
rotation, and at the sizes of one frame each primitive costs more than its arithmetic.
"""

from __future__ import annotations

from functools import cache, partial
from typing import NamedTuple

import mlx.core as mx
import mlx.nn as nn


def on_cpu() -> bool:
    """Whether new work goes to a CPU."""
    return bool(mx.default_device() == mx.cpu)


class RMSNorm(nn.RMSNorm):
    """Root-mean-square norm over the last axis, computed in float32."""

    def __call__(self, x: mx.array) -> mx.array:
        """(..., D) -> (..., D)."""
        return rms_norm(x, self.weight, self.eps)


def rms_norm(x: mx.array, weight: mx.array, eps: float) -> mx.array:
    """x / rms(x) * weight over the last axis; the weight broadcasts against x."""
    if on_cpu() and x.dtype == mx.float32:
        return _scaled(x, x.square().sum(axis=-1, keepdims=True), weight, *_norm_constants(x.shape[-1], eps))
    if weight.ndim == 1:
        return mx.fast.rms_norm(x, weight, eps)
    return mx.fast.rms_norm(x, None, eps) * weight


@cache
def _norm_constants(size: int, eps: float) -> tuple[mx.array, mx.array]:
    """1 / D and epsilon as arrays: as constants they would make a kernel of their own for every D."""
    return mx.array(1 / size), mx.array(eps)


@partial(mx.compile, shapeless=True)
def _scaled(x: mx.array, squares: mx.array, weight: mx.array, mean: mx.array, eps: mx.array) -> mx.array:
    return x * mx.rsqrt(squares * mean + eps) * weight


class Rotation(NamedTuple):
    """Where T rows stand: their offset, and on a CPU the angles, shared by all layers.

    Attributes:
        offset: position of the first row, one number or (B,).
        cos: (1 or B, 1, T, dims / 2), None on GPUs.
        sin: likewise.
    """

    offset: int | mx.array
    cos: mx.array | None = None
    sin: mx.array | None = None


class Rotary:
    """Rotary position embedding.

    Args:
        dims: width of a head.
        base: of the frequencies.
        traditional: pairs are even and odd dimensions instead of the two halves.
    """

    def __init__(self, dims: int, base: float, traditional: bool = False) -> None:
        self._dims, self._base, self._traditional = dims, base, traditional
        self._frequencies = base ** (-mx.arange(0, dims, 2, dtype=mx.float32) / dims)

    def at(self, offset: int | mx.array, rows: int) -> Rotation:
        """The rotation of `rows` rows that start at `offset`."""
        if not on_cpu():
            return Rotation(offset)
        positions = mx.array(offset).reshape(-1, 1, 1, 1) + mx.arange(rows)[:, None]
        angles = positions * self._frequencies
        return Rotation(offset, mx.cos(angles), mx.sin(angles))

    def rotate(self, x: mx.array, rotation: Rotation) -> mx.array:
        """(B, H, T, dims) -> the same, rotated."""
        if rotation.cos is None or rotation.sin is None:
            return mx.fast.rope(
                x, self._dims, traditional=self._traditional, base=self._base, scale=1.0, offset=rotation.offset
            )
        if self._traditional:
            first, second = _turned(x[..., ::2], x[..., 1::2], rotation.cos, rotation.sin)
            return mx.stack([first, second], axis=-1).reshape(x.shape).astype(x.dtype)
        half = self._dims // 2
        turned = _turned(x[..., :half], x[..., half:], rotation.cos, rotation.sin)
        return mx.concatenate(turned, axis=-1).astype(x.dtype)


@partial(mx.compile, shapeless=True)
def _turned(first: mx.array, second: mx.array, cos: mx.array, sin: mx.array) -> list[mx.array]:
    return [first * cos - second * sin, second * cos + first * sin]
