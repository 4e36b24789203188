"""Norms, rotary positions and attention: mx.fast's kernels on GPUs, few primitives on CPUs.

Where MLX has no kernel (CPUs), mx.fast falls back to eleven primitives for a norm, twenty-eight for a rotation and
twelve for attention, and at the sizes of one frame each primitive costs more than its arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, cached_property, partial
from math import e, factorial, log, log2, pi, sqrt
from typing import Any, NamedTuple

import mlx.core as mx
import mlx.nn as nn

from moss_tts.device import compiled, packed
from moss_tts.device.mlx_lm import scaled_dot_product_attention

# Bits of a float32 below its exponent; adding ROUNDING leaves a whole number in the last of them. Powers of two below
# the least octave do not count beside 1, the largest term of a softmax. SERIES is half of 2 ** x for |x| <= 1/2.
EXPONENT, ROUNDING, LEAST_OCTAVE = 23, 1.5 * 2**23, -63.0
SERIES = [log(2) ** n / factorial(n) / 2 for n in range(8)]
# 2 * u of GPT-2's GELU: the factors of x and of its cube.
TWICE_U = 2 * sqrt(2 / pi), 2 * sqrt(2 / pi) * 0.044715
# A weight of at most this many bytes stays in a processor's cache from frame to frame.
LARGEST_TURNED = 4 * 2**20
# From this many slots of context on, exponentials take longer than three more primitives.
MANY_SLOTS = 64


def device_is_cpu() -> bool:
    """Whether MLX computes on a CPU by default."""
    return bool(mx.default_device() == mx.cpu)


def on_cpu() -> bool:
    """Whether the branches for CPUs are taken.

    Tests replace the function that it asks, and so run the branches for GPUs, which are correct on every device.
    """
    return device_is_cpu()


def issue(*arrays: mx.array) -> None:
    """Let a CPU begin to compute these while the host prepares the next ones.

    There MLX takes only about a hundred primitives in advance, so the kernels would wait while a long graph is built.
    A GPU has enough to do with the step before.

    Args:
        arrays: the arrays that are needed next.
    """
    if on_cpu():
        mx.async_eval(*arrays)


class Linear(nn.Linear):
    """A linear layer without bias that can be stored as a CPU reads it fastest.

    Stored as (in, out), small weights are 1.3 to 1.9 times as fast. Large weights come from memory and not from a
    cache; those are read fastest row by row, stored as (out, in), if products of few rows do not pack them.
    """

    weight: mx.array

    def turn(self, dtype: mx.Dtype) -> None:
        """Store the weight for a CPU; `weight` becomes a view of it.

        Args:
            dtype: the type to compute in.
        """
        if _reads_turned(self.weight.size * dtype.size):
            self._turned = mx.contiguous(self.weight.T)
            self.weight = self._turned.T
            mx.eval(self._turned, self.weight)

    def __call__(self, x: mx.array) -> mx.array:
        """(..., in) -> (..., out)."""
        return x @ self._turned if "_turned" in self else super().__call__(x)


class Embedding(nn.Embedding):
    """A table that can be kept in another type than what is computed in."""

    _dtype: mx.Dtype | None = None

    def compute_in(self, dtype: mx.Dtype) -> None:
        """Give rows in this type, whatever the table is kept in."""
        self._dtype = dtype

    def __call__(self, ids: mx.array) -> mx.array:
        """(...) -> (..., D)."""
        rows = super().__call__(ids)
        return rows if self._dtype is None else rows.astype(self._dtype)


def multiplies_as_stored(dtype: mx.Dtype) -> bool:
    """Whether large weights need not be in the type to compute in, since C multiplies them as they are stored."""
    return on_cpu() and packed.state().in_use and dtype == mx.float32


def keeps_stored_type(module: nn.Module, name: str, array: mx.array, dtype: mx.Dtype) -> bool:
    """Whether a weight stays as it is stored, since the C for packed weights multiplies it without casting it.

    Args:
        module: the layer.
        name: the name of its weight.
        array: the weight.
        dtype: the type to compute in.
    """
    if not multiplies_as_stored(dtype):
        return False
    if isinstance(module, nn.QuantizedLinear):
        return name in ("scales", "biases")
    large = isinstance(module, Embedding) or (isinstance(module, Linear) and array.size * dtype.size >= LARGEST_TURNED)
    return large and array.dtype == mx.bfloat16


def turned(weight: mx.array) -> mx.array:
    """A weight (out, in) as (in, out), stored as the device reads it fastest; see Linear."""
    return mx.contiguous(weight.T) if _reads_turned(weight.nbytes) else mx.contiguous(weight).T


def _reads_turned(nbytes: int) -> bool:
    return on_cpu() and (nbytes < LARGEST_TURNED or compiled.library() is None)


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


class LayerNorm(nn.LayerNorm):
    """Layer norm over the last axis, computed in float32."""

    def __call__(self, x: mx.array) -> mx.array:
        """(..., D) -> (..., D)."""
        return layer_norm(x, self.weight, self.bias, self.eps)


def layer_norm(x: mx.array, weight: mx.array, bias: mx.array, eps: float) -> mx.array:
    """(x - mean) / deviation * weight + bias over the last axis."""
    if not (on_cpu() and x.dtype == mx.float32):
        return mx.fast.layer_norm(x, weight, bias, eps)
    mean, epsilon = _norm_constants(x.shape[-1], eps)
    centred, squares = _centred(x, x.sum(axis=-1, keepdims=True), mean)
    return _moved(centred, squares.sum(axis=-1, keepdims=True), weight, bias, mean, epsilon)


@partial(mx.compile, shapeless=True)
def _centred(x: mx.array, total: mx.array, mean: mx.array) -> list[mx.array]:
    """x without its mean, and the squares of that."""
    centred = x - total * mean
    return [centred, centred * centred]


@partial(mx.compile, shapeless=True)
def _moved(x: mx.array, squares: mx.array, weight: mx.array, bias: mx.array, mean: mx.array, eps: mx.array) -> mx.array:
    return x * mx.rsqrt(squares * mean + eps) * weight + bias


class Rotation(NamedTuple):
    """The positions of T rows: their offset, and on a CPU the angles, which all layers share.

    Attributes:
        offset: position of the first row, one number or (B,).
        cos: (1 or B, 1, T, dims / 2), or as `for_both` gives it where pairs are neighbours; None on GPUs.
        sin: the same for the sine.
    """

    offset: int | mx.array
    cos: mx.array | None = None
    sin: mx.array | None = None


class Rotary:
    """Rotary position embedding.

    Args:
        dims: width of a head.
        base: the base of the frequencies.
        traditional: pairs are even and odd dimensions instead of the two halves.
        positions: the number of first positions with angles that are kept, because rows at them are rotated again
            and again.
    """

    def __init__(self, dims: int, base: float, traditional: bool = False, positions: int = 0) -> None:
        self._dims, self._base, self._traditional = dims, base, traditional
        self._positions = positions
        self._kept: dict[tuple[int, int], Rotation] = {}

    @cached_property
    def _frequencies(self) -> mx.array:
        frequencies = self._base ** (-mx.arange(0, self._dims, 2, dtype=mx.float32) / self._dims)
        mx.eval(frequencies)
        return frequencies

    def at(self, offset: int | mx.array, rows: int) -> Rotation:
        """The rotation of `rows` rows that start at `offset`."""
        if not on_cpu():
            return Rotation(offset)
        if isinstance(offset, int) and (kept := self._kept.get((offset, rows))):
            return kept
        positions = mx.array(offset).reshape(-1, 1, 1, 1) + mx.arange(rows)[:, None]
        angles = positions * self._frequencies
        cos, sin = mx.cos(angles), mx.sin(angles)
        rotation = Rotation(offset, *(for_both(cos, sin) if self._traditional else (cos, sin)))
        if isinstance(offset, int) and offset + rows <= self._positions:
            mx.eval(rotation.cos, rotation.sin)
            self._kept[offset, rows] = rotation
        return rotation

    def rotate(self, x: mx.array, rotation: Rotation) -> mx.array:
        """(B, H, T, dims) -> the same, rotated."""
        if rotation.cos is None or rotation.sin is None:
            return mx.fast.rope(
                x, self._dims, traditional=self._traditional, base=self._base, scale=1.0, offset=rotation.offset
            )
        if self._traditional:
            return turn_neighbours(x, rotation.cos, rotation.sin)
        half = self._dims // 2
        turned = _turned(x[..., :half], x[..., half:], rotation.cos, rotation.sin)
        return mx.concatenate(turned, axis=-1).astype(x.dtype)


@partial(mx.compile, shapeless=True)
def _turned(first: mx.array, second: mx.array, cos: mx.array, sin: mx.array) -> list[mx.array]:
    return [first * cos - second * sin, second * cos + first * sin]


def for_both(cos: mx.array, sin: mx.array) -> tuple[mx.array, mx.array]:
    """Angles of pairs (..., D / 2) for both neighbours (..., D): the sine is negative for the first."""
    shape = (*cos.shape[:-1], -1)
    return mx.stack([cos, cos], axis=-1).reshape(shape), mx.stack([-sin, sin], axis=-1).reshape(shape)


def turn_neighbours(x: mx.array, cos: mx.array, sin: mx.array) -> mx.array:
    """Turn pairs of neighbours of x (..., D) in float32, by angles as `for_both` gives them.

    Products of complex numbers would say it in fewer words, and take four times as long on a CPU.
    """
    other = x.reshape(*x.shape[:-1], -1, 2)[..., ::-1].reshape(x.shape)
    return _mixed(x, other, cos, sin).astype(x.dtype)


@partial(mx.compile, shapeless=True)
def _mixed(x: mx.array, other: mx.array, cos: mx.array, sin: mx.array) -> mx.array:
    return x * cos + other * sin


def attend(
    q: mx.array, k: mx.array, v: mx.array, *, scale: float, mask: mx.array | str | None, cache: Any = None
) -> mx.array:
    """Attention of queries (B, H, T, d) over keys and values (B, G, N, d), H a multiple of G.

    Args:
        q: queries.
        k: keys, as the cache returns them.
        v: values, likewise.
        scale: the scale of the products.
        mask: bool (B, 1, T, N), "causal" or None.
        cache: where k and v come from, if from one; a quantised one needs its own kernel.

    Returns:
        (B, H, T, d).
    """
    if not on_cpu() or hasattr(cache, "bits"):
        return scaled_dot_product_attention(q, k, v, cache=cache, scale=scale, mask=mask)
    (batch, heads, rows, _), (groups, slots) = q.shape, k.shape[1:3]
    in_octaves = rows > 1 and q.dtype == mx.float32
    together = (batch, groups, heads // groups * rows, -1)
    scores = (q * (scale * log2(e) if in_octaves else scale)).reshape(together) @ k.swapaxes(-1, -2)
    if isinstance(mask, str):  # one row is causal by itself
        mask = mx.arange(slots) <= mx.arange(slots - rows, slots)[:, None] if rows > 1 else None
    if mask is not None:
        # Not minus infinity: rows of padding see nothing, and must not become NaN, which no mask hides.
        unseen = mx.finfo(scores.dtype).min
        scores = mx.where(mask, scores.reshape(batch, heads, rows, slots), unseen).reshape(*together[:3], slots)
    weigh = _weigh_by_octaves if in_octaves else _weigh
    return weigh(scores, v).reshape(q.shape)


def _weigh(scores: mx.array, v: mx.array) -> mx.array:
    """Values weighed by softmax; over many slots by the C library's power, a third of the time of MLX's exponential."""
    if scores.shape[-1] < MANY_SLOTS:
        return mx.softmax(scores, axis=-1) @ v
    powers = mx.power(e, scores - scores.max(axis=-1, keepdims=True))
    return (powers @ v) / powers.sum(axis=-1, keepdims=True)


def _weigh_by_octaves(scores: mx.array, v: mx.array) -> mx.array:
    """Values weighed by powers of two: softmax without exponentials, for scores times log2(e).

    MLX calls the C library for each exponential on a CPU, 20 ns a time and half of all that a codec takes live. A
    polynomial is exact to 2e-7 and ten times as fast.
    """
    octaves = scores - scores.max(axis=-1, keepdims=True)
    powers = _powers(octaves, (_nearest(octaves).view(mx.int32) << EXPONENT).view(mx.float32))
    return (powers @ v) / (powers @ mx.ones((powers.shape[-1], 1)))


@partial(mx.compile, shapeless=True)
def _nearest(octaves: mx.array) -> mx.array:
    """float32 with the nearest whole number in its last bits, plus the bias of an exponent.

    The bias is 127; 128, which doubles the power, is even and so rounds halves as `_powers` does.
    """
    return mx.maximum(octaves, LEAST_OCTAVE) + (ROUNDING + 128)


@partial(mx.compile, shapeless=True)
def _powers(octaves: mx.array, doubled: mx.array) -> mx.array:
    """2 ** octaves, given twice the power of the nearest whole number."""
    bounded = mx.maximum(octaves, LEAST_OCTAVE)
    rest = bounded - ((bounded + ROUNDING) - ROUNDING)
    return polynomial(SERIES, rest) * doubled


def polynomial(coefficients: Sequence[float], x: mx.array) -> mx.array:
    """Horner's rule; coefficients in rising order."""
    total = coefficients[-1] * x + coefficients[-2]
    for coefficient in coefficients[-3::-1]:
        total = total * x + coefficient
    return total


