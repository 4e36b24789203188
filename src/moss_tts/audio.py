"""Audio files and waveforms: reading, writing, resampling, loudness.

A waveform is float32, mono (S,) or channels last (S, C). soundfile reads and writes what libsndfile knows (wav,
flac, ogg, mp3); other containers (m4a, aac, opus in webm) are read by PyAV, which is imported only then.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from moss_tts.errors import AudioError

WRITABLE = {".wav": "WAV", ".flac": "FLAC", ".mp3": "MP3", ".ogg": "OGG"}
# A longer reference helps no voice; the limit is also what stops a small file that decodes to hours.
MAX_SECONDS = 600.0
# Arrays with more channels than this are taken for waveforms the other way round.
MAX_CHANNELS = 8
SILENCE_RMS = 1e-4

# Loudness of references, as upstream's processors: towards -20 dB, by 3 dB at most.
TARGET_DB = -20.0
MAX_GAIN_DB = 3.0


@dataclass(frozen=True)
class Waveform:
    """Samples (S,) or (S, C), float32, and their rate in Hz."""

    samples: np.ndarray
    sample_rate: int


# ------------------------------------------------------------------------------------------------- reading


def read_audio(path: str | os.PathLike[str], max_seconds: float = MAX_SECONDS) -> Waveform:
    """Read an audio file.

    Args:
        path: wav, flac, ogg, mp3; with the `av` extra also m4a, aac and whatever FFmpeg knows.
        max_seconds: refuse longer audio, before it is decoded where the header tells.

    Raises:
        AudioError: no such file, not audio, cut off, empty or too long.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise AudioError(f"{file} is not a file.")
    try:
        samples, rate = _read_with_soundfile(file, max_seconds)
    except soundfile.LibsndfileError:
        samples, rate = _read_with_av(file, max_seconds)
    if not len(samples):
        raise AudioError(f"{file} holds no audio.")
    return Waveform(samples, rate)


def _read_with_soundfile(file: Path, max_seconds: float) -> tuple[np.ndarray, int]:
    with soundfile.SoundFile(file) as sound:
        limit = int(max_seconds * sound.samplerate)
        # Headers can lie: one sample beyond the limit is read, and no more.
        samples = sound.read(limit + 1, dtype="float32")
        if len(samples) > limit:
            raise _too_long(file, max_seconds)
        return samples, int(sound.samplerate)


def _read_with_av(file: Path, max_seconds: float) -> tuple[np.ndarray, int]:
    try:
        av: Any = importlib.import_module("av")
    except ImportError as error:
        raise AudioError(
            f"{file} is no wav, flac, ogg or mp3; for other containers: pip install 'moss-tts-mlx[av]'."
        ) from error
    try:
        with av.open(str(file)) as container:
            if not container.streams.audio:
                raise AudioError(f"{file} holds no audio.")
            stream = container.streams.audio[0]
            rate = int(stream.rate)
            pieces = list(_decoded(container, av.AudioResampler(format="fltp"), int(max_seconds * rate)))
    except _TooLong as error:
        raise _too_long(file, max_seconds) from error
    except av.error.FFmpegError as error:
        raise AudioError(f"{file} is not audio that can be decoded: {error}.") from error
    samples = np.concatenate(pieces, axis=1).T if pieces else np.zeros((0, 1), np.float32)
    return np.ascontiguousarray(samples[:, 0] if samples.shape[1] == 1 else samples), rate


class _TooLong(Exception):
    """Decoding went past the limit."""


def _decoded(container: Any, resampler: Any, limit: int) -> Iterator[np.ndarray]:
    """Planes (C, S) of the first audio stream."""
    total = 0
    for frame in container.decode(audio=0):
        for planar in resampler.resample(frame):
            total += planar.samples
            if total > limit:
                raise _TooLong
            yield planar.to_ndarray()


def _too_long(file: Path, max_seconds: float) -> AudioError:
    return AudioError(f"{file} is longer than {max_seconds:g} s; cut it to the part that is wanted.")


# ------------------------------------------------------------------------------------------------- writing


