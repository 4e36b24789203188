"""Audio that goes out while it is made: a WAV file that grows, raw PCM on standard output, a player.

All of it is 16-bit PCM, little-endian, channels interleaved. A sink is opened with the first chunk, when the rate
and the channels are known.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Generator, Iterable, Sequence
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from moss_tts.audio.pcm import MAX_WAV_BYTES, WAV_HEADER, as_pcm, wav_header
from moss_tts.audio.waveform import HasAudio
from moss_tts.errors import AudioError

Result = TypeVar("Result", bound=HasAudio)


class Closed(Exception):
    """Whoever was listening has gone."""


class Sink(Protocol):
    """Takes audio as it is made."""

    def open(self, sample_rate: int, channels: int) -> None:
        """Called once, before the first samples."""
        ...

    def write(self, pcm: bytes) -> None:
        """Take interleaved 16-bit samples.

        Raises:
            Closed: nobody listens any more.
            AudioError: they cannot be taken.
        """
        ...

    def close(self, complete: bool) -> None:
        """Called once at the end, after a failed `open` too; `complete` is False where the audio is not whole."""
        ...


class GrowingWav:
    """A WAV file that is complete at any moment.

    Samples are appended first; then the header, which tells how many there are, is written over in one call.
    So a reader, or a crash, finds at worst samples that the header does not count yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._format = (0, 0)
        self._data_bytes = 0

    def open(self, sample_rate: int, channels: int) -> None:
        """Create the file, or empty it."""
        self._format = sample_rate, channels
        # Unbuffered: what was written is there for everybody.
        self._file = self._path.open("wb", buffering=0)
        self._file.write(wav_header(sample_rate, channels, 0))

    def write(self, pcm: bytes) -> None:
        """Append, then count."""
        assert self._file is not None
        if self._data_bytes + len(pcm) + WAV_HEADER.size > MAX_WAV_BYTES:
            raise AudioError(f"{self._path} is full: a WAV holds 4 GiB. Write a longer reading as .flac or .m4b.")
        self._file.seek(WAV_HEADER.size + self._data_bytes)
        self._file.write(pcm)
        self._data_bytes += len(pcm)
        self._file.seek(0)
        self._file.write(wav_header(*self._format, self._data_bytes))

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


PLAYERS = ("ffplay", "aplay", "afplay")


def find_player(which: Callable[[str], str | None] = shutil.which) -> Sink:
    """A player of this machine.

    Raises:
        AudioError: there is none.
    """
    found = {name: path for name in PLAYERS if (path := which(name)) is not None}
    if "ffplay" in found:
        return PipedPlayer([found["ffplay"], "-nodisp", "-autoexit", "-loglevel", "error", "-i", "pipe:0"])
    if "aplay" in found:
        return PipedPlayer([found["aplay"], "-q", "-t", "wav", "-"])
    if "afplay" in found:
        return FilePlayer([found["afplay"]])
    raise AudioError(
        f"no player found: looked for {', '.join(PLAYERS)}. Install FFmpeg, or pipe the audio into a player "
        "of your own with --output -."
    )


class PipedPlayer:
    """A program that plays the WAV on its standard input while it comes in."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None

    def open(self, sample_rate: int, channels: int) -> None:
        """Start it."""
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE)
        self.write(wav_header(sample_rate, channels, MAX_WAV_BYTES))

    def write(self, pcm: bytes) -> None:
        """Pass it on; waits while the player has enough."""
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(pcm)
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise Closed from error

    def close(self, complete: bool) -> None:
        """Let it play to the end, or stop it."""
        if self._process is None or self._process.stdin is None:
            return
        if not complete:
            self._process.terminate()
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            pass  # it was closed by its user
        self._process.wait()


class FilePlayer:
    """A program that plays files only: it gets everything at the end."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._directory = tempfile.TemporaryDirectory(prefix="moss-tts-")
        self._file = Path(self._directory.name) / "speech.wav"
        self._wav = GrowingWav(self._file)

    def open(self, sample_rate: int, channels: int) -> None:
        """Begin the file."""
        self._wav.open(sample_rate, channels)

    def write(self, pcm: bytes) -> None:
        """Lengthen it."""
        self._wav.write(pcm)

    def close(self, complete: bool) -> None:
        """Play it."""
        self._wav.close(complete)
        if complete and self._file.exists():
            subprocess.run([*self._command, str(self._file)], check=False)
        self._directory.cleanup()


def send_on(results: Iterable[Result], sinks: Sequence[Sink]) -> Generator[Result, None, None]:
    """Pass results on, their audio into all sinks on the way.

    Ends early, without an error, when nobody listens any more; the caller closes `results`.

    Raises:
        AudioError: a sink could not take the audio.
    """
    opened: list[Sink] = []
    complete = False
    try:
        for result in results:
            for sink in () if opened else sinks:
                opened.append(sink)  # closed even when opening fails half-way: a player may die at once
                sink.open(result.sample_rate, _channels(result.audio))
            _write(result.audio, opened)
            yield result
        complete = True
    except Closed:
        return
    finally:
        for sink in opened:
            sink.close(complete)


def _channels(audio: np.ndarray) -> int:
    return 1 if audio.ndim == 1 else int(audio.shape[1])


def _write(audio: npt.ArrayLike, sinks: Sequence[Sink]) -> None:
    pcm = as_pcm(audio).astype("<i2").tobytes()
    if pcm:
        for sink in sinks:
            sink.write(pcm)
