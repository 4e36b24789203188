"""Jobs spoken to their end by a thread that drives an engine itself."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Sequence
from typing import Protocol

import numpy as np

from moss_tts.errors import GenerationError, MossTTSWarning
from moss_tts.speaking.engine import Run, SpeechChunk, SpeechJob, is_last


class Engine(Protocol):
    """Something that speaks jobs: an engine, or access to an engine that others use as well."""

    def submit(self, job: SpeechJob) -> Run:
        """Queue a job."""
        ...

    def step(self) -> list[tuple[Run, SpeechChunk | GenerationError]]:
        """The chunks that became due."""
        ...

    def drop(self, run: Run) -> None:
        """Remove a job, whatever its state is."""
        ...


def speak_all(
    engine: Engine, jobs: Sequence[SpeechJob]
) -> Generator[tuple[int, SpeechChunk | GenerationError], None, None]:
    """(job, chunk) of all jobs as they become due, or (job, error) where one failed.

    Each job ends with its first finish_reason or error. Closing the generator drops the other jobs. A MossTTSWarning
    says if a model read its text while it spoke, and ended before it.
    """
    runs = [engine.submit(job) for job in jobs]
    unread = [0 if job.request.column is None else len(job.request.column) for job in jobs]
    left = len(runs)
    try:
        while left:
            for run, chunk in engine.step():
                left -= is_last(chunk)
                index = runs.index(run)
                if isinstance(chunk, SpeechChunk):
                    unread[index] -= len(chunk.frames)
                    _warn_of_unread(unread[index], chunk)
                yield index, chunk
    finally:
        for run in runs:
            engine.drop(run)


def _warn_of_unread(unread: int, chunk: SpeechChunk) -> None:
    if unread > 0 and chunk.finish_reason == "stop":
        note = f"The model ended its speech before its text: the last {unread} tokens were not spoken."
        warnings.warn(note, MossTTSWarning, stacklevel=2)


def speak_one(engine: Engine, job: SpeechJob) -> Generator[SpeechChunk, None, None]:
    """Chunks of one job.

    Raises:
        GenerationError: it failed.
    """
    for _, chunk in speak_all(engine, [job]):
        if isinstance(chunk, GenerationError):
            raise chunk
        yield chunk


def merged(chunks: list[SpeechChunk]) -> SpeechChunk:
    """Consecutive chunks as one."""
    frames = [chunk.frames for chunk in chunks if len(chunk.frames)] or [chunks[0].frames]
    audio = np.concatenate([chunk.audio for chunk in chunks])
    return SpeechChunk(audio, np.concatenate(frames), chunks[-1].finish_reason, chunks[-1].prompt_rows)
