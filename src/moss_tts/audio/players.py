"""Programs of this machine that play audio while it is made. What they print is kept away from the terminal.

A player that fails is a SinkFailedError with the reason that it gave.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from moss_tts.audio.live_output import Closed, GrowingWav, Sink, SinkFailedError
from moss_tts.audio.pcm import MAX_WAV_BYTES, wav_header
from moss_tts.errors import AudioError

PLAYERS = ("ffplay", "aplay", "afplay")
# ffplay marks its own lines so, and ends with exit code 0 after the second.
MARKED, FATAL = re.compile(r"\[(?:error|fatal)\] "), "[fatal] "
# Lines that list what a sound library tried; none of them is the reason.
OF_A_LIBRARY = "ALSA lib "
MOST_OF_A_REASON = 200
# A player that no longer reads should have ended by then.
PATIENCE_SECONDS = 5.0


def find_player(which: Callable[[str], str | None] = shutil.which) -> Sink:
    """A player of this machine.

    Raises:
        AudioError: there is none.
    """
    found = {name: path for name in PLAYERS if (path := which(name)) is not None}
    if "ffplay" in found:
        return PipedPlayer([found["ffplay"], "-nodisp", "-autoexit", "-loglevel", "level+error", "-i", "pipe:0"])
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
        self._printed: IO[bytes] = io.BytesIO()

    def open(self, sample_rate: int, channels: int) -> None:
        """Start it."""
        self._printed = tempfile.TemporaryFile()  # a file: nobody has to read it while the program runs
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self._printed
        )
        self.write(wav_header(sample_rate, channels, MAX_WAV_BYTES))

    def write(self, pcm: bytes) -> None:
        """Pass it on; waits while the player has enough."""
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(pcm)
            self._process.stdin.flush()
        except BrokenPipeError as error:
            self._check(self._process)
            raise Closed from error

    def close(self, complete: bool) -> None:
        """Let it play to the end, or stop it."""
        try:
            if self._process is not None:
                self._end(self._process, complete)
        finally:
            self._printed.close()

    def _end(self, process: subprocess.Popen[bytes], complete: bool) -> None:
        assert process.stdin is not None
        if not complete:
            process.terminate()
        try:
            process.stdin.close()
        except BrokenPipeError:
            pass  # it no longer reads
        process.wait()
        if complete:
            self._check(process)

    def _check(self, process: subprocess.Popen[bytes]) -> None:
        """Refuse an end that is a failure."""
        try:
            code = process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            return
        self._printed.seek(0)
        check_end(self._command[0], code, self._printed.read())


class FilePlayer:
    """A program that plays files only: it gets everything at the end."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._file: Path | None = None
        self._wav: GrowingWav | None = None

    def open(self, sample_rate: int, channels: int) -> None:
        """Begin the file."""
        self._file = Path(tempfile.mkdtemp(prefix="moss-tts-")) / "speech.wav"
        self._wav = GrowingWav(self._file)
        self._wav.open(sample_rate, channels)

    def write(self, pcm: bytes) -> None:
        """Lengthen it."""
        assert self._wav is not None
        self._wav.write(pcm)

    def close(self, complete: bool) -> None:
        """Play it."""
        if self._file is None or self._wav is None:
            return
        self._wav.close(complete)
        try:
            if complete:
                ended = subprocess.run([*self._command, str(self._file)], check=False, capture_output=True)
                check_end(self._command[0], ended.returncode, ended.stderr)
        finally:
            shutil.rmtree(self._file.parent, ignore_errors=True)


def check_end(program: str, code: int, printed: bytes) -> None:
    """Tell how a player has ended.

    Args:
        program: its path.
        code: its exit code.
        printed: what it wrote to standard error.

    Raises:
        SinkFailedError: it failed; with the reason.
    """
    lines = [line.strip() for line in printed.decode(errors="replace").splitlines()]
    if code == 0 and not any(line.startswith(FATAL) for line in lines):
        return
    own = [line for line in lines if line and not line.startswith(OF_A_LIBRARY)]
    marked = [MARKED.sub("", line) for line in own if MARKED.match(line)]
    reason = next(iter(marked or own), f"it ended with exit code {code}")[:MOST_OF_A_REASON]
    raise SinkFailedError(f"{Path(program).name} could not play the audio: {reason.rstrip('.')}.")
