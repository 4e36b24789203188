"""The libraries that decode audio files: libsndfile, and PyAV for what libsndfile does not know.

A file may be damaged, or its header may be silent about its length, as those of streams are: what is there is read,
and the log says what is not.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from itertools import chain, groupby
from typing import Any

import numpy as np
import soundfile

from moss_tts.audio.waveform import MAX_VALUES, Samples, Waveform, check_length, check_sample_rate
from moss_tts.errors import AudioError

log = logging.getLogger(__name__)

# libsndfile's frame count for streams without a length in their header.
_UNKNOWN_LENGTH = 2**62
_READ_BLOCK = 1 << 18
# No header is longer, and no encoding has more bytes per value.
_HEADER_BYTES = 1 << 16
_MOST_BYTES = 8 * MAX_VALUES + _HEADER_BYTES
# Formats that estimate their length before it is known, such as mp3, are this exact.
_LENGTH_TOLERANCE = 0.01
# Containers PyAV may open: no playlists, for they name other files and addresses.
_AV_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,aac,matroska,webm,asf,ogg,flac,mp3,wav,aiff,caf,amr,ac3,wv,ape,mpegts"


@dataclass(frozen=True)
class Found:
    """What a library read of a file: nothing, or a waveform, and whether that is all that the file says it holds."""

    waveform: Waveform | None
    is_whole: bool


# ------------------------------------------------------------------------------------------------- libsndfile


class _ForwardOnly(soundfile.SoundFile):
    """A file that is read from its front to its end.

    soundfile seeks after each read. Some formats cannot (GSM 6.10, G.721), some fail to (DWVW), and streams of unknown
    length lose their end by it.
    """

    def seekable(self) -> bool:
        """It need not be."""
        return False


def read_with_soundfile(stream: FileIO, name: str, max_seconds: float) -> Found:
    """What libsndfile reads of a file.

    Raises:
        AudioError: it is longer than `max_seconds`, or not what is allowed.
    """
    stream.seek(0)
    # By its number, for soundfile takes a file named .raw to be one without a header.
    found = _read_sound(stream.fileno(), max_seconds)
    if found.waveform is not None:
        return found
    with _without_length(stream) as copy:
        found = found if copy is None else _read_sound(copy, max_seconds)
    if found.waveform is not None:
        log.warning("%s: its header does not say how long it is; all that follows it was read", name)
    return found


def _read_sound(file: int, max_seconds: float) -> Found:
    try:
        with _ForwardOnly(file, closefd=False) as sound:
            check_sample_rate(sound.samplerate)
            announced = sound.frames if 0 < sound.frames < _UNKNOWN_LENGTH else 1
            check_length(announced, sound.channels, sound.samplerate, max_seconds)
            samples = _all_of(sound, max_seconds)
            rate = int(sound.samplerate)
    except soundfile.LibsndfileError:
        return Found(None, False)
    if samples is None:
        return Found(None, False)
    return Found(Waveform(samples, rate), samples.shape[1] >= (1 - _LENGTH_TOLERANCE) * announced)


def _all_of(sound: soundfile.SoundFile, max_seconds: float) -> Samples | None:
    """(C, S) of an opened file, whatever its header says of its length; None where nothing follows."""
    blocks: list[Samples] = []
    n_samples = 0
    while len(block := sound.read(_READ_BLOCK, dtype="float32", always_2d=True)):
        blocks.append(block.T)
        n_samples += len(block)
        check_length(n_samples, sound.channels, sound.samplerate, max_seconds)
    return np.concatenate(blocks, axis=1) if blocks else None


@contextmanager
def _without_length(stream: FileIO) -> Iterator[int | None]:
    """The number of a copy without a length in its header; None for other kinds of files, and for far too long ones."""
    stream.seek(0)
    head = _open_ended(stream.read(_HEADER_BYTES) or b"")
    if head is None or os.fstat(stream.fileno()).st_size > _MOST_BYTES:
        yield None
        return
    # libsndfile reads it by its number: soundfile prints a traceback where a seek in an object of Python's fails.
    with tempfile.TemporaryFile() as copy:
        copy.write(head)
        shutil.copyfileobj(stream, copy)
        copy.flush()
        copy.seek(0)
        yield copy.fileno()


def _open_ended(head: bytes) -> bytes | None:
    """A header that says that its samples go on to the end of the file; None for other kinds of files.

    What writes to a pipe cannot go back to put the length into the header: it stays 0, or -1.
    """
    match head[:4], head[8:12]:
        case ((b"RIFF" | b"RF64" | b"BW64"), b"WAVE"):
            # libsndfile's own rule: where this size is 8, data of size 0 or -1 end with the file.
            return b"RIFF" + (8).to_bytes(4, "little") + head[8:]
        case b".snd", _:
            return head[:8] + b"\xff" * 4 + head[12:]
        case b"FORM", (b"AIFF" | b"AIFC") if (start := head.find(b"SSND") + 4) > 4:
            return head[:start] + bytes(4) + head[start + 4 :]
    return None


# -------------------------------------------------------------------------------------------------------- PyAV


def read_with_av(stream: FileIO, name: str, max_seconds: float) -> Waveform:
    """A waveform of a file of any container that audio comes in.

    Raises:
        AudioError: it cannot be decoded, it is longer than `max_seconds`, or PyAV is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise AudioError(
            "not a wav, flac, ogg or mp3 file that is whole; other audio needs PyAV: pip install 'moss-tts-mlx[av]'"
        ) from error
    stream.seek(0)
    # Names and titles are of no interest here, whatever they are written in.
    options = {"format_whitelist": _AV_CONTAINERS, "protocol_whitelist": "fd", "fd": str(stream.fileno())}
    try:
        # By its number too: PyAV prints a traceback where ffmpeg seeks in vain through Python.
        with av.open("fd:", options=options, metadata_errors="ignore") as container:
            return _decode_container(container, name, max_seconds)
    except av.FFmpegError as error:
        raise AudioError(f"not audio that can be decoded: {error.strerror}") from error


