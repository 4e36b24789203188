"""Waveforms: what an array must be to be one; mixing, resampling, loudness.

Nothing about files, models or codes. A waveform that cannot be used is refused, never repaired.
Letters: C channels, S samples per channel.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

import mlx.core as mx
import numpy as np
import numpy.typing as npt
import soxr

from moss_tts.errors import AudioError, shown

Samples: TypeAlias = npt.NDArray[np.float32]

# What is read as a reference at most. A small file can decode to hours, so both limits hold before and
# while it is decoded: one for the prompt's sake, one for memory (512 MiB of float32).
MAX_SECONDS = 600.0
MAX_VALUES = 2**27
MAX_CHANNELS = 8
SAMPLE_RATES = range(100, 768_001)
# Peaks below -80 dB are silence; peaks far above full scale are integers somebody cast to float.
SILENT_PEAK = 1e-4
IMPLAUSIBLE_PEAK = 64.0
# Channels cancel each other if their mix has less than this part of their power (-30 dB). Eight channels of which one
# sounds keep an eighth.
CANCELLED_POWER = 1e-3
TARGET_LOUDNESS_DB = -20.0
MAX_GAIN_DB = 3.0

# Integer PCM -> its zero and its full scale.
_PCM_SCALES = {"uint8": (128, 2**7), "int16": (0, 2**15), "int32": (0, 2**31)}


@dataclass(frozen=True, eq=False)
class Waveform:
    """Audio in memory.

    Attributes:
        samples: (C, S) float32, full scale at 1.
        sample_rate: samples per second and channel.
    """

    samples: Samples
    sample_rate: int

    @property
    def seconds(self) -> float:
        """Its duration."""
        return self.samples.shape[1] / self.sample_rate


@runtime_checkable
class HasAudio(Protocol):
    """What carries audio with its rate: a result, a chunk of one, a speech."""

    @property
    def audio(self) -> np.ndarray:
        """(S,) or (S, C), in -1..1."""
        ...

    @property
    def sample_rate(self) -> int:
        """Samples a second."""
        ...


@contextmanager
def errors_name(name: object) -> Iterator[None]:
    """Put the name of a file or an argument in front of audio errors."""
    try:
        yield
    except AudioError as error:
        raise AudioError(f"{name}: {error}") from error


def as_waveform(samples: object, sample_rate: object, max_seconds: float = MAX_SECONDS) -> Waveform:
    """A waveform from (S,), (C, S) or (S, C), mlx or numpy, float or integer PCM, at a rate in Hz.

    Of two axes the shorter one is the channels. Integers of 8 (unsigned), 16 or 32 bits are scaled.

    Raises:
        AudioError: another type, shape or rate, none or too many samples, or not finite ones.
    """
    rate = check_sample_rate(sample_rate)
    channels = channels_first(as_numpy(samples))
    check_length(channels.shape[1], channels.shape[0], rate, max_seconds)
    return Waveform(as_float(channels), rate)


def check_sample_rate(sample_rate: object) -> int:
    """A sample rate as an int.

    Raises:
        AudioError: no integer, or out of range.
    """
    is_integer = isinstance(sample_rate, int | np.integer) and not isinstance(sample_rate, bool)
    if not is_integer or sample_rate not in SAMPLE_RATES:
        raise AudioError(
            f"a sample rate must be an integer of {SAMPLE_RATES[0]}..{SAMPLE_RATES[-1]} Hz; got {shown(sample_rate)}"
        )
    return int(sample_rate)  # type: ignore[call-overload]


def check_length(n_samples: int, channels: int, sample_rate: int, max_seconds: float = MAX_SECONDS) -> None:
    """Refuse audio without samples, with too many channels, or longer than is plausible for a reference.

    Raises:
        AudioError: it is one of these.
    """
    if not n_samples or not channels:
        raise AudioError("it has no samples")
    if channels > MAX_CHANNELS:
        raise AudioError(f"it has {channels} channels; at most {MAX_CHANNELS} are allowed")
    if n_samples > max_seconds * sample_rate:
        raise AudioError(f"it lasts {n_samples / sample_rate:.0f} s; at most {max_seconds:.0f} s are allowed")
    most = most_values(max_seconds)
    if n_samples * channels > most:
        raise AudioError(f"it holds {n_samples * channels} values; at most {most} are allowed")


def most_values(max_seconds: float) -> int:
    """Samples of all channels together that are allowed; the bound shrinks with that on seconds."""
    return int(MAX_VALUES * min(1.0, max_seconds / MAX_SECONDS))


def check_audible(samples: Samples) -> None:
    """Refuse samples (...) that are silent or not scaled to 1.

    Raises:
        AudioError: they are.
    """
    peak = float(np.abs(samples).max())
    if peak < SILENT_PEAK:
        raise AudioError(f"the waveform is silent: its peak is {peak:.2g}, full scale is 1")
    if peak > IMPLAUSIBLE_PEAK:
        raise AudioError(f"the waveform is not scaled: its peak is {peak:.5g}, full scale is 1")


def as_numpy(samples: object) -> npt.NDArray[Any]:
    """An mlx or numpy array as numpy's."""
    if isinstance(samples, mx.array):
        # numpy has no bfloat16.
        is_float = mx.issubdtype(samples.dtype, mx.floating)
        return np.array(samples.astype(mx.float32) if is_float else samples)
    if isinstance(samples, np.ndarray):
        return samples
    raise AudioError(f"a waveform must be an mlx or numpy array; got a {type(samples).__name__}")


