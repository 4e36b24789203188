"""The decoder of the autoencoder (DAC): latents to a waveform, a part at a time if need be.

Letters: N sounds, L values of time, I and O channels, K values of a kernel. Everything is float32: some alphas are so
small that their reciprocals are beyond float16, and latents are read once per sound.

Convolutions are products of matrices, of the values that each result needs: MLX on a CPU takes a hundred times as long
for kernels with gaps.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from moss_tts.diffusion.config import AutoencoderConfig

_EDGE_KERNEL = 7
_DILATIONS = (1, 3, 9)
# Values that a part's widest intermediate result may have: 256 MB.
_MOST_VALUES = 2**26


class Snake(nn.Module):
    """x + sin(alpha * x)² / alpha, with an alpha for each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = mx.ones((channels,))

    def __call__(self, x: mx.array) -> mx.array:
        """(N, L, I) -> the same."""
        return _snake(x, self.alpha)


@mx.compile
def _snake(x: mx.array, alpha: mx.array) -> mx.array:
    return x + mx.square(mx.sin(alpha * x)) / (alpha + 1e-9)


class Convolution(nn.Module):
    """A convolution that keeps the length; `weight` is (K, I, O)."""

    def __init__(self, channels: int, out: int, kernel: int, dilation: int = 1) -> None:
        super().__init__()
        self._dilation = dilation
        self.weight = mx.zeros((kernel, channels, out))
        self.bias = mx.zeros((out,))

    def __call__(self, x: mx.array) -> mx.array:
        """(N, L, I) -> (N, L, O)."""
        kernel, channels, out = self.weight.shape
        length, reach = x.shape[1], self._dilation * (kernel // 2)
        padded = mx.pad(x, [(0, 0), (reach, reach), (0, 0)]) if reach else x
        starts = range(0, kernel * self._dilation, self._dilation)
        needed = mx.concatenate([padded[:, start : start + length] for start in starts], axis=-1)
        return mx.addmm(self.bias, needed, self.weight.reshape(kernel * channels, out))


class Stretch(nn.Module):
    """A transposed convolution with a kernel of two strides, which makes L values L * stride; `weight` is (K, I, O).

    Result i of a stride comes from value i, by the first half of the kernel, and from value i - 1, by its second half.
    """

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self._stride = stride
        self.weight = mx.zeros((2 * stride, channels, out))
        self.bias = mx.zeros((out,))

    def __call__(self, x: mx.array) -> mx.array:
        """(N, L, I) -> (N, L * stride, O)."""
        count, length, channels = x.shape
        stride, out = self._stride, self.weight.shape[-1]
        padded = mx.pad(x, [(0, 0), (1, 1), (0, 0)])
        pairs = mx.concatenate([padded[:, 1:], padded[:, :-1]], axis=-1)
        halves = self.weight.reshape(2, stride, channels, out).transpose(0, 2, 1, 3)
        blocks = (pairs @ halves.reshape(2 * channels, stride * out)).reshape(count, (length + 1) * stride, out)
        first = first_of(stride)
        return blocks[:, first : first + length * stride] + self.bias


def first_of(stride: int) -> int:
    """The number of results that a transposed convolution of that stride cuts off at the beginning."""
    return (stride + 1) // 2


class Unit(nn.Module):
    """A residual unit with a dilated convolution."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        wide = Convolution(channels, channels, _EDGE_KERNEL, dilation)
        self.block = [Snake(channels), wide, Snake(channels), Convolution(channels, channels, 1)]

    def __call__(self, x: mx.array) -> mx.array:
        """(N, L, I) -> the same."""
        return x + _through(self.block, x)


class Stage(nn.Module):
    """Half the channels, and `stride` times the length."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        half = channels // 2
        units = [Unit(half, dilation) for dilation in _DILATIONS]
        self.block = [Snake(channels), Stretch(channels, half, stride), *units]

    def __call__(self, x: mx.array) -> mx.array:
        """(N, L, I) -> (N, L * stride, I / 2)."""
        return _through(self.block, x)


class Layers(nn.Module):
    """The layers of the decoder in order."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        stages = [Stage(config.width >> index, stride) for index, stride in enumerate(config.strides)]
        last = config.width >> len(stages)
        edges = Convolution(config.channels, config.width, _EDGE_KERNEL), Convolution(last, 1, _EDGE_KERNEL)
        self.model = [edges[0], *stages, Snake(last), edges[1]]


class SoundDecoder(nn.Module):
    """Latents to a waveform."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self._config = config
        self.post_quant_conv = Convolution(config.channels, config.channels, 1)
        self.decoder = Layers(config)

    def __call__(self, latents: mx.array) -> mx.array:
        """The whole waveform (N, T * hop) of latents (N, C, T), in -1..1."""
        x = self.post_quant_conv(latents.swapaxes(1, 2))
        return mx.tanh(_through(self.decoder.model, x))[..., 0]

    def latents_of(self, first: int, last: int) -> tuple[int, int]:
        """The latents first..last - 1 that samples first..last - 1 depend on; they may lie outside of a sound."""
        reach = _EDGE_KERNEL // 2
        units = reach * sum(_DILATIONS)
        first, last = first - reach, last + reach
        for stride in reversed(self._config.strides):
            first, last = first - units + first_of(stride), last + units + first_of(stride)
            first, last = first // stride - 1, (last - 1) // stride + 1
        return first - reach, last + reach

    def parts(self, latents: mx.array, samples: int) -> Iterator[np.ndarray]:
        """The first samples of each sound, part by part; the same as of the whole.

        Only the latents that a part needs are decoded.

        Args:
            latents: float32 (N, C, T).
            samples: samples of each sound; no more than T * hop.

        Returns:
            float32 (N, samples of the part), as they are made.
        """
        hop = self._config.hop
        step = hop * max(1, _MOST_VALUES // (len(latents) * self._widest * hop))
        for start in range(0, samples, step):
            end = min(start + step, samples)
            first, last = self.latents_of(start, end)
            first = max(first, 0)
            wave = self(latents[..., first:last])
            yield np.array(wave[:, start - first * hop : end - first * hop])

    def most_values(self, samples: int) -> int:
        """Values of the largest intermediate result of one sound of so many samples."""
        return min(_MOST_VALUES, samples * self._widest)

    @property
    def _widest(self) -> int:
        """Values per sample of the largest intermediate result: the values that a kernel of 7 needs."""
        config, rate, widest = self._config, 1, 0.0
        for index, stride in enumerate(config.strides):
            rate *= stride
            widest = max(widest, _EDGE_KERNEL * (config.width >> (index + 1)) * rate / config.hop)
        return max(1, round(widest))


def _through(layers: list[nn.Module], x: mx.array) -> mx.array:
    for layer in layers:
        x = layer(x)
    return cast(mx.array, x)
