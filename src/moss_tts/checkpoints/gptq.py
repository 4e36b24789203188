"""GPTQ: a matrix is rounded so that its errors cancel on the inputs that it really gets.

Columns are rounded one after the other, and later columns compensate for the errors of earlier ones as far as the
second moments of the inputs allow (Frantar et al., arXiv:2210.17323). The result is stored as mx.quantize stores it,
in mode affine.
"""

from __future__ import annotations

from functools import cached_property

import mlx.core as mx
import numpy as np

from moss_tts.weights.quantisation import Precision

# Share of the mean second moment that is added to each input's own, as in the paper.
DAMPING = 0.01


class Moments:
    """Second moments of the inputs of a layer.

    Args:
        width: the width of an input.
    """

    def __init__(self, width: int) -> None:
        self._sums = np.zeros((width, width))

    def add(self, inputs: np.ndarray) -> None:
        """Rows (N, width)."""
        self._sums += inputs.T @ inputs

    @cached_property
    def factor(self) -> np.ndarray:
        """U (width, width), upper triangular: U^T U is the inverse of the damped moments; nothing is added any more."""
        moments, self._sums = self._sums, np.zeros((0, 0))
        own = np.diag(moments)
        # An input that never came says nothing about its column: it is rounded as it is.
        np.fill_diagonal(moments, np.where(own == 0, 1, own + DAMPING * own.mean()))
        return np.linalg.cholesky(np.linalg.inv(moments)).T


def quantize(weight: mx.array, factor: np.ndarray, precision: Precision) -> tuple[mx.array, ...]:
    """Round a matrix.

    Args:
        weight: (out, in), of the type that scales are to have.
        factor: (in, in), of its inputs.
        precision: a precision of mode affine.

    Returns:
        Packed values, scales and biases, as mx.quantize gives them.
    """
    rest, width, size = _floats(weight), weight.shape[1], precision.group_size
    codes, scales, biases = np.empty(weight.shape, np.uint8), [], []
    for start in range(0, width, size):
        group = slice(start, start + size)
        _, scale, bias = precision.quantize(mx.array(rest[:, group].astype(np.float32)).astype(weight.dtype))
        grid = _floats(scale), _floats(bias), 2**precision.bits - 1
        codes[:, group], errors = _round(rest[:, group], factor[group, group], *grid)
        rest[:, group.stop :] -= errors @ factor[group, group.stop :]
        scales.append(scale)
        biases.append(bias)
    return pack(codes, precision.bits), mx.concatenate(scales, axis=1), mx.concatenate(biases, axis=1)


def _round(
    columns: np.ndarray, factor: np.ndarray, scale: np.ndarray, bias: np.ndarray, most: int
) -> tuple[np.ndarray, np.ndarray]:
    """Round one group: codes (out, size), and the errors (out, size) that later columns compensate for."""
    codes, errors = np.empty(columns.shape, np.uint8), np.empty(columns.shape)
    step = np.where(scale == 0, 1, scale)[:, 0]
    for column in range(columns.shape[1]):
        wanted = columns[:, column]
        code = np.clip(np.rint((wanted - bias[:, 0]) / step), 0, most)
        error = (wanted - (code * scale[:, 0] + bias[:, 0])) / factor[column, column]
        columns[:, column + 1 :] -= np.outer(error, factor[column, column + 1 :])
        codes[:, column], errors[:, column] = code, error
    return codes, errors


def pack(codes: np.ndarray, bits: int) -> mx.array:
    """(out, in) codes -> (out, in * bits / 32) uint32, lowest bits first, as mlx lays them out."""
    single = (codes[..., None] >> np.arange(bits)) & 1
    packed = np.packbits(single.reshape(len(codes), -1).astype(np.uint8), axis=1, bitorder="little")
    return mx.array(packed.view("<u4"))


def _floats(array: mx.array) -> np.ndarray:
    return np.array(array.astype(mx.float32)).astype(np.float64)
