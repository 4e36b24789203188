"""The libraries that decode audio files: libsndfile here, PyAV in av_process.py for other files.

A file may be damaged, or its header may lack the length, as in streams: the existing samples are read, and the log says
what is missing. Every failure of a library becomes an AudioError.
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

import numpy as np
import soundfile

from moss_tts.audio.av_process import read_with_av
from moss_tts.audio.quiet import quiet_libraries
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


def decode(stream: FileIO, name: str, max_seconds: float) -> Waveform:
    """The waveform of an opened file.

    Args:
        stream: the file, without a buffer: libraries read by its number.
        name: the name of the file, for the log.
        max_seconds: longer audio is refused.

    Raises:
        AudioError: it is not audio, it is longer than `max_seconds`, or its decoder failed.
    """
    try:
        with quiet_libraries():
            return _decoded(stream, name, max_seconds)
    except AudioError:
        raise
    except Exception as error:
        raise AudioError("not audio that can be decoded: its decoder failed") from error


def _decoded(stream: FileIO, name: str, max_seconds: float) -> Waveform:
    found = _read_with_soundfile(stream, name, max_seconds)
    if found.waveform is None:
        return read_with_av(stream, name, max_seconds)
    return found.waveform if found.is_whole else _longer(found.waveform, stream, name, max_seconds)


def _longer(part: Waveform, stream: FileIO, name: str, max_seconds: float) -> Waveform:
    """The longer waveform of a damaged file: libsndfile's part, or PyAV's, which continues after the damage."""
    try:
        other = read_with_av(stream, name, max_seconds)
    except AudioError:
        other = part
    longer = max(part, other, key=lambda waveform: waveform.seconds)
    log.warning("%s: it is damaged or cut off; %.2f s of it were read", name, longer.seconds)
    return longer


# ------------------------------------------------------------------------------------------------- libsndfile


@dataclass(frozen=True)
class _Found:
    """What libsndfile read of a file: nothing, or a waveform, and whether that is all that the file says it holds."""

    waveform: Waveform | None
    is_whole: bool


class _ForwardOnly(soundfile.SoundFile):
    """A file that is read from its front to its end.

    soundfile seeks after each read. Some formats cannot (GSM 6.10, G.721), some fail to (DWVW), and streams of unknown
    length lose their end by it.
    """

    def seekable(self) -> bool:
        """Always false: the file is read from front to end."""
        return False


def _read_with_soundfile(stream: FileIO, name: str, max_seconds: float) -> _Found:
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


def _read_sound(file: int, max_seconds: float) -> _Found:
    try:
        with _ForwardOnly(file, closefd=False) as sound:
            check_sample_rate(sound.samplerate)
            announced = sound.frames if 0 < sound.frames < _UNKNOWN_LENGTH else 1
            check_length(announced, sound.channels, sound.samplerate, max_seconds)
            samples = _all_of(sound, max_seconds)
            rate = int(sound.samplerate)
    except soundfile.LibsndfileError:
        return _Found(None, False)
    if samples is None:
        return _Found(None, False)
    return _Found(Waveform(samples, rate), samples.shape[1] >= (1 - _LENGTH_TOLERANCE) * announced)


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
