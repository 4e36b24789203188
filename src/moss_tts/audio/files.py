"""Audio files and waveforms: reading, writing, resampling, mixing, loudness.

Nothing about models or codes, and no playback. A waveform that cannot be used is refused, never repaired.
Letters: C channels, S samples per channel.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias, cast

import mlx.core as mx
import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from moss_tts.atomic import atomic_file
from moss_tts.errors import AudioError

Samples: TypeAlias = npt.NDArray[np.float32]

# Suffix -> container and encoding of files that are written; values beyond full scale are clipped there.
WRITABLE_FORMATS = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
    ".ogg": ("OGG", "VORBIS"),
}
# What is read as a reference at most. A small file can decode to hours, so both limits hold before and
# while it is decoded: one for the prompt's sake, one for memory (512 MiB of float32).
MAX_SECONDS = 600.0
MAX_VALUES = 2**27
MAX_CHANNELS = 8
SAMPLE_RATES = range(100, 768_001)
# Peaks below -80 dB are silence; peaks far above full scale are integers somebody cast to float.
SILENT_PEAK = 1e-4
IMPLAUSIBLE_PEAK = 64.0
TARGET_LOUDNESS_DB = -20.0
MAX_GAIN_DB = 3.0

# Integer PCM -> its zero and its full scale.
_PCM_SCALES = {"uint8": (128, 2**7), "int16": (0, 2**15), "int32": (0, 2**31)}
# libsndfile's frame count for streams whose header does not give their length.
_UNKNOWN_LENGTH = 2**62
# Containers PyAV may open: no playlists, for they name other files and addresses.
_AV_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,aac,matroska,webm,asf,ogg,flac,mp3,wav,aiff,caf,amr,ac3,wv,ape,mpegts"
_WRITE_BLOCK = 1 << 16


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


@contextmanager
def errors_name(name: object) -> Iterator[None]:
    """Put the name of a file or an argument in front of audio errors."""
    try:
        yield
    except AudioError as error:
        raise AudioError(f"{name}: {error}") from error


# ---------------------------------------------------------------------------------------------------- arrays


def as_waveform(samples: object, sample_rate: object, max_seconds: float = MAX_SECONDS) -> Waveform:
    """A waveform from (S,), (C, S) or (S, C), mlx or numpy, float or integer PCM, at a rate in Hz.

    Of two axes the shorter one is the channels. Integers of 8 (unsigned), 16 or 32 bits are scaled.

    Raises:
        AudioError: another type, shape or rate, none or too many samples, or not finite ones.
    """
    rate = check_sample_rate(sample_rate)
    channels = _channels_first(_as_numpy(samples))
    check_length(channels.shape[1], channels.shape[0], rate, max_seconds)
    return Waveform(_as_float(channels), rate)


def check_sample_rate(sample_rate: object) -> int:
    """A sample rate as an int.

    Raises:
        AudioError: no integer, or out of range.
    """
    is_integer = isinstance(sample_rate, int | np.integer) and not isinstance(sample_rate, bool)
    if not is_integer or sample_rate not in SAMPLE_RATES:
        raise AudioError(
            f"a sample rate must be an integer of {SAMPLE_RATES[0]}..{SAMPLE_RATES[-1]} Hz; got {sample_rate!r}"
        )
    return int(sample_rate)  # type: ignore[call-overload]


def check_length(n_samples: int, channels: int, sample_rate: int, max_seconds: float = MAX_SECONDS) -> None:
    """Refuse audio without samples, with too many channels, or longer than is plausible for a reference.

    Raises:
        AudioError: it is one of these.
    """
    if not n_samples or not channels:
        raise AudioError("there are no samples in it")
    if channels > MAX_CHANNELS:
        raise AudioError(f"it has {channels} channels; at most {MAX_CHANNELS} are allowed")
    if n_samples > max_seconds * sample_rate:
        raise AudioError(f"it lasts {n_samples / sample_rate:.0f} s; at most {max_seconds:.0f} s are allowed")
    # Who takes less of it has less memory to spare.
    most = int(MAX_VALUES * min(1.0, max_seconds / MAX_SECONDS))
    if n_samples * channels > most:
        raise AudioError(f"it holds {n_samples * channels} values; at most {most} are allowed")


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


def _as_numpy(samples: object) -> npt.NDArray[Any]:
    if isinstance(samples, mx.array):
        # numpy has no bfloat16.
        is_float = mx.issubdtype(samples.dtype, mx.floating)
        return np.array(samples.astype(mx.float32) if is_float else samples)
    if isinstance(samples, np.ndarray):
        return samples
    raise AudioError(f"a waveform must be an mlx or numpy array; got a {type(samples).__name__}")


def _channels_first(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(S,), (C, S) or (S, C) -> (C, S)."""
    if array.ndim not in (1, 2):
        raise AudioError(f"a waveform must have shape (S,), (C, S) or (S, C); got {array.shape}")
    if array.ndim == 1:
        return array[None]
    channels, n_samples = sorted(array.shape)
    if channels == n_samples and channels > 1:
        raise AudioError(f"a waveform of shape {array.shape} may be (C, S) or (S, C); give more samples than channels")
    return array if array.shape[0] == channels else array.T