def write_audio(path: str | os.PathLike[str], samples: Any, sample_rate: int) -> Path:
    """Write a waveform; the suffix says the format. The file appears whole or not at all.

    Args:
        path: ending in .wav (16 bit), .flac, .mp3 or .ogg (Vorbis).
        samples: (S,), (S, C) or (C, S) floats in -1..1; what lies beyond is clipped.
        sample_rate: in Hz.

    Raises:
        AudioError: another suffix, no such directory, or samples that are no waveform.
    """
    file = Path(path).expanduser()
    format_ = WRITABLE.get(file.suffix.lower())
    if format_ is None:
        raise AudioError(f"{file} ends in {file.suffix or 'nothing'!r}; allowed: {', '.join(WRITABLE)}.")
    waveform = np.clip(as_waveform(samples, "samples"), -1.0, 1.0)
    part = file.with_name(f".{file.name}.part")
    try:
        soundfile.write(part, waveform, sample_rate, format=format_)
        part.replace(file)
    except (OSError, soundfile.LibsndfileError) as error:
        raise AudioError(f"{file} cannot be written: {error}.") from error
    finally:
        part.unlink(missing_ok=True)
    return file


# ----------------------------------------------------------------------------------------------- waveforms


def as_waveform(samples: Any, name: str) -> np.ndarray:
    """An array as a waveform (S,) or (S, C), float32.

    The axis of at most 8 that is also the smaller one holds the channels.

    Args:
        samples: (S,), (S, C) or (C, S), numpy or mlx; floats, or 16- or 32-bit PCM.
        name: of the argument, for messages.

    Raises:
        AudioError: another shape or type, or values that are not finite.
    """
    array = np.asarray(samples)
    if array.dtype in (np.int16, np.int32):
        array = array / np.float32(np.iinfo(array.dtype).max + 1)
    if not np.issubdtype(array.dtype, np.floating):
        raise AudioError(f"{name} must hold float samples (or int16, int32 PCM), got {array.dtype}.")
    if array.ndim == 2:
        array = _channels_last(array, name)
    elif array.ndim != 1:
        raise AudioError(f"{name} must be (S,), (S, C) or (C, S), got shape {array.shape}.")
    if not np.isfinite(array).all():
        raise AudioError(f"{name} has samples that are NaN or infinite.")
    return array.astype(np.float32)


def _channels_last(array: np.ndarray, name: str) -> np.ndarray:
    rows, columns = array.shape
    if min(rows, columns) > MAX_CHANNELS or min(rows, columns) == 0:
        raise AudioError(
            f"{name} of shape {array.shape} has no axis of 1 to {MAX_CHANNELS} channels; give (S,), (S, C) or (C, S)."
        )
    if rows == columns:
        raise AudioError(f"{name} of shape {array.shape} could be (S, C) or (C, S); give more samples or a mono (S,).")
    last = array.T if rows < columns else array
    return last[:, 0] if last.shape[1] == 1 else last


def with_channels(samples: np.ndarray, channels: int) -> np.ndarray:
    """(S,) or (S, C) with as many channels as a codec hears: their mean, or mono repeated, or the first ones.

    Returns:
        (S,) for one channel, else (S, channels).
    """
    if channels == 1:
        return samples if samples.ndim == 1 else samples.mean(axis=1)
    if samples.ndim == 1:
        return np.repeat(samples[:, None], channels, axis=1)
    return samples[:, :channels]


def resample(samples: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """(S,) or (S, C) at another rate, by soxr at its very high quality."""
    if rate == wanted:
        return samples
    return np.asarray(soxr.resample(samples, rate, wanted, quality="VHQ"), dtype=np.float32)


def normalize_loudness(samples: np.ndarray) -> np.ndarray:
    """Scale (S,) or (S, C) towards -20 dB of mean power, by at most 3 dB (upstream's rule for references)."""
    level = 10.0 * np.log10(np.mean(np.square(samples, dtype=np.float64)) + 1e-9)
    gain = np.clip(TARGET_DB - level, -MAX_GAIN_DB, MAX_GAIN_DB)
    return (samples * np.float32(10.0 ** (gain / 20.0))).astype(np.float32)


def check_audible(samples: np.ndarray, name: str) -> None:
    """Refuse a reference that is silent: nothing can be learnt from it, and codecs make noise of it.

    Raises:
        AudioError: silent.
    """
    if np.sqrt(np.mean(np.square(samples, dtype=np.float64))) < SILENCE_RMS:
        raise AudioError(f"{name} is silent.")