def _decode_container(container: Any, name: str, max_seconds: float) -> Waveform:
    """The first audio track of an opened file, decoded until it ends or is too long."""
    track = container.streams.best("audio")
    if track is None:
        raise AudioError("there is no audio track in it")
    codec = track.codec_context
    if codec is None:
        raise AudioError("not audio that can be decoded: its encoding is not known")
    if codec.sample_rate:
        announced = max(1, (container.duration or 0) * codec.sample_rate // 1_000_000)
        check_length(announced, codec.channels, check_sample_rate(codec.sample_rate), max_seconds)
    blocks: list[Samples] = []
    n_samples, rate = 0, 0
    for block in _planar(_frames(container, track, name)):
        blocks.append(block.to_ndarray())
        n_samples, rate = n_samples + block.samples, check_sample_rate(block.sample_rate)
        check_length(n_samples, len(blocks[0]), rate, max_seconds)
    if not blocks:
        raise AudioError("there are no samples in it")
    return Waveform(np.concatenate(blocks, axis=1), rate)


def _frames(container: Any, track: Any, name: str) -> Iterator[Any]:
    """All frames of a track that can be decoded; damaged ones are left out."""
    import av

    damaged = 0
    for packet in container.demux(track):
        try:
            yield from packet.decode()
        except av.InvalidDataError:
            damaged += 1
    if damaged:
        log.warning("%s: it is damaged; %d parts of it were left out", name, damaged)


def _planar(frames: Iterator[Any]) -> Iterator[Any]:
    """Frames as float32, a row per channel, all at the rate and with the channels of the first one."""
    import av

    target: dict[str, Any] = {}
    for _, alike in groupby(frames, key=lambda frame: (frame.format.name, frame.layout.name, frame.sample_rate)):
        first = next(alike)
        target = target or {"format": "fltp", "layout": first.layout, "rate": first.sample_rate}
        resampler = av.AudioResampler(**target)
        for frame in chain([first], alike, [None]):
            yield from resampler.resample(frame)