def _as_float(array: npt.NDArray[Any]) -> Samples:
    if array.dtype.kind != "f" and array.dtype.name not in _PCM_SCALES:
        raise AudioError(
            f"a waveform must hold floats or integer PCM ({', '.join(_PCM_SCALES)}); got {array.dtype.name}"
        )
    zero, full_scale = _PCM_SCALES.get(array.dtype.name, (0, 1))
    # Values beyond float32 become infinite, which is refused like any other infinity.
    with np.errstate(over="ignore"):
        samples: Samples = ((array - np.float64(zero)) / full_scale).astype(np.float32)
    if not np.isfinite(samples).all():
        raise AudioError("the waveform has samples that are not finite numbers")
    return samples


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
    power = float(np.mean(np.square(samples, dtype=np.float64)))
    gain_db = np.clip(TARGET_LOUDNESS_DB - 10 * np.log10(power + 1e-9), -MAX_GAIN_DB, MAX_GAIN_DB)
    return (samples * 10 ** (gain_db / 20)).astype(np.float32)


# --------------------------------------------------------------------------------------------------- reading


def read_audio(path: str | os.PathLike[str], max_seconds: float = MAX_SECONDS) -> Waveform:
    """Read a file: wav, flac, ogg, mp3 and what else libsndfile knows; m4a, aac, webm and more with PyAV.

    The content decides, not the suffix.

    Raises:
        AudioError: the file cannot be read, is no audio, or is longer than `max_seconds`.
    """
    with errors_name(os.fspath(path)), _opened(path) as stream:
        return _read_stream(stream, max_seconds)


def check_readable(path: str | os.PathLike[str]) -> None:
    """Refuse a file that cannot even be opened, before there is a use for what it holds.

    Raises:
        AudioError: it is not there, a directory, or not ours to read.
    """
    with errors_name(os.fspath(path)), _opened(path):
        pass


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[FileIO]:
    try:
        with Path(path).expanduser().open("rb", buffering=0) as stream:
            yield stream
    except OSError as error:
        raise AudioError(f"cannot be read: {error.strerror or error}") from error


def decode_audio(content: bytes, max_seconds: float = MAX_SECONDS) -> Waveform:
    """Read the content of a file, as `read_audio` does; nothing on disk is looked at.

    Raises:
        AudioError: it is no audio, or longer than `max_seconds`.
    """
    # Unbuffered and without a name: libsndfile reads by the file's number.
    with tempfile.TemporaryFile(buffering=0) as stream:
        stream.write(content)
        stream.seek(0)
        return _read_stream(cast(FileIO, stream), max_seconds)


def _read_stream(stream: FileIO, max_seconds: float) -> Waveform:
    if not stream.read(1):
        raise AudioError("the file is empty")
    stream.seek(0)
    try:
        waveform = _read_with_soundfile(stream, max_seconds)
    except soundfile.LibsndfileError:
        waveform = None
    if waveform is None:
        stream.seek(0)
        waveform = _read_with_av(stream, max_seconds)
    return as_waveform(waveform.samples, waveform.sample_rate, max_seconds)


def _read_with_soundfile(stream: FileIO, max_seconds: float) -> Waveform | None:
    """A waveform, or None where the header does not say how long it is: soundfile drops such a file's end."""
    # By its number, for soundfile takes a file named .raw to be one without a header.
    with soundfile.SoundFile(stream.fileno(), closefd=False) as sound:
        if sound.frames >= _UNKNOWN_LENGTH:
            return None
        check_sample_rate(sound.samplerate)
        check_length(sound.frames, sound.channels, sound.samplerate, max_seconds)
        return Waveform(sound.read(dtype="float32", always_2d=True).T, sound.samplerate)


