"""Requests spoken side by side: rows as they are made, frames as they complete, audio as it is wanted.

The engine holds one batch of rows and one batch of codec streams. A step admits waiting requests, issues a row
for all of them, reads the row before it, decodes where a caller waits for audio, and lets go of requests that are
done. One request alone is the same engine with one row. The codec carries its state, so whole and streamed audio
are one computation with other chunk sizes, and nothing is decoded twice.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from itertools import accumulate
from math import ceil
from typing import Any

import mlx.core as mx
import numpy as np

from moss_tts.architectures import Architecture
from moss_tts.codec import MossAudioTokenizer
from moss_tts.device.blas import share_cores
from moss_tts.errors import GenerationError
from moss_tts.frames import FinishReason, FrameReader, Frames
from moss_tts.rows import Prompts, RowBatch, RowRequest
from moss_tts.speaking.decoding import Audio, CodecStreams
from moss_tts.speaking.reading import Readings, after, in_turn

# Frames per codec call if no caller waits for audio: enough for efficient products, and little memory.
WHOLE_CHUNK = 50
# Steps that many runs wait for each other before the codec is called: a call costs nearly the same for one frame
# of each as for several, and runs that began at different steps would call it at every one.
MOST_STEPS_BETWEEN_CALLS = 4
# Frames of a job that one codec call decodes if more frames wait and no larger chunk is wanted.
MOST_PER_CALL = 100
RUNS_PER_STEP = 4


@dataclass(frozen=True)
class ChunkSizes:
    """Frames per chunk: the first ones, one after the other, and those after them."""

    first: tuple[int, ...] = ()
    later: int = WHOLE_CHUNK

    def __getitem__(self, chunk: int) -> int:
        return self.first[chunk] if chunk < len(self.first) else self.later


@dataclass(frozen=True)
class SpeechChunk:
    """Consecutive audio of one request.

    Attributes:
        audio: float32 (S,) mono or (S, C).
        frames: codes (F, Q) it was decoded from.
        finish_reason: the reason of the end on the last chunk, which may be empty; None before it.
        prompt_rows: rows of the prompt it answers.
    """

    audio: np.ndarray
    frames: np.ndarray
    finish_reason: FinishReason | None = None
    prompt_rows: int = 0


@dataclass(frozen=True)
class SpeechJob:
    """One request, ready to be spoken.

    Attributes:
        prompt: rows (T, 1 + Q) without padding.
        request: sampling, seed, budget.
        n_vq: codebooks to generate.
        sizes: the sizes of the chunks that are wanted.
        cancelled: asked once per row; once it is true, complete frames are decoded and the job ends.
        is_heard: asked before the codec is called; while it is false, this job's frames wait as codes.
        gone_silent: called with each chunk's audio; gives the sample at which the request ends for silence, or None.
        retimed: gives a chunk's audio at the wanted speed; told whether the chunk is the last.
        owner: the long text that the job is one segment of; None for a job of its own.
    """

    prompt: np.ndarray
    request: RowRequest
    n_vq: int
    sizes: ChunkSizes = ChunkSizes()
    cancelled: Callable[[], bool] = lambda: False
    is_heard: Callable[[], bool] = lambda: True
    gone_silent: Callable[[np.ndarray], int | None] = lambda _: None
    retimed: Callable[[np.ndarray, bool], np.ndarray] = lambda audio, _: audio
    owner: Hashable | None = None


@dataclass(eq=False)
class Run:
    """A job while it is spoken: its reader, frames that wait for the codec, and audio that waits to be a chunk.

    It is starved while its next row needs text that is not there yet.
    """

    job: SpeechJob
    reader: FrameReader
    undecoded: list[Frames] = field(default_factory=list)
    frames: list[np.ndarray] = field(default_factory=list)
    audio: list[np.ndarray] = field(default_factory=list)
    chunks: int = 0
    spoke: bool = False
    ended: FinishReason | None = None
    starved: bool = False

    @property
    def owner(self) -> Hashable | None:
        """The long text that it takes turns with; None if it has turns of its own."""
        return self.job.owner

    @property
    def prompt_rows(self) -> int:
        """Rows of the prompt."""
        return len(self.job.prompt)

    @property
    def cancelled(self) -> bool:
        """Whether the job was cancelled."""
        return self.job.cancelled()

    def take(self, frames: Sequence[Frames]) -> None:
        """Add frames that a row completed."""
        self.undecoded.extend(frames)
        self.spoke = self.spoke or any(not part.context for part in frames)

    @property
    def wanted(self) -> int:
        """Frames of the next chunk."""
        return self.job.sizes[self.chunks]

    @property
    def due(self) -> bool:
        """Whether a chunk is wanted now."""
        wanted = 1 if self.starved else self.wanted
        return self.ended is not None or sum(map(len, self.frames + _heard(self.undecoded))) >= wanted

    def hand_over(self) -> list[Frames]:
        """The frames that wait for the codec, or a part of them if there are many."""
        heard = list(accumulate(0 if part.context else len(part.codes) for part in self.undecoded))
        count = 1 + bisect_left(heard, max(self.wanted, MOST_PER_CALL))
        frames, self.undecoded = self.undecoded[:count], self.undecoded[count:]
        self.frames += _heard(frames)
        return frames

    def chunk(self, silence: np.ndarray) -> SpeechChunk:
        """A chunk of all audio that was decoded."""
        codes = np.concatenate(self.frames) if self.frames else np.zeros((0, self.job.n_vq), np.int32)
        audio = np.concatenate([silence, *self.audio])
        self.frames, self.audio, self.chunks = [], [], self.chunks + 1
        reason = None if self.undecoded else self.ended
        until = self.job.gone_silent(audio)
        if until is not None:
            # The sizes of chunks differ between callers; the end of speech must not depend on them.
            per_frame = len(audio) // len(codes)
            n_frames = ceil(until / per_frame)
            audio, codes, reason = audio[: n_frames * per_frame], codes[:n_frames], "silence"
        return SpeechChunk(self.job.retimed(audio, reason is not None), codes, reason, self.prompt_rows)


def _heard(frames: Sequence[Frames]) -> list[np.ndarray]:
    """Codes (F, Q) of the frames that are not context."""
    return [part.codes for part in frames if not part.context]


class SpeechEngine:
    """Speaks jobs side by side.

    Not for use from several threads. Jobs of another `n_vq` wait until the rows of the running ones are made.

    Args:
        architecture: the network.
        codec: asked for with the first job.
        max_batch: jobs that run at the same time.
    """

    def __init__(
        self, architecture: Architecture[Any, Any], codec: Callable[[], MossAudioTokenizer], max_batch: int = 16
    ) -> None:
        self._architecture, self._codec, self._max_batch = architecture, codec, max_batch
        self._waiting: deque[Run] = deque()
        self._readings: Readings[Run] = Readings()
        # Runs that still generate rows, in batch order; runs with audio that is not complete.
        self._rows: list[Run] = []
        self._runs: list[Run] = []
        self._batch: RowBatch | None = None
        # Runs that are starved, each as a batch of its own.
        self._starved: dict[Run, RowBatch] = {}
        self._streams = CodecStreams(codec)
        # Rows that were issued and not yet read, with the runs that they belong to.
        self._pending: deque[tuple[mx.array, list[Run]]] = deque()
        # The call that the codec works on, and the runs that want a chunk of it.
        self._call: tuple[Future[Audio], list[Run]] | None = None
        self._steps_since_call = 0

    def submit(self, job: SpeechJob) -> Run:
        """Queue a job; the run names it in what `step` returns."""
        reader = self._architecture.reader(job.prompt, job.request.max_frames, job.n_vq)
        run = Run(job, reader)
        self._waiting.append(run)
        return run

    def drop(self, run: Run) -> None:
        """Remove a job, whatever its state is."""
        if run in self._waiting:
            self._waiting.remove(run)
        self._readings.drop(run)
        if run in self._runs:
            self._runs.remove(run)
            self._leave([run])
        if not (self._waiting or self._readings or self._runs) and self._call is not None:
            wait([self._call[0]])
            self._call = None
        self._free_streams()

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do until a job is submitted, or is heard again."""
        fed = any(not batch.is_stuck for batch in self._starved.values())
        waits = self._waiting or self._readings or self._rows or self._call or fed
        return not waits and not any(run.job.is_heard() and (run.due or not run.starved) for run in self._runs)

    def step(self) -> list[tuple[Run, SpeechChunk | GenerationError]]:
        """Advance every job by a row, or its prompt by a part, and return the chunks that became due.

        A job is over with its first finish_reason or error.
        """
        self._feed()
        self._begin_reading()
        for run, batch in self._readings.go_on(others_speak=self._batch is not None):
            self._join(run, batch)
        began = time.perf_counter()
        if self._batch is not None:
            self._advance()
        results = self._deliver()
        self._readings.others_took(time.perf_counter() - began)
        return results

    @property
    def _many(self) -> bool:
        """Whether rows go on while the codec works."""
        return len(self._rows) >= RUNS_PER_STEP

    def _begin_reading(self) -> None:
        for run in in_turn(self._waiting, [*self._rows, *self._readings.runs]):
            job, running = run.job, [*self._rows, *self._readings.runs]
            if len(running) >= self._max_batch or (running and job.n_vq != running[0].job.n_vq):
                return
            if self._readings.may_start(run):
                self._waiting = after(self._waiting, run)
                prompts = Prompts.of(job.prompt)
                self._readings.start(run, self._architecture.reading(prompts, [job.request], job.n_vq))

    def _join(self, run: Run, batch: RowBatch | None) -> None:
        """Start to make rows for a job with a prompt that is read, or end it if it was cancelled before."""
        self._runs.append(run)
        if batch is None:
            run.ended = "cancelled"
            return
        self._add(run, batch)
        run.take(run.reader.start())

    def _add(self, run: Run, batch: RowBatch) -> None:
        if self._batch is None:
            self._batch = batch
        else:
            self._batch.extend(batch)
        self._rows.append(run)
        share_cores(self._many)

    def _feed(self) -> None:
        """Let starved jobs go on if their text has come."""
        for run, batch in list(self._starved.items()):
            if not batch.is_stuck:
                run.starved = False
                self._add(run, self._starved.pop(run))

    def _starve(self, batch: RowBatch) -> None:
        """Make a last row for jobs with text that is not there yet; then they leave the batch."""
        for row in (rows := batch.waiting()):
            run, part = self._rows[row], batch.part(row)
            self._pending.append((part.step(), [run]))
            self._starved[run], run.starved = part, True
        self._remove(rows)

    def _advance(self) -> None:
        """Issue the next row of all jobs, and read those that are there: mostly the row before it."""
        assert self._batch is not None
        self._starve(self._batch)
        behind = 0
        if self._batch is not None:
            self._pending.append((self._batch.step(), list(self._rows)))
            behind = 0 if self._batch.at_once else 1
        while len(self._pending) > behind:
            values, runs = self._pending.popleft()
            for run, row in zip(runs, np.array(values), strict=True):
                if run in self._rows or run in self._starved:
                    self._read(run, row)
            self._leave([run for run in [*self._rows, *self._starved] if run.ended is not None])

    def _read(self, run: Run, row: np.ndarray) -> None:
        if run.cancelled:
            run.ended = "cancelled"
            return
        run.take(run.reader.push(row))
        run.ended = run.reader.finish_reason

    def _leave(self, done: list[Run]) -> None:
        """Make no more rows for these jobs, and give contexts back to the conversations that keep them."""
        rows = [row for row, run in enumerate(self._rows) if run in done]
        left = [(self._rows[row], self._batch, row) for row in rows]
        left += [(run, batch, 0) for run in done if (batch := self._starved.pop(run, None)) is not None]
        for run, batch, row in left:
            if (context := run.job.request.context) is not None and batch is not None:
                context.give_back(batch.part(row).caches)
        self._remove(rows)

    def _remove(self, rows: list[int]) -> None:
        """Remove rows of the batch. The last ones take their places, so that few have to move."""
        if not rows:
            return
        kept = list(range(len(self._rows)))
        for row in reversed(rows):
            kept[row] = kept[-1]
            kept.pop()
        self._rows = [self._rows[row] for row in kept]
        share_cores(self._many)
        if not kept:
            self._batch = None
            if not self._starved:
                self._pending.clear()
        elif self._batch is not None:
            self._batch.select(kept)

    # ------------------------------------------------------------------------------------------------ sound

    def _deliver(self) -> list[tuple[Run, SpeechChunk | GenerationError]]:
        """The chunks that became due. With many jobs, rows continue meanwhile; few jobs wait for their audio."""
        self._steps_since_call += 1
        results = []
        if self._call is not None and self._call[0].done():
            results = self._end_call()
        if self._call is None:
            self._begin_call()
        if self._call is not None and not self._many:
            results += self._end_call()
        return results

    def _begin_call(self) -> None:
        """If it is time, let the codec decode the waiting frames of all jobs that are heard."""
        heard = [run for run in self._runs if run.job.is_heard()]
        due = [run for run in heard if run.due]
        steps = min(MOST_STEPS_BETWEEN_CALLS, len(heard) // RUNS_PER_STEP)
        if due and (len(due) == len(heard) or self._steps_since_call >= steps):
            self._steps_since_call = 0
            frames = (run.hand_over() if run in heard else [] for run in self._runs)
            self._call = self._streams.decode(dict(zip(self._runs, frames, strict=True))), due

    def _end_call(self) -> list[tuple[Run, SpeechChunk | GenerationError]]:
        assert self._call is not None
        (future, due), self._call = self._call, None
        audio = future.result()
        for run in self._runs:
            run.audio += audio.get(run, [])
        results = [(run, self._result(run)) for run in due if run in self._runs]
        done = [run for run, result in results if is_last(result)]
        self._runs = [run for run in self._runs if run not in done]
        self._leave(done)
        self._free_streams()
        return results

    def _free_streams(self) -> None:
        """Free what the codec keeps of jobs once there are none: the engine may be idle for long."""
        if not self._runs and self._call is None:
            self._streams.forget()

    def _result(self, run: Run) -> SpeechChunk | GenerationError:
        if run.ended == "stop" and not run.spoke:
            return GenerationError("the model ended before its first frame of audio; try another seed or text.")
        return run.chunk(self._streams.silence)


def is_last(result: SpeechChunk | GenerationError) -> bool:
    """Whether a job ends with it."""
    return isinstance(result, GenerationError) or result.finish_reason is not None
