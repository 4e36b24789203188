"""Audio files: reading and writing. decoders.py knows the formats.

Letters: C channels, S samples per channel.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Literal, TypeAlias, cast

import numpy as np
import soundfile

from moss_tts.atomic import atomic_file, expanded, open_regular
from moss_tts.audio.decoders import decode
from moss_tts.audio.marking import mark_of
from moss_tts.audio.ogg import fix_serial
from moss_tts.audio.pcm import Pcm
from moss_tts.audio.waveform import (
    MAX_CHANNELS,
    MAX_SECONDS,
    HasAudio,
    Samples,
    Waveform,
    as_float,
    as_numpy,
    as_waveform,
    channels_first,
    check_sample_rate,
    errors_name,
)
from moss_tts.errors import AudioError

# Suffix -> container and encoding of files that are written; values beyond full scale are clipped there.
WRITABLE_FORMATS = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
    ".ogg": ("OGG", "VORBIS"),
}
AudioFormat: TypeAlias = Literal["wav", "flac", "mp3", "ogg"]
_WRITE_BLOCK = 1 << 16

# --------------------------------------------------------------------------------------------------- reading


def read_audio(path: str | os.PathLike[str], max_seconds: float = MAX_SECONDS) -> Waveform:
    """Read a file: wav, flac, ogg, mp3 and what else libsndfile knows; m4a, aac, webm and more with PyAV.

    The content decides, not the suffix.

    Raises:
        AudioError: the file cannot be read, is no audio, or is longer than `max_seconds`.
    """
    with errors_name(os.fspath(path)), _opened(path) as stream:
        return _read_stream(stream, os.fspath(path), max_seconds)


def check_readable(path: str | os.PathLike[str]) -> None:
    """Refuse a file that cannot be opened, before its content is needed.

    Raises:
        AudioError: it does not exist, is a directory, or may not be read.
    """
    with errors_name(os.fspath(path)), _opened(path):
        pass


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[FileIO]:
    try:
        with open_regular(expanded(path)) as stream:
            yield stream
    except OSError as error:
        raise AudioError(f"cannot be read: {error.strerror or error}") from error


def decode_audio(content: bytes, max_seconds: float = MAX_SECONDS) -> Waveform:
    """Read the content of a file from memory, as `read_audio` reads a file.

    Raises:
        AudioError: it is no audio, or longer than `max_seconds`.
    """
    # Unbuffered and without a name: libsndfile reads by the file's number.
    with tempfile.TemporaryFile(buffering=0) as stream:
        stream.write(content)
        stream.seek(0)
        return _read_stream(cast(FileIO, stream), "the recording", max_seconds)


def _read_stream(stream: FileIO, name: str, max_seconds: float) -> Waveform:
    if not stream.read(1):
        raise AudioError("the file is empty")
    waveform = decode(stream, name, max_seconds)
    return as_waveform(waveform.samples, waveform.sample_rate, max_seconds)


# --------------------------------------------------------------------------------------------------- writing


def write_audio(
    path: str | os.PathLike[str], audio: object, sample_rate: int | None = None, *, mark: str | bool | None = None
) -> Path:
    """Write a file as wav, flac, mp3 or ogg, by the suffix: all of the file, or none of it.

    Args:
        path: the file; one that is there is replaced.
        audio: a Speech, a GenerationResult, several results in order (the iterator that generate returns too), or
            samples (S,), (C, S) or (S, C).
        sample_rate: the rate of samples, in Hz; results have their own.
        mark: the comment in the file, or whether it says that the audio is synthetic. By default that is said of
            results, and not of bare samples, which can be anybody's.

    Returns:
        The file's path.

    Raises:
        AudioError: another suffix, samples that are no waveform or come without their rate, a rate the format does
            not have, or a place that cannot be written to.
    """
    with errors_name(os.fspath(path)):
        check_writable(Path(path).suffix)
        results, samples, rate = _rated_samples(audio, sample_rate)
        usual = mark_of() if (results if mark is None else mark) else None
        content = encode_audio(samples, rate, Path(path).suffix, mark if isinstance(mark, str) else usual)
        file = expanded(path)
        try:
            with atomic_file(file) as part:
                part.write_bytes(content)
        except OSError as error:
            raise AudioError(f"cannot be written: {error.strerror or error}") from error
        return file


def write_pieces(
    path: Path, pieces: Iterable[Pcm], sample_rate: int, channels: int, tags: Mapping[str, str | None]
) -> None:
    """Write 16-bit samples, (S,) or (S, C), piece by piece as wav, flac, mp3 or ogg: all of the file, or none of it.

    Args:
        path: the file; one that is there is replaced.
        pieces: the samples.
        sample_rate: their rate in Hz.
        channels: C.
        tags: the name of a tag, such as title or comment -> its text; None leaves it out.

    Raises:
        AudioError: another suffix, a rate or channels that the format does not have, or a place that cannot be
            written to.
    """
    with errors_name(str(path)):
        check_writable(path.suffix)
        try:
            with atomic_file(path) as part:
                _encode(part, pieces, sample_rate, channels, path.suffix, tags)
                if path.suffix.lower() == ".ogg":
                    with part.open("r+b") as written:
                        fix_serial(written)
        except (OSError, soundfile.LibsndfileError) as error:
            raise AudioError(f"cannot be written: {error}") from error


def _rated_samples(audio: object, sample_rate: int | None) -> tuple[bool, object, int]:
    """Whether they are of results or a bare waveform; the samples, and their rate."""
    results = [audio] if isinstance(audio, HasAudio) else _results(audio)
    if results:
        rates = {result.sample_rate for result in results} | ({sample_rate} if sample_rate is not None else set())
        if len(rates) > 1:
            raise AudioError(
                f"a file has one sample rate, but the results have {' and '.join(map(str, sorted(rates)))} Hz"
            )
        return True, np.concatenate([result.audio for result in results]), results[0].sample_rate
    if sample_rate is None:
        raise AudioError("samples need their sample_rate, such as write_audio(path, samples, 24000)")
    return False, audio, sample_rate


def _results(audio: object) -> list[HasAudio]:
    """The results in an iterator or a list; none where it holds something else."""
    if isinstance(audio, Iterator):
        audio = list(audio)
        if not audio:
            raise AudioError("there is nothing to write: the iterator of results has no more results")
    given = audio if isinstance(audio, list | tuple) else []
    return list(given) if all(isinstance(item, HasAudio) for item in given) else []


def check_writable(suffix: str) -> None:
    """Refuse a suffix that no format has.

    Raises:
        AudioError: see write_audio.
    """
    if suffix.lower() not in WRITABLE_FORMATS:
        raise AudioError(f"audio is written as {', '.join(WRITABLE_FORMATS)}; got {suffix or 'no suffix'}")


def encode_audio(samples: object, sample_rate: int, suffix: str, mark: str | None = None) -> bytes:
    """The content of an audio file of (S,), (C, S) or (S, C) samples, with a comment if there is one.

    Raises:
        AudioError: see write_audio.
    """
    check_writable(suffix)
    frames, file = _writable(samples, sample_rate), io.BytesIO()
    try:
        _encode(file, [frames], sample_rate, frames.shape[1], suffix, {"comment": mark})
    except soundfile.LibsndfileError as error:
        container, _ = WRITABLE_FORMATS[suffix.lower()]
        raise AudioError(
            f"{container} cannot hold {frames.shape[1]} channels at {sample_rate} Hz: {error.error_string}"
        ) from error
    if suffix.lower() == ".ogg":
        fix_serial(file)
    return file.getvalue()


def _encode(
    file: Path | io.BytesIO,
    pieces: Iterable[np.ndarray],
    sample_rate: int,
    channels: int,
    suffix: str,
    tags: Mapping[str, str | None],
) -> None:
    """Write pieces of samples, (S,) or (S, C), into a file."""
    container, encoding = WRITABLE_FORMATS[suffix.lower()]
    with soundfile.SoundFile(file, "w", sample_rate, channels, encoding, format=container) as sound:
        for name, text in tags.items():
            if text is not None:
                setattr(sound, name, text)
        for piece in pieces:
            # Older versions of libsndfile crash on long writes of Vorbis.
            for start in range(0, len(piece), _WRITE_BLOCK):
                sound.write(piece[start : start + _WRITE_BLOCK])


def _writable(samples: object, sample_rate: int) -> Samples:
    """(S, C) float32 of any length: generated audio has no limit."""
    check_sample_rate(sample_rate)
    channels = channels_first(as_numpy(samples))
    if not channels.size or channels.shape[0] > MAX_CHANNELS:
        raise AudioError(f"a waveform needs samples and 1..{MAX_CHANNELS} channels; got shape {channels.shape}")
    return np.ascontiguousarray(as_float(channels).T)