def gated(gate: mx.array, up: mx.array) -> mx.array:
    """SiLU(gate) * up."""
    return (_gated_by_power if on_cpu() else _gated_by_sigmoid)(gate, up)


def swish(x: mx.array) -> mx.array:
    """SiLU(x)."""
    return (_swish_by_power if on_cpu() else _swish_by_sigmoid)(x)


def gelu(x: mx.array) -> mx.array:
    """GELU(x) in GPT-2's approximation, x / 2 * (1 + tanh(u)): x times the sigmoid of 2 * u."""
    return (_gelu_by_power if on_cpu() else _gelu_by_sigmoid)(x)


# MLX's own exponential takes three times as long on a CPU as the C library's power.
@partial(mx.compile, shapeless=True)
def _gated_by_power(gate: mx.array, up: mx.array) -> mx.array:
    return gate * up / (mx.power(1 / e, gate) + 1)


@partial(mx.compile, shapeless=True)
def _gated_by_sigmoid(gate: mx.array, up: mx.array) -> mx.array:
    return gate * mx.sigmoid(gate) * up


@partial(mx.compile, shapeless=True)
def _swish_by_power(x: mx.array) -> mx.array:
    return x / (mx.power(1 / e, x) + 1)


@partial(mx.compile, shapeless=True)
def _swish_by_sigmoid(x: mx.array) -> mx.array:
    return x * mx.sigmoid(x)


@partial(mx.compile, shapeless=True)
def _gelu_by_power(x: mx.array) -> mx.array:
    return x / (mx.power(1 / e, TWICE_U[0] * x + TWICE_U[1] * x * x * x) + 1)


@partial(mx.compile, shapeless=True)
def _gelu_by_sigmoid(x: mx.array) -> mx.array:
    return x * mx.sigmoid(TWICE_U[0] * x + TWICE_U[1] * x * x * x)
