"""Attempts at segments: one segment after the other, or several side by side, each until it succeeds.

After an attempt that raised, gave no sound, or was cut short by a budget or for silence, another one follows with
another seed. The last attempt counts even if it was cut short. Where attempts are heard, another one follows after one
that was misspoken, and the one with the fewest errors counts.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import mlx.core as mx

from moss_tts.device.memory import release_memory
from moss_tts.errors import GenerationError, MossTTSError
from moss_tts.frames import FinishReason
from moss_tts.speaking.checking import Take, best
from moss_tts.speaking.driving import Engine, speak_one
from moss_tts.speaking.engine import Run, SpeechChunk, SpeechJob

# Errors after which another seed may succeed; MLX raises RuntimeError.
RETRYABLE: Final = (MossTTSError, RuntimeError)
# Finish reasons of speech that did not reach the end of its text, and where it ended then, for people.
CUT_SHORT: Final[Mapping[FinishReason, str]] = {
    "length": "at its limit",
    "silence": "because the model stayed silent",
}

# Makes the job of an attempt at a segment; both numbers count from 0.
MakeJob = Callable[[int, int], SpeechJob]
# Makes an engine for this many jobs at a time.
MakeEngine = Callable[[int], Engine]


@dataclass(frozen=True)
class Limits:
    """How often a segment is repeated.

    Attributes:
        retries: how many attempts may fail before the last one.
        hear: hears an attempt at a segment, by its number; None where nothing is checked.
        is_enough: whether no further attempt follows after those that were heard.
    """

    retries: int
    hear: Callable[[int, Sequence[SpeechChunk]], Take] | None = None
    is_enough: Callable[[Sequence[Take]], bool] = lambda _: True


@dataclass(eq=False)
class Attempts:
    """The attempts at one segment, until one of them counts.

    Attributes:
        index: the number of the segment.
        chunks: the audio of the attempt that counts, possibly while it is made.
        retries: attempts after the first one; known when the first chunk comes.
        takes: those that were heard.
        started: perf_counter at the first attempt.
        failures: those that raised an error or were cut short.
        kept: the best audio so far.
    """

    index: int
    chunks: Iterable[SpeechChunk] = ()
    retries: int = 0
    takes: list[Take] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)
    failures: int = 0
    kept: list[SpeechChunk] = field(default_factory=list)

    def fails_again(self, limits: Limits) -> bool:
        """Note an attempt that failed; whether another one follows."""
        if self.failures >= limits.retries:
            return False
        self.failures += 1
        self.retries += 1
        return True

    def goes_on_after(self, error: Exception, limits: Limits) -> bool:
        """Note an attempt that raised an error; whether another one follows.

        Raises:
            GenerationError: none follows, and no earlier one counts.
        """
        if self.fails_again(limits):
            return True
        if self.kept:
            return False
        tries = "its only attempt" if self.retries == 0 else f"all {self.retries + 1} attempts"
        raise GenerationError(f"segment {self.index} failed {tries}: {error}") from error

    def goes_on(self, chunks: list[SpeechChunk], limits: Limits) -> bool:
        """Take in the audio of an attempt, and keep it if it is the best; whether another one follows."""
        reason = chunks[-1].finish_reason
        if reason in CUT_SHORT and self.fails_again(limits):
            return True
        if limits.hear is None or reason == "cancelled":
            self.kept = chunks
            return False
        take = limits.hear(self.index, chunks)
        self.takes.append(take)
        if best(self.takes) is take:
            self.kept = chunks
        if limits.is_enough(self.takes):
            return False
        self.retries += 1
        return True


# ------------------------------------------------------------------------------------------ one after the other


def one_by_one(engine: MakeEngine, job: MakeJob, limits: Limits, segments: Iterable[int]) -> Iterator[Attempts]:
    """The attempts at segments in order; the chunks of one must be read before the next is asked for."""
    for index in segments:
        mx.reset_peak_memory()
        attempts = Attempts(index)
        attempts.chunks = _attempts(attempts, engine, job, limits)
        yield attempts


def _attempts(attempts: Attempts, engine: MakeEngine, job: MakeJob, limits: Limits) -> Iterator[SpeechChunk]:
    """Chunks of the attempt that counts, held until that is known; chunks of the last one while they are made."""
    goes_on = True
    while goes_on and (limits.hear is not None or attempts.failures < limits.retries):
        goes_on = _goes_on(attempts, _attempt(attempts, engine, job), limits)
    if not goes_on:
        yield from attempts.kept
        return
    try:
        yield from _attempt(attempts, engine, job)
    except RETRYABLE as error:
        attempts.goes_on_after(error, limits)


def _attempt(attempts: Attempts, engine: MakeEngine, job: MakeJob) -> Generator[SpeechChunk, None, None]:
    try:
        yield from speak_one(engine(1), job(attempts.index, attempts.retries))
    finally:
        release_memory()


def _goes_on(attempts: Attempts, attempt: Generator[SpeechChunk, None, None], limits: Limits) -> bool:
    """Speak an attempt whole; whether another one follows."""
    try:
        chunks = list(attempt)
    except RETRYABLE as error:
        return attempts.goes_on_after(error, limits)
    return attempts.goes_on(chunks, limits)


# ------------------------------------------------------------------------------------------------- side by side


def side_by_side(
    engine: MakeEngine, job: MakeJob, limits: Limits, segments: Sequence[int], at_once: int
) -> Iterator[Attempts]:
    """The attempts at segments that do not depend on each other, in order and whole; each sounds as if spoken alone."""
    mx.reset_peak_memory()
    together = _SideBySide(engine, job, limits, segments, at_once)
    try:
        for index in segments:
            yield together.finished(index)
            release_memory()
    finally:
        together.clear()


class _SideBySide:
    """Segments being spoken side by side, and those that wait for an earlier one."""

    def __init__(self, engine: MakeEngine, job: MakeJob, limits: Limits, segments: Iterable[int], at_once: int) -> None:
        self._make_engine, self._job, self._limits, self._at_once = engine, job, limits, at_once
        self._engine = engine(at_once)
        self._to_start = deque(segments)
        self._running: dict[Run, tuple[Attempts, list[SpeechChunk]]] = {}
        self._done: dict[int, Attempts | Exception] = {}

    def finished(self, index: int) -> Attempts:
        """The attempts at a segment, once one of them counts.

        Raises:
            GenerationError: all its attempts have failed.
        """
        while index not in self._done:
            self._start()
            self._step()
        done = self._done.pop(index)
        if isinstance(done, Exception):
            raise done from done.__cause__
        return done

    def clear(self) -> None:
        """Drop the jobs that are being spoken."""
        for run in self._running:
            self._engine.drop(run)
        self._running.clear()

    def _start(self) -> None:
        """Fill the free places. As many segments may wait as there are places, so that memory stays bounded."""
        while self._to_start and len(self._running) < self._at_once and len(self._done) <= self._at_once:
            self._submit(Attempts(self._to_start.popleft()))

    def _submit(self, attempts: Attempts) -> None:
        try:
            run = self._engine.submit(self._job(attempts.index, attempts.retries))
        except RETRYABLE as error:
            self._failed(attempts, error)
        else:
            self._running[run] = attempts, []

    def _step(self) -> None:
        try:
            results = self._engine.step()
        except RETRYABLE as error:
            # Jobs that are computed together fail together.
            failed, self._running, self._engine = self._running, {}, self._make_engine(self._at_once)
            for attempts, _ in failed.values():
                self._failed(attempts, error)
            return
        for run, result in results:
            attempts, chunks = self._running[run]
            if isinstance(result, GenerationError):
                del self._running[run]
                self._failed(attempts, result)
                continue
            chunks.append(result)
            if result.finish_reason is not None:
                del self._running[run]
                self._ended(attempts, chunks)

    def _ended(self, attempts: Attempts, chunks: list[SpeechChunk]) -> None:
        self._next(attempts, attempts.goes_on(chunks, self._limits))

    def _failed(self, attempts: Attempts, error: Exception) -> None:
        try:
            self._next(attempts, attempts.goes_on_after(error, self._limits))
        except GenerationError as final:
            self._done[attempts.index] = final

    def _next(self, attempts: Attempts, goes_on: bool) -> None:
        """Speak the segment again, or give out the attempt that counts."""
        if goes_on:
            self._submit(attempts)
        else:
            attempts.chunks = attempts.kept
            self._done[attempts.index] = attempts
