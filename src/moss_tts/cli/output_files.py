"""Results of a generation, kept until its end, a failure or Ctrl-C.

The first Ctrl-C asks the model to stop, which it does within a frame, so that no decoded audio is lost; the
second one interrupts at once.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

import numpy as np

from moss_tts.errors import MossTTSError
from moss_tts.frames import FinishReason
from moss_tts.result import GenerationResult
from moss_tts.subtitles.cues import Cue


@dataclass(frozen=True)
class Recording:
    """Consecutive results.

    Attributes:
        results: the results in order.
        finish_reason: also "cancelled" if Ctrl-C ended generation.
        failure: the error that ended it, if any.
    """

    results: tuple[GenerationResult, ...]
    finish_reason: FinishReason | None
    failure: MossTTSError | None = None

    @property
    def audio(self) -> np.ndarray:
        """All samples, (S,) or (S, C); none where nothing was decoded."""
        return np.concatenate([result.audio for result in self.results] or [np.zeros(0, np.float32)])

    @property
    def cues(self) -> list[Cue]:
        """Its segments with their times."""
        return [cue for result in self.results for cue in result.cues]

    @property
    def seconds(self) -> float:
        """Length of the audio."""
        return sum(result.samples / result.sample_rate for result in self.results)

    @property
    def compute_seconds(self) -> float:
        """Seconds of computing."""
        return sum(result.processing_time_seconds for result in self.results)

    @property
    def is_complete(self) -> bool:
        """Whether generation ended by itself."""
        return self.finish_reason not in (None, "cancelled")

    @property
    def real_time_factor(self) -> float:
        """Seconds of audio per second of compute."""
        return self.seconds / self.compute_seconds if self.compute_seconds else 0.0


def record(results: Iterable[GenerationResult], show: Callable[[Recording], None]) -> Recording:
    """Keep results until they end, fail or are interrupted; `show` sees the recording grow."""
    recording = Recording((), None)
    try:
        for result in results:
            recording = Recording((*recording.results, result), result.finish_reason)
            show(recording)
    except KeyboardInterrupt:
        return Recording(recording.results, "cancelled")
    except MossTTSError as error:
        return Recording(recording.results, None, error)
    return recording


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets; afterwards Ctrl-C means what it meant before."""
    event = threading.Event()
    before = signal.getsignal(signal.SIGINT)

    def on_interrupt(_number: int, _frame: FrameType | None) -> None:
        event.set()
        signal.signal(signal.SIGINT, before)

    # Started with nohup, a process ignores Ctrl-C, and goes on doing so.
    if before is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)
