"""Texts on a host that others use as well: one thread waits for each, and computes nothing.

Of a long text, the narrator of narration.py decides what is spoken next; its segments join the batch like other jobs.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, replace
from typing import Any

from moss_tts.request import MossNormalizedRequest
from moss_tts.speaking.driving import speak_one
from moss_tts.speaking.engine import Run, SpeechChunk, SpeechJob
from moss_tts.speaking.jobs import JobMaker
from moss_tts.speaking.listening import Host, Result
from moss_tts.speaking.narration import Narrator, SpeechBackend

Due = tuple[Run, Result]
# Audio is made of the segment that is asked for and of this many after it; the others wait as codes.
SEGMENTS_AHEAD = 1


@dataclass(frozen=True)
class SegmentChunk(SpeechChunk):
    """A chunk of a text that may have several segments.

    Attributes:
        segment: the place of its segment in the plan.
    """

    segment: int = 0


class SharedEngine:
    """A thread's access to the batch of a host, which others share.

    Args:
        host: speaks.
        gone: set when the client has gone.
    """

    def __init__(self, host: Host, gone: threading.Event) -> None:
        self._host, self._gone = host, gone
        self._due: queue.SimpleQueue[Due | None] = queue.SimpleQueue()
        self._submitted: dict[Run, Future[Run]] = {}

    def submit(self, job: SpeechJob) -> Run:
        """Queue a job."""
        future = self._host.submit(lambda: job, lambda run, result: self._due.put((run, result)))
        run = future.result()
        self._submitted[run] = future
        return run

    def step(self) -> list[Due]:
        """Wait until something is due.

        Raises:
            CancelledError: nobody waits for it any more. Narrators try again after any other error.
        """
        if self._due.empty():
            # The segment that is asked for may have had to wait for its turn.
            self._host.wake()
        due = None if self._gone.is_set() else self._due.get()
        if due is None or self._gone.is_set():
            raise CancelledError
        return [due]

    def drop(self, run: Run) -> None:
        """Forget a job."""
        if run in self._submitted:
            self._host.drop(self._submitted.pop(run))

    def wake(self) -> None:
        """Let `step` look at whether anybody still waits."""
        self._due.put(None)


class HostedText:
    """A text being spoken, for the thread that waits for it.

    Args:
        host: speaks.
        model: makes the jobs.
        request: what is spoken.
        is_heard: whether its client has taken nearly all of its audio.
    """

    def __init__(
        self, host: Host, model: JobMaker, request: MossNormalizedRequest, is_heard: Callable[[], bool]
    ) -> None:
        self._host, self._model, self._request, self._is_heard = host, model, request, is_heard
        self._gone = threading.Event()
        self._engines: list[SharedEngine] = []

    def chunks(self) -> Generator[SegmentChunk, None, None]:
        """The text's audio as it is made.

        Raises:
            CancelledError: `cancel` was called.
            MossTTSError: a reference that cannot be used, or a segment that failed.
        """
        for segment, chunk in self._in_one_piece() if self._request.long_form is None else self._in_segments():
            yield SegmentChunk(**vars(chunk), segment=segment)

    def _in_one_piece(self) -> Iterator[tuple[int, SpeechChunk]]:
        job = self._on_device(lambda: self._model.job(self._request, self._gone))
        return ((0, chunk) for chunk in speak_one(self._engine(1), replace(job, is_heard=self._is_heard)))

    def _in_segments(self) -> Iterator[tuple[int, SpeechChunk]]:
        narrator: Narrator = self._on_device(self._narrator)
        return narrator.run()

    def cancel(self) -> None:
        """End it within a frame; from any thread."""
        self._gone.set()
        for engine in list(self._engines):
            engine.wake()

    def _narrator(self) -> Narrator:
        return self._model.narrator(self._request, cancel=self._gone, change_backend=self._change_backend)

    def _change_backend(self, backend: SpeechBackend) -> SpeechBackend:
        make = backend.job
        return replace(
            backend,
            job=lambda part: replace(self._on_device(lambda: make(part)), owner=self),
            engine=self._engine,
            is_heard=lambda places: places <= SEGMENTS_AHEAD and self._is_heard(),
        )

    def _engine(self, _at_once: int) -> SharedEngine:
        # Each attempt at a segment has an engine; those before it get nothing more.
        self._engines = [SharedEngine(self._host, self._gone)]
        return self._engines[0]

    def _on_device(self, work: Callable[[], Any]) -> Any:
        if self._gone.is_set():
            raise CancelledError
        return self._host.call(work).result()