def _read_with_av(stream: FileIO, max_seconds: float) -> Waveform:
    try:
        import av
    except ImportError as error:
        raise AudioError(
            "not a wav, flac, ogg or mp3 file of known length; other audio needs PyAV: pip install 'moss-tts-mlx[av]'"
        ) from error
    try:
        with av.open(stream, options={"format_whitelist": _AV_CONTAINERS}) as container:
            return _decode_container(container, max_seconds)
    except av.FFmpegError as error:
        raise AudioError(f"not audio that can be decoded: {error.strerror}") from error


def _decode_container(container: Any, max_seconds: float) -> Waveform:
    """The first audio track of an opened file, decoded until it ends or is too long."""
    import av

    track = container.streams.best("audio")
    if track is None:
        raise AudioError("there is no audio track in it")
    rate, channels = track.codec_context.sample_rate, track.codec_context.channels
    check_sample_rate(rate)
    check_length(_announced_samples(container, rate), channels, rate, max_seconds)
    planar = av.AudioResampler(format="fltp", layout=track.codec_context.layout, rate=rate)
    blocks: list[Samples] = []
    n_samples = 0
    for frame in chain(container.decode(track), [None]):
        for block in planar.resample(frame):
            blocks.append(block.to_ndarray())
            n_samples += block.samples
            check_length(n_samples, channels, rate, max_seconds)
    check_length(n_samples, channels, rate, max_seconds)
    return Waveform(np.concatenate(blocks, axis=1), rate)


def _announced_samples(container: Any, rate: int) -> int:
    """What the header says, in samples; one where it is silent."""
    microseconds = container.duration or 0
    return max(1, microseconds * rate // 1_000_000)


# --------------------------------------------------------------------------------------------------- writing


def write_audio(path: str | os.PathLike[str], samples: object, sample_rate: int) -> Path:
    """Write (S,), (C, S) or (S, C) as wav, flac, mp3 or ogg, by the suffix: all of the file, or none of it.

    Returns:
        The file's path.

    Raises:
        AudioError: another suffix, samples that are no waveform, a rate the format does not have, or a
            place that cannot be written to.
    """
    with errors_name(os.fspath(path)):
        content = encode_audio(samples, sample_rate, Path(path).suffix)
        file = Path(path).expanduser()
        try:
            with atomic_file(file) as part:
                part.write_bytes(content)
        except OSError as error:
            raise AudioError(f"cannot be written: {error.strerror or error}") from error
        return file


def encode_audio(samples: object, sample_rate: int, suffix: str) -> bytes:
    """The content of an audio file of (S,), (C, S) or (S, C) samples.

    Raises:
        AudioError: see write_audio.
    """
    if suffix.lower() not in WRITABLE_FORMATS:
        raise AudioError(f"audio is written as {', '.join(WRITABLE_FORMATS)}; got {suffix or 'no suffix'}")
    container, encoding = WRITABLE_FORMATS[suffix.lower()]
    frames = _writable(samples, sample_rate)
    file = io.BytesIO()
    try:
        with soundfile.SoundFile(file, "w", sample_rate, frames.shape[1], encoding, format=container) as sound:
            # Older versions of libsndfile crash on long writes of Vorbis.
            for start in range(0, len(frames), _WRITE_BLOCK):
                sound.write(frames[start : start + _WRITE_BLOCK])
    except soundfile.LibsndfileError as error:
        raise AudioError(
            f"{container} cannot hold {frames.shape[1]} channels at {sample_rate} Hz: {error.error_string}"
        ) from error
    return file.getvalue()


def _writable(samples: object, sample_rate: int) -> Samples:
    """(S, C) float32. What was generated may be as long as it likes."""
    check_sample_rate(sample_rate)
    channels = _channels_first(_as_numpy(samples))
    if not channels.size or channels.shape[0] > MAX_CHANNELS:
        raise AudioError(f"a waveform needs samples and 1..{MAX_CHANNELS} channels; got shape {channels.shape}")
    return np.ascontiguousarray(_as_float(channels).T)
