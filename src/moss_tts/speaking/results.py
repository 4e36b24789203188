"""Chunks of speech as the results that callers get: joined or as they come, with the time each took."""

from __future__ import annotations

import sys
import time
from asyncio import AbstractEventLoop
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import mlx.core as mx

from moss_tts.device.memory import cache_limit
from moss_tts.errors import GenerationError
from moss_tts.long_form import SegmentMetrics, TextSegment
from moss_tts.prompts.messages import UserMessage
from moss_tts.request import MossNormalizedRequest
from moss_tts.result import GenerationResult
from moss_tts.speaking.driving import Engine, merged, speak_all
from moss_tts.speaking.engine import SpeechChunk, SpeechJob
from moss_tts.speaking.narration import OnSegment
from moss_tts.subtitles.cues import Cue, CueClock, CueRules
from moss_tts.text.boundaries import BoundaryKind

# (index of the request, result or failure)
BatchResults: TypeAlias = Iterator[tuple[int, GenerationResult | GenerationError]]


@dataclass(frozen=True)
class Callbacks:
    """Functions of the caller that are called while a request is spoken.

    Attributes:
        on_chunk: called with each result.
        on_segment: called with each finished segment of a long text.
        on_progress: called with the share of the text that is spoken, up to 1.0.
    """

    on_chunk: Callable[[GenerationResult], None] | None = None
    on_segment: OnSegment | None = None
    on_progress: Callable[[float], None] | None = None

    def chunk(self, request: MossNormalizedRequest, result: GenerationResult) -> None:
        """Report a result."""
        if self.on_chunk is not None:
            self.on_chunk(result)
        if self.on_progress is not None and result.is_final_chunk and request.long_form is None:
            self.on_progress(1.0)

    def segment(self, request: MossNormalizedRequest, metrics: SegmentMetrics) -> None:
        """Report a finished segment."""
        if self.on_segment is not None:
            self.on_segment(metrics)
        if self.on_progress is not None:
            self.on_progress(metrics.end_offset / request.plan[-1].end_offset)

    def in_loop(self, loop: AbstractEventLoop) -> Callbacks:
        """The same callbacks, called in an event loop, from whichever thread."""
        return Callbacks(*(_called_in(loop, one) for one in (self.on_chunk, self.on_segment, self.on_progress)))


def _called_in(loop: AbstractEventLoop, callback: Callable[[Any], None] | None) -> Callable[[Any], None] | None:
    if callback is None:
        return None
    known = callback

    def call(value: object) -> None:
        loop.call_soon_threadsafe(known, value)

    return call


def cue_clock(request: MossNormalizedRequest, sample_rate: int) -> CueClock:
    """The cues of a request while it is spoken; a sound that has no text is named by its description."""
    texts = [*(message.text for message in request.conversation if isinstance(message, UserMessage)), request.text]
    whole = next((text for text in (*reversed(texts), request.ambient_sound) if text is not None), "")
    rules = CueRules(sample_rate, request.speed, request.long_form, request.voice)
    segment = TextSegment(whole, 0, len(whole), None, BoundaryKind.END, written=request.written)
    return CueClock(rules, request.plan or [segment])


def results_of(
    chunks: Iterator[tuple[int, SpeechChunk]], request: MossNormalizedRequest, sample_rate: int
) -> Generator[GenerationResult | None, None, None]:
    """Results of one request: one for each chunk if it streams, else one of all chunks.

    Between chunks that are kept for a single result it yields None, so that the caller may let others have a turn.

    Args:
        chunks: (segment, chunk) in order.
        request: the request that they answer.
        sample_rate: the sample rate of the audio, in Hz.
    """
    mx.reset_peak_memory()
    started = time.perf_counter()
    kept: list[SpeechChunk] = []
    clock, all_cues = cue_clock(request, sample_rate), list[Cue]()
    with cache_limit():
        for segment, chunk in chunks:
            cues = clock.after(segment, len(chunk.audio), chunk.finish_reason)
            if request.stream:
                now = time.perf_counter()
                yield _result(request, chunk, now - started, sample_rate, segment, cues)
                started = now
            else:
                kept.append(chunk)
                all_cues += cues
                yield None
        if kept:
            seconds = time.perf_counter() - started
            yield _result(request, merged(kept), seconds, sample_rate, cues=tuple(all_cues))


def results_side_by_side(
    engine: Engine, jobs: Sequence[SpeechJob], requests: Sequence[MossNormalizedRequest], sample_rate: int
) -> BatchResults:
    """(place of the request, result or failure) of requests that are spoken together, as results become due."""
    started = [time.perf_counter()] * len(jobs)
    parts: list[list[SpeechChunk]] = [[] for _ in jobs]
    clocks = [cue_clock(request, sample_rate) for request in requests]
    for place, chunk in speak_all(engine, jobs):
        if isinstance(chunk, GenerationError):
            yield place, chunk
            continue
        parts[place].append(chunk)
        cues = clocks[place].after(0, len(chunk.audio), chunk.finish_reason)
        if requests[place].stream or chunk.finish_reason is not None:
            now = time.perf_counter()
            seconds = now - started[place]
            yield place, _result(requests[place], merged(parts[place]), seconds, sample_rate, cues=cues)
            started[place], parts[place] = now, []


def results_one_by_one(
    chunks: Mapping[int, Iterator[tuple[int, SpeechChunk]]],
    requests: Mapping[int, MossNormalizedRequest],
    sample_rate: int,
) -> BatchResults:
    """(index of the request, result or failure) of requests that are spoken one after the other."""
    for index, request in requests.items():
        try:
            for result in results_of(chunks[index], request, sample_rate):
                if result is not None:
                    yield index, result
        except GenerationError as error:
            yield index, error


def _result(
    request: MossNormalizedRequest,
    chunk: SpeechChunk,
    seconds: float,
    sample_rate: int,
    segment: int = 0,
    cues: tuple[Cue, ...] = (),
) -> GenerationResult:
    result = GenerationResult.of(
        chunk.audio,
        sample_rate=sample_rate,
        frames=len(chunk.frames),
        prompt_rows=chunk.prompt_rows,
        seconds=seconds,
        peak_memory=mx.get_peak_memory(),
        streaming=request.stream,
        finish_reason=chunk.finish_reason,
        seed=request.seed,
        segment_idx=segment,
        cues=cues,
    )
    if request.verbose:
        sys.stderr.write(f"{result.figures}\n")
    return result