def channels_first(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(S,), (C, S) or (S, C) -> (C, S)."""
    if array.ndim not in (1, 2):
        raise AudioError(f"a waveform must have shape (S,), (C, S) or (S, C); got {array.shape}")
    if array.ndim == 1:
        return array[None]
    channels, n_samples = sorted(array.shape)
    if channels == n_samples and channels > 1:
        raise AudioError(f"a waveform of shape {array.shape} may be (C, S) or (S, C); give more samples than channels")
    return array if array.shape[0] == channels else array.T


def as_float(array: npt.NDArray[Any]) -> Samples:
    """Floats or integer PCM as finite float32, full scale at 1."""
    if array.dtype.kind != "f" and array.dtype.name not in _PCM_SCALES:
        raise AudioError(
            f"a waveform must hold floats or integer PCM ({', '.join(_PCM_SCALES)}); got {array.dtype.name}"
        )
    zero, full_scale = _PCM_SCALES.get(array.dtype.name, (0, 1))
    # Values beyond float32 become infinite, which is refused like any other infinity, and so are all kinds of NaN.
    with np.errstate(over="ignore", invalid="ignore"):
        samples: Samples = ((array - np.float64(zero)) / full_scale).astype(np.float32)
    if not np.isfinite(samples).all():
        raise AudioError("the waveform has samples that are not finite numbers")
    return samples


def audible_channels(samples: Samples, channels: int) -> Samples:
    """What is heard of (C, S) on so many channels, as fit_channels has it.

    Raises:
        AudioError: nothing is heard: it is silent, not scaled to 1, or its channels cancel each other.
    """
    fitted = fit_channels(samples, channels)
    is_mixed = len(samples) > 1 and not 1 < channels <= len(samples)
    if is_mixed and mean_power(fitted) < CANCELLED_POWER * mean_power(samples):
        raise AudioError(
            "the channels cancel each other: mixed to one, next to nothing is left of them. One of them is inverted; "
            "turn it over, or keep one channel alone"
        )
    check_audible(fitted)
    return fitted


def mean_power(samples: Samples) -> float:
    """Mean square of samples (...)."""
    return float(np.mean(np.square(samples, dtype=np.float64)))


def fit_channels(samples: Samples, channels: int) -> Samples:
    """(C, S) -> (channels, S): mixed to mono, mono repeated, or the first so many.

    Fewer than `channels`, but not one, are mixed to mono first.
    """
    if channels <= samples.shape[0] and channels > 1:
        return samples[:channels]
    mono = samples.mean(axis=0, keepdims=True, dtype=np.float64).astype(np.float32)
    return np.repeat(mono, channels, axis=0)


def resample(samples: Samples, sample_rate: int, target_rate: int) -> Samples:
    """(S,) or (C, S) at another rate: S * target_rate / sample_rate samples, rounded.

    soxr's very high quality (28 bits, linear phase): references are short, and what is lost here is lost to
    the voice.
    """
    if sample_rate == target_rate:
        return samples
    resampled: Samples = soxr.resample(np.ascontiguousarray(samples.T), sample_rate, target_rate, quality="VHQ")
    return np.ascontiguousarray(resampled.T)


def normalize_loudness(samples: Samples) -> Samples:
    """Bring samples (...) towards -20 dB of mean power, all channels together, by at most 3 dB either way.

    Upstream does this to references, and the models were trained with it.
    """
    gain_db = np.clip(TARGET_LOUDNESS_DB - 10 * np.log10(mean_power(samples) + 1e-9), -MAX_GAIN_DB, MAX_GAIN_DB)
    return (samples * 10 ** (gain_db / 20)).astype(np.float32)
