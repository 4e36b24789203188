"""Long texts spoken segment by segment in one voice: continuity, retries, seams, metrics.

The plan, what a segment hands to the next and the figures are long_form.py's; how one segment is spoken is the
caller's. Continuity carries codes: nothing that was made is encoded again, and what conditions a segment is in
its prompt, never in its text.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace

import mlx.core as mx
import numpy as np

from moss_tts.dialogue import SPEAKER_TAG
from moss_tts.errors import GenerationError, MossTTSError
from moss_tts.frames import FinishReason
from moss_tts.long_form import (
    BoundaryMetrics,
    ContinuityState,
    SegmentMetrics,
    TextSegment,
    advance_continuity_state,
    evaluate_segment_boundary,
    plan_text_segments,
    retry_seed,
)
from moss_tts.request import MossNormalizedRequest
from moss_tts.seams import SEAM_SECONDS, SegmentAudio, join_segments
from moss_tts.speech import SpeechChunk, merged

# What can go wrong with one segment and right with the next seed; MLX raises RuntimeError.
RETRYABLE = (MossTTSError, RuntimeError)
# Ends that are not the end of the text.
CUT_SHORT: tuple[FinishReason, ...] = ("length", "silence")

Speak = Callable[[MossNormalizedRequest, int], Generator[SpeechChunk, None, None]]
OnSegment = Callable[[SegmentMetrics], None]


@dataclass(frozen=True)
class AudioRates:
    """Rates of the audio: samples a second, frames a second."""

    sample_rate: int
    frame_rate: float

    def samples(self, frames: int) -> int:
        """Samples of so many frames."""
        return round(frames / self.frame_rate * self.sample_rate)


class Narrator:
    """Speaks one request's text in segments.

    Args:
        request: a request with long_form options, its references encoded.
        seed: of the request.
        speak: speaks one segment's request with a seed.
        rates: of the audio.
        on_segment: told of each finished segment.
    """

    def __init__(
        self,
        request: MossNormalizedRequest,
        seed: int,
        speak: Speak,
        rates: AudioRates,
        on_segment: OnSegment | None = None,
    ) -> None:
        assert request.long_form is not None
        assert request.text is not None
        self._request, self._options = request, request.long_form
        self._seed, self._speak, self._rates, self._on_segment = seed, speak, rates, on_segment
        options = self._options
        self.plan = plan_text_segments(request.text, options.min_chars, options.target_chars, options.max_chars)
        self.segment_metrics: list[SegmentMetrics] = []
        self.boundary_metrics: list[BoundaryMetrics] = []
        self._continuity = ContinuityState()
        self._tail: np.ndarray | None = None
        self._cut_short: FinishReason | None = None

    def run(self) -> Iterator[tuple[int, SpeechChunk]]:
        """(segment, chunk) in order; the last chunk has the reason why it is the last.

        Chunks come as they are made. Where further attempts are left, a segment is held until it has succeeded;
        where seams are treated, until the next segment is there.

        Raises:
            GenerationError: a segment failed all its attempts.
        """
        if self._options.crossfade_ms or self._options.trim_silence:
            yield from self._with_treated_seams()
            return
        for index in range(len(self.plan)):
            for chunk in self._segment(index):
                yield index, chunk
                if chunk.finish_reason == "cancelled":
                    return

    def _with_treated_seams(self) -> Iterator[tuple[int, SpeechChunk]]:
        """Whole segments, their seams crossfaded or trimmed."""
        spoken: list[SpeechChunk] = []

        def segments() -> Iterator[SegmentAudio]:
            for index, segment in enumerate(self.plan):
                whole = merged(list(self._segment(index)))
                spoken.append(replace(whole, audio=whole.audio[:0]))
                yield SegmentAudio(whole.audio, segment.speaker, segment.last_speaker)
                if whole.finish_reason == "cancelled":
                    return

        joined = join_segments(
            segments(),
            self._rates.sample_rate,
            crossfade_ms=self._options.crossfade_ms,
            trim_silence=self._options.trim_silence,
        )
        for index, audio in enumerate(joined):
            yield index, replace(spoken[index], audio=np.asarray(audio, dtype=np.float32))

    # -------------------------------------------------------------------------------------- one segment

    def _segment(self, index: int) -> Iterator[SpeechChunk]:
        """The chunks of one segment; measures it, and keeps what it hands to the next."""
        started = time.perf_counter()
        mx.reset_peak_memory()
        chunks: list[SpeechChunk] = []
        retries = 0
        for attempt, chunk in self._attempts(index):
            retries = attempt
            chunks.append(chunk)
            yield self._as_part(index, chunk)
        whole = merged(chunks)
        self._measure(index, whole, retries, time.perf_counter() - started)
        if len(whole.frames):
            segment, rate = self.plan[index], self._rates.frame_rate
            self._continuity = advance_continuity_state(self._continuity, segment, whole.frames, self._options, rate)
        if self._on_segment is not None:
            self._on_segment(self.segment_metrics[-1])

    def _as_part(self, index: int, chunk: SpeechChunk) -> SpeechChunk:
        """A segment's last chunk is the request's last only in the last segment, or when cancelled."""
        reason = chunk.finish_reason
        if reason in CUT_SHORT:
            self._cut_short = reason
        if reason is None or reason == "cancelled":
            return chunk
        is_last = index == len(self.plan) - 1
        return replace(chunk, finish_reason=(self._cut_short or reason) if is_last else None)

    def _attempts(self, index: int) -> Iterator[tuple[int, SpeechChunk]]:
        """(attempts before, chunk) of the attempt that succeeds, or of the last one."""
        request = self._conditioned(self.plan[index])
        for attempt in range(self._options.retry_attempts):
            chunks = self._try(request, index, attempt)
            if chunks is not None:
                yield from ((attempt, chunk) for chunk in chunks)
                return
        last = self._options.retry_attempts
        try:
            for chunk in self._attempt(request, index, last):
                yield last, chunk
        except RETRYABLE as error:
            tries = "its only attempt" if last == 0 else f"all {last + 1} attempts"
            raise GenerationError(f"segment {index} failed {tries}: {error}") from error

    def _try(self, request: MossNormalizedRequest, index: int, attempt: int) -> list[SpeechChunk] | None:
        """All chunks of an attempt; None where another one is due."""
        try:
            chunks = list(self._attempt(request, index, attempt))
        except RETRYABLE:
            return None
        return None if chunks[-1].finish_reason in CUT_SHORT else chunks

    def _attempt(self, request: MossNormalizedRequest, index: int, attempt: int) -> Iterator[SpeechChunk]:
        chunks = self._speak(request, retry_seed(self._seed, index, attempt))
        try:
            yield from chunks
        finally:
            chunks.close()
            mx.clear_cache()

    # -------------------------------------------------------------------------------------- continuity

    def _conditioned(self, segment: TextSegment) -> MossNormalizedRequest:
        """The request for one segment, conditioned on what was spoken."""
        request = replace(self._request, text=segment.spoken_text, tokens=self._share_of_tokens(segment))
        state = self._continuity
        if state.previous is None:
            return request
        if self._options.continuity == "continue":
            assert state.previous_codes is not None
            return _continuing(request, state.previous, state.previous_codes)
        return self._in_voice(request, segment)

    def _in_voice(self, request: MossNormalizedRequest, segment: TextSegment) -> MossNormalizedRequest:
        """The voice as reference: the user's, else the first segment's; behind it the last frames spoken."""
        state = self._continuity
        if request.prompt_audio is not None:
            return request
        if not request.reference and SPEAKER_TAG.search(segment.spoken_text):
            # Speakers cannot be told apart in one recording: go on from the first segment instead.
            assert state.voice is not None
            return _continuing(request, self.plan[0], state.voice)
        voice = request.reference or (state.voice,)
        # The first segment, as the voice of the second, ends with those frames already.
        repeats = not request.reference and state.previous is self.plan[0]
        if len(voice) == 1 and state.prefix_codes is not None and not repeats:
            voice = (np.concatenate([voice[0], state.prefix_codes]),)
        instruction = request.instruction
        if state.prefix_text:
            line = f"Previous text: {state.prefix_text}"
            instruction = line if instruction is None else f"{instruction}\n{line}"
        return replace(request, reference=voice, instruction=instruction)

    def _share_of_tokens(self, segment: TextSegment) -> int | None:
        """A length asked for is shared out by characters."""
        if self._request.tokens is None:
            return None
        total = sum(len(part.text) for part in self.plan)
        return max(1, math.ceil(self._request.tokens * len(segment.text) / total))

    # -------------------------------------------------------------------------------------- metrics

    def _measure(self, index: int, whole: SpeechChunk, retries: int, seconds: float) -> None:
        segment, state, rates = self.plan[index], self._continuity, self._rates
        seam = self._seam(whole.audio)
        if seam is not None:
            self.boundary_metrics.append(seam)
        peak = mx.get_peak_memory() / 1e9
        prefix = 0 if state.prefix_codes is None else len(state.prefix_codes)
        self.segment_metrics.append(
            SegmentMetrics(
                segment_idx=index,
                segment_chars=len(segment.text),
                start_offset=segment.start_offset,
                end_offset=segment.end_offset,
                retry_count=retries,
                prompt_tokens_generated=len(whole.frames),
                emitted_samples=len(whole.audio),
                emitted_seconds=len(whole.audio) / rates.sample_rate,
                segment_latency_seconds=seconds,
                segment_peak_memory_gb=peak,
                total_peak_memory_gb=max([peak, *(past.total_peak_memory_gb for past in self.segment_metrics[-1:])]),
                prefix_audio_samples=rates.samples(prefix),
                prefix_text_chars=len(state.prefix_text),
                boundary_note="segment-start" if seam is None else seam.note,
            )
        )

    def _seam(self, audio: np.ndarray) -> BoundaryMetrics | None:
        """The seam to the segment before; keeps this one's tail for the next."""
        left, width = self._tail, round(SEAM_SECONDS * self._rates.sample_rate)
        self._tail = audio[-width:]
        return None if left is None else evaluate_segment_boundary(left, audio, self._rates.sample_rate)


def _continuing(request: MossNormalizedRequest, spoken: TextSegment, codes: np.ndarray) -> MossNormalizedRequest:
    """Go on from a segment: its whole text and its whole codes, so that neither runs ahead of the other."""
    return replace(request, prompt_audio=codes, prompt_transcript=spoken.spoken_text)
