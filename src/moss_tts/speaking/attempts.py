"""Attempts at segments: one segment after the other, or several side by side, each until it succeeds.

After an attempt that raised, gave no sound, or was cut short by a budget or for silence, another one follows with
another seed. The last attempt counts even if it was cut short.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import mlx.core as mx

from moss_tts.device.memory import release_memory
from moss_tts.errors import GenerationError, MossTTSError
from moss_tts.frames import FinishReason
from moss_tts.speaking.engine import Engine, Run, SpeechChunk, SpeechJob, speak_one

# Errors after which another seed may succeed; MLX raises RuntimeError.
RETRYABLE: Final = (MossTTSError, RuntimeError)
# Finish reasons of speech that did not reach the end of its text.
CUT_SHORT: Final[tuple[FinishReason, ...]] = ("length", "silence")

# Makes the job of an attempt at a segment; both numbers count from 0.
MakeJob = Callable[[int, int], SpeechJob]
# Makes an engine for this many jobs at a time.
MakeEngine = Callable[[int], Engine]


@dataclass(eq=False)
class Attempts:
    """The attempts at one segment, until one of them counts.

    Attributes:
        index: the number of the segment.
        chunks: the audio of the attempt that counts, possibly while it is made.
        retries: attempts before that one; known when its first chunk comes.
        started: perf_counter at the first attempt.
    """

    index: int
    chunks: Iterable[SpeechChunk] = ()
    retries: int = 0
    started: float = field(default_factory=time.perf_counter)


def failure(attempts: Attempts, cause: Exception) -> GenerationError:
    """The error of a request when a segment has failed all its attempts."""
    tries = "its only attempt" if attempts.retries == 0 else f"all {attempts.retries + 1} attempts"
    return GenerationError(f"segment {attempts.index} failed {tries}: {cause}")


# ------------------------------------------------------------------------------------------ one after the other


def one_by_one(engine: MakeEngine, job: MakeJob, retries: int, segments: Iterable[int]) -> Iterator[Attempts]:
    """The attempts at segments in order; the chunks of one must be read before the next is asked for."""
    for index in segments:
        mx.reset_peak_memory()
        attempts = Attempts(index)
        attempts.chunks = _attempts(attempts, engine, job, retries)
        yield attempts


def _attempts(attempts: Attempts, engine: MakeEngine, job: MakeJob, retries: int) -> Iterator[SpeechChunk]:
    """Chunks of the attempt that succeeds, held until then; chunks of the last attempt while they are made."""
    while attempts.retries < retries:
        chunks = _try(_attempt(attempts, engine, job))
        if chunks is not None:
            yield from chunks
            return
        attempts.retries += 1
    try:
        yield from _attempt(attempts, engine, job)
    except RETRYABLE as error:
        raise failure(attempts, error) from error


def _attempt(attempts: Attempts, engine: MakeEngine, job: MakeJob) -> Generator[SpeechChunk, None, None]:
    try:
        yield from speak_one(engine(1), job(attempts.index, attempts.retries))
    finally:
        release_memory()


def _try(attempt: Generator[SpeechChunk, None, None]) -> list[SpeechChunk] | None:
    """All chunks of an attempt; None if another attempt must follow."""
    try:
        chunks = list(attempt)
    except RETRYABLE:
        return None
    return None if chunks[-1].finish_reason in CUT_SHORT else chunks


# ------------------------------------------------------------------------------------------------- side by side


def side_by_side(
    engine: MakeEngine, job: MakeJob, retries: int, segments: Sequence[int], at_once: int
) -> Iterator[Attempts]:
    """The attempts at segments that do not depend on each other, in order and whole; each sounds as if spoken alone."""
    mx.reset_peak_memory()
    together = _SideBySide(engine, job, retries, segments, at_once)
    try:
        for index in segments:
            yield together.finished(index)
            release_memory()
    finally:
        together.clear()


class _SideBySide:
    """Segments being spoken side by side, and those that wait for an earlier one."""

    def __init__(self, engine: MakeEngine, job: MakeJob, retries: int, segments: Iterable[int], at_once: int) -> None:
        self._make_engine, self._job, self._retries, self._at_once = engine, job, retries, at_once
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
        if chunks[-1].finish_reason in CUT_SHORT and attempts.retries < self._retries:
            self._again(attempts)
        else:
            attempts.chunks = chunks
            self._done[attempts.index] = attempts

    def _failed(self, attempts: Attempts, error: Exception) -> None:
        if attempts.retries < self._retries:
            self._again(attempts)
        else:
            final = failure(attempts, error)
            final.__cause__ = error
            self._done[attempts.index] = final

    def _again(self, attempts: Attempts) -> None:
        attempts.retries += 1
        self._submit(attempts)
