"""Audio that goes out while it is made: a WAV file that grows, and raw PCM on standard output. Players: players.py.

All of it is 16-bit PCM, little-endian, channels interleaved. A sink is opened with the first chunk, when the rate
and the channels are known.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Sequence
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

import numpy as np

from moss_tts.audio.pcm import MAX_WAV_BYTES, as_pcm, wav_header
from moss_tts.audio.waveform import HasAudio
from moss_tts.errors import AudioError

Result = TypeVar("Result", bound=HasAudio)


class Closed(Exception):
    """The listener has gone."""


class SinkFailedError(AudioError):
    """A sink takes no more audio; the others still do."""


class Sink(Protocol):
    """Takes audio as it is made."""

    def open(self, sample_rate: int, channels: int) -> None:
        """Called once, before the first samples."""
        ...

    def write(self, pcm: bytes) -> None:
        """Take interleaved 16-bit samples.

        Raises:
            Closed: nobody listens any more.
            SinkFailedError: this sink has failed, and the others have not.
            AudioError: they cannot be taken, and without them nothing should go on.
        """
        ...

    def close(self, complete: bool) -> None:
        """Called at the end, whether `open` was called or not, and once more after a failure of any call.

        `complete` is False where the audio is not whole.

        Raises:
            SinkFailedError: this sink has failed.
        """
        ...


class GrowingWav:
    """A WAV file that is complete at any moment.

    Samples are appended first; then the header, which tells how many there are, is written over in one call.
    So a reader, or a crash, finds at worst samples that the header does not count yet.

    Args:
        path: the path of the file.
        mark: its mark; None for none.
    """

    def __init__(self, path: Path, mark: str | None = None) -> None:
        self._path, self._mark = path, mark
        self._file: BinaryIO | None = None
        self._format = (0, 0)
        self._header_bytes = self._data_bytes = 0

    def open(self, sample_rate: int, channels: int) -> None:
        """Create the file, or empty it."""
        self._format = sample_rate, channels
        # Unbuffered: what was written is there for everybody.
        self._file = self._path.open("wb", buffering=0)
        self._header_bytes = self._file.write(wav_header(sample_rate, channels, 0, self._mark))

    def write(self, pcm: bytes) -> None:
        """Append, then count."""
        assert self._file is not None
        if self._data_bytes + len(pcm) + self._header_bytes > MAX_WAV_BYTES:
            raise AudioError(f"{self._path} is full: a WAV holds 4 GiB. Write a longer reading as .flac or .m4b.")
        self._file.seek(self._header_bytes + self._data_bytes)
        self._file.write(pcm)
        self._data_bytes += len(pcm)
        self._file.seek(0)
        self._file.write(wav_header(*self._format, self._data_bytes, self._mark))

    def close(self, complete: bool) -> None:  # noqa: ARG002 - what is there is valid in either case
        """Close the file."""
        if self._file is not None:
            self._file.close()


class PcmPipe:
    """Raw PCM into a pipe.

    Args:
        stream: where to; flushed after each chunk.
        announce: told the rate and the channels, which raw PCM does not say.
    """

    def __init__(self, stream: BinaryIO, announce: Callable[[str], None]) -> None:
        self._stream, self._announce = stream, announce

    def open(self, sample_rate: int, channels: int) -> None:
        """Announce the format."""
        self._announce(pcm_format(sample_rate, channels))

    def write(self, pcm: bytes) -> None:
        """Write through."""
        try:
            self._stream.write(pcm)
            self._stream.flush()
        except BrokenPipeError as error:
            # Python flushes standard output once more at exit, which would fail again.
            with open(os.devnull, "wb") as nothing:
                os.dup2(nothing.fileno(), self._stream.fileno())
            raise Closed from error

    def close(self, complete: bool) -> None:
        """Leave the pipe open: it is not ours."""


def pcm_format(sample_rate: int, channels: int) -> str:
    """What raw PCM does not say itself."""
    layout = "mono" if channels == 1 else f"{channels} channels, interleaved"
    return f"raw PCM: {sample_rate} Hz, {layout}, 16-bit signed little-endian"


def _raise(failure: SinkFailedError) -> None:
    raise failure


def send_on(
    results: Iterable[Result], sinks: Sequence[Sink], on_failed: Callable[[SinkFailedError], None] = _raise
) -> Generator[Result, None, None]:
    """Pass results on, their audio into all sinks on the way.

    Ends early, without an error, when nobody listens any more; the caller closes `results`.

    Args:
        results: what is passed on.
        sinks: where their audio goes.
        on_failed: told of a sink that failed, once; the others still get the audio. By default that is an error.

    Raises:
        AudioError: a sink could not take the audio.
    """
    all_sinks, complete, begun = _Sinks(sinks, on_failed), False, False
    try:
        for result in results:
            if not begun:
                begun = True
                all_sinks.open(result.sample_rate, _channels(result.audio))
            if pcm := as_pcm(result.audio).astype("<i2").tobytes():
                all_sinks.write(pcm)
            yield result
        complete = True
    except Closed:
        return
    finally:
        all_sinks.close(complete)


def _channels(audio: np.ndarray) -> int:
    return 1 if audio.ndim == 1 else int(audio.shape[1])


class _Sinks:
    """Sinks that take the same audio; one that fails is closed and left out from then on."""

    def __init__(self, sinks: Sequence[Sink], on_failed: Callable[[SinkFailedError], None]) -> None:
        self._working, self._on_failed = list(sinks), on_failed

    def open(self, sample_rate: int, channels: int) -> None:
        self._each(lambda sink: sink.open(sample_rate, channels))

    def write(self, pcm: bytes) -> None:
        self._each(lambda sink: sink.write(pcm))

    def close(self, complete: bool) -> None:
        self._each(lambda sink: sink.close(complete))

    def _each(self, act: Callable[[Sink], None]) -> None:
        failures = []
        for sink in list(self._working):
            try:
                act(sink)
            except SinkFailedError as error:
                self._working.remove(sink)
                sink.close(complete=False)
                failures.append(error)
        for failure in failures:
            self._on_failed(failure)
