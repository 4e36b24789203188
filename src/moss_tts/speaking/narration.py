"""Long texts spoken segment by segment in one voice: continuity, seams, metrics.

The plan, what a segment hands to the next and the figures are long_form.py's; attempts at a segment are attempts.py's,
and its prompt is conditioning.py's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Final

import mlx.core as mx
import numpy as np

from moss_tts.audio.codes import CodeMatrix
from moss_tts.audio.seams import SEAM_SECONDS, BoundaryNote, SegmentAudio, join_segments
from moss_tts.frames import FinishReason
from moss_tts.long_form import (
    BoundaryMetrics,
    ContinuityState,
    SegmentMetrics,
    TextSegment,
    advance_continuity_state,
    evaluate_segment_boundary,
    retry_seed,
)
from moss_tts.request import MossNormalizedRequest
from moss_tts.speaking.attempts import CUT_SHORT, Attempts, Limits, one_by_one, side_by_side
from moss_tts.speaking.checking import Check, Take
from moss_tts.speaking.conditioning import conditioned
from moss_tts.speaking.driving import Engine, merged
from moss_tts.speaking.engine import SpeechChunk, SpeechJob
from moss_tts.text.cast import Casting

NO_VOICES: Final[Mapping[Casting, MossNormalizedRequest]] = {}
OnSegment = Callable[[SegmentMetrics], None]


@dataclass(frozen=True)
class SpeechBackend:
    """The means that a narrator speaks with.

    Attributes:
        job: makes a request ready to be spoken.
        engine: gives an engine for this many jobs at a time.
        sample_rate: rate of the audio, in Hz.
        frame_rate: frames per second.
        n_vq: the number of codebooks in a prompt.
        is_heard: whether audio is wanted of the segment this many places after the one that is asked for.
    """

    job: Callable[[MossNormalizedRequest], SpeechJob]
    engine: Callable[[int], Engine]
    sample_rate: int
    frame_rate: float
    n_vq: int
    is_heard: Callable[[int], bool] = lambda _: True


@dataclass(frozen=True, eq=False)
class SpokenSegment:
    """A finished segment, with all that is needed to continue after it.

    Attributes:
        codes: its frames (F, Q), as a prompt holds them.
        audio: float32 (S,) or (S, C); only its end if the segment was restored.
        finish_reason: why it ended.
        metrics: what it took.
        seam: the seam to the segment before it; None for the first.
        takes: the attempts at it that a recogniser heard; `checking.best` of them is this one.
    """

    codes: CodeMatrix
    audio: np.ndarray
    finish_reason: FinishReason
    metrics: SegmentMetrics
    seam: BoundaryMetrics | None
    takes: tuple[Take, ...] = ()


@dataclass(frozen=True, eq=False)
class NarrationState:
    """What the following segments need of those spoken so far.

    Attributes:
        done: segments spoken.
        continuity: what the next segment of each voice is conditioned on.
        tail: the end of the last segment's audio, for the seam; None before the first.
        cut_short: why a segment was cut short, if any was.
    """

    done: int = 0
    continuity: Mapping[Casting | None, ContinuityState] = field(default_factory=dict)
    tail: np.ndarray | None = None
    cut_short: FinishReason | None = None


class Narrator:
    """Speaks one request's text in segments.

    Args:
        request: a request with long_form options, its references encoded.
        backend: the means to speak its segments.
        on_segment: called with each finished segment.
        voices: the requests for segments that have a casting, as this one is for the others; their texts do not count.
        check: hears segments; those that were misspoken are spoken again.
    """

    def __init__(
        self,
        request: MossNormalizedRequest,
        backend: SpeechBackend,
        on_segment: OnSegment | None = None,
        voices: Mapping[Casting, MossNormalizedRequest] = NO_VOICES,
        check: Check | None = None,
    ) -> None:
        assert request.long_form is not None
        self._request, self._options = request, request.long_form
        self._voices = dict[Casting | None, MossNormalizedRequest]([(None, request), *voices.items()])
        self._backend, self._on_segment, self._check = backend, on_segment, check
        self.plan = request.plan
        self.segment_metrics: list[SegmentMetrics] = []
        self.boundary_metrics: list[BoundaryMetrics] = []
        self._state = NarrationState()

    def restore(self, spoken: SpokenSegment) -> None:
        """Take over a segment that an earlier narrator of the same request spoke, in the plan's order."""
        assert spoken.metrics.segment_idx == self._state.done, "segments are restored in order"
        self._advance(spoken)

    def segments(self) -> Iterator[SpokenSegment]:
        """The segments that are left, whole, in order; seams are not treated.

        A cancelled segment is not finished, so it is not among them.

        Raises:
            GenerationError: a segment failed all its attempts.
        """
        for attempts in self._attempts():
            whole = merged(list(attempts.chunks))
            if whole.finish_reason == "cancelled":
                return
            yield self._finish(attempts, whole)

    def alone(self, index: int) -> SpeechChunk:
        """One segment, whole, as it sounds where nothing was spoken before it.

        Raises:
            GenerationError: it failed all its attempts.
        """
        [chunk] = [
            merged(list(attempts.chunks))
            for attempts in one_by_one(self._backend.engine, self._job, self._limits(), [index])
        ]
        return chunk

    def run(self) -> Iterator[tuple[int, SpeechChunk]]:
        """(segment, chunk) in order; the last chunk has the finish reason.

        Chunks come while they are made. If attempts are left, a segment is held until it has succeeded; if seams are
        treated, until the next segment is there.

        Raises:
            GenerationError: a segment failed all its attempts.
        """
        if self._options.crossfade_ms or self._options.trim_silence:
            yield from self._with_treated_seams()
            return
        for attempts in self._attempts():
            chunks: list[SpeechChunk] = []
            for chunk in attempts.chunks:
                chunks.append(chunk)
                if chunk.finish_reason is None:
                    yield attempts.index, chunk
            whole = merged(chunks)
            if whole.finish_reason != "cancelled":
                self._finish(attempts, whole)
            yield attempts.index, self._as_part(attempts.index, chunks[-1])
            if whole.finish_reason == "cancelled":
                return

    def _as_part(self, index: int, chunk: SpeechChunk) -> SpeechChunk:
        """A segment's last chunk is the request's last only in the last segment, or when cancelled."""
        if chunk.finish_reason == "cancelled":
            return chunk
        is_last = index == len(self.plan) - 1
        return replace(chunk, finish_reason=(self._state.cut_short or chunk.finish_reason) if is_last else None)

    def _with_treated_seams(self) -> Iterator[tuple[int, SpeechChunk]]:
        """Whole segments, their seams crossfaded or trimmed; one is held back."""
        parts: list[tuple[int, SpeechChunk]] = []

        def segments() -> Iterator[SegmentAudio]:
            for attempts in self._attempts():
                whole = merged(list(attempts.chunks))
                if whole.finish_reason != "cancelled":
                    self._finish(attempts, whole)
                # Not a slice: that would keep all the audio alive.
                parts.append(
                    (attempts.index, replace(self._as_part(attempts.index, whole), audio=np.zeros(0, np.float32)))
                )
                yield SegmentAudio(whole.audio, *self.plan[attempts.index].voices)
                if whole.finish_reason == "cancelled":
                    return

        for audio in join_segments(
            segments(),
            self._backend.sample_rate,
            crossfade_ms=self._options.crossfade_ms,
            trim_silence=self._options.trim_silence,
        ):
            index, part = parts.pop(0)
            yield index, replace(part, audio=np.asarray(audio, dtype=np.float32))

    # -------------------------------------------------------------------------------------- segments

    def _attempts(self) -> Iterator[Attempts]:
        """The segments that are left, being spoken."""
        backend, limits, at_once = self._backend, self._limits(), self._options.parallel
        alone = len(self.plan) if at_once == 1 else self._until_voices_are_known()
        rest = range(max(alone, self._state.done), len(self.plan))
        for attempts in chain(
            one_by_one(backend.engine, self._job, limits, range(self._state.done, alone)),
            side_by_side(backend.engine, self._job, limits, rest, at_once),
        ):
            segment = self.plan[attempts.index]
            rate = backend.sample_rate / self._request.speed
            before, after = round(segment.silence_before * rate), round(segment.silence_after * rate)
            attempts.chunks = between_silence(attempts.chunks, before, after)
            yield attempts

    def _limits(self) -> Limits:
        check, retries = self._check, self._options.retry_attempts
        if check is None:
            return Limits(retries)

        def hear(index: int, chunks: Sequence[SpeechChunk]) -> Take:
            return check.take(self.plan[index], merged(list(chunks)).audio, self._backend.sample_rate)

        return Limits(retries, hear, check.is_enough)

    def _until_voices_are_known(self) -> int:
        """How many segments are spoken before others may be side by side.

        All segments of a voice then sound alike: as the user's recording, as the first of them, or as the only voice
        there is.
        """
        if self._options.continuity == "none":
            return 0
        first = {segment.casting: index for index, segment in reversed(list(enumerate(self.plan)))}
        return max((index + 1 for casting, index in first.items() if not _has_voice(self._voices[casting])), default=0)

    def _job(self, index: int, attempt: int) -> SpeechJob:
        segment = self.plan[index]
        seed = retry_seed(self._voices[segment.casting].seed, index, attempt)
        job = self._backend.job(self._conditioned(segment, seed))
        return replace(job, is_heard=lambda: self._backend.is_heard(index - self._state.done))

    def _finish(self, attempts: Attempts, whole: SpeechChunk) -> SpokenSegment:
        """Measure a segment, keep what the next one needs, and report the segment."""
        seconds = time.perf_counter() - attempts.started
        seam = self._seam(whole.audio)
        metrics = self._metrics(attempts, whole, seconds, "segment-start" if seam is None else seam.note)
        assert whole.finish_reason is not None
        spoken = SpokenSegment(
            widened(whole.frames, self._backend.n_vq),
            whole.audio,
            whole.finish_reason,
            metrics,
            seam,
            tuple(attempts.takes),
        )
        self._advance(spoken)
        if self._on_segment is not None:
            self._on_segment(metrics)
        return spoken

    def _advance(self, spoken: SpokenSegment) -> None:
        self.segment_metrics.append(spoken.metrics)
        if spoken.seam is not None:
            self.boundary_metrics.append(spoken.seam)
        state, segment = self._state, self.plan[spoken.metrics.segment_idx]
        continuity = self._continuity(segment)
        if len(spoken.codes):
            rate = self._backend.frame_rate
            continuity = advance_continuity_state(continuity, segment, spoken.codes, self._options, rate)
        self._state = NarrationState(
            state.done + 1,
            {**state.continuity, segment.casting: continuity},
            spoken.audio[-self._seam_width :].copy(),
            spoken.finish_reason if spoken.finish_reason in CUT_SHORT else state.cut_short,
        )

    # -------------------------------------------------------------------------------------- continuity

    def _conditioned(self, segment: TextSegment, seed: int) -> MossNormalizedRequest:
        """The request for one segment, conditioned on what was spoken."""
        request = replace(self._voices[segment.casting], tokens=self._request.tokens_of(segment), seed=seed)
        return conditioned(request, segment, self._continuity(segment))

    def _continuity(self, segment: TextSegment) -> ContinuityState:
        """What earlier segments in the voice of this one have handed on."""
        return self._state.continuity.get(segment.casting, ContinuityState())

    # -------------------------------------------------------------------------------------- metrics

    def _metrics(self, attempts: Attempts, whole: SpeechChunk, seconds: float, note: BoundaryNote) -> SegmentMetrics:
        segment, backend = self.plan[attempts.index], self._backend
        state = self._continuity(segment)
        peak = mx.get_peak_memory() / 1e9
        prefix = 0 if state.prefix_codes is None else len(state.prefix_codes)
        return SegmentMetrics(
            segment_idx=attempts.index,
            segment_chars=len(segment.text),
            start_offset=segment.start_offset,
            end_offset=segment.end_offset,
            retry_count=attempts.retries,
            prompt_tokens_generated=len(whole.frames),
            emitted_samples=len(whole.audio),
            emitted_seconds=len(whole.audio) / backend.sample_rate,
            segment_latency_seconds=seconds,
            segment_peak_memory_gb=peak,
            total_peak_memory_gb=max([peak, *(past.total_peak_memory_gb for past in self.segment_metrics[-1:])]),
            prefix_audio_samples=round(prefix / backend.frame_rate * backend.sample_rate),
            prefix_text_chars=len(state.prefix_text),
            boundary_note=note,
        )

    @property
    def _seam_width(self) -> int:
        return round(SEAM_SECONDS * self._backend.sample_rate)

    def _seam(self, audio: np.ndarray) -> BoundaryMetrics | None:
        """The seam to the segment before this one."""
        left = self._state.tail
        return None if left is None else evaluate_segment_boundary(left, audio, self._backend.sample_rate)


def _has_voice(request: MossNormalizedRequest) -> bool:
    """Whether a recording says how a request sounds."""
    return bool(request.reference) or request.prompt_audio is not None


def between_silence(chunks: Iterable[SpeechChunk], before: int, after: int) -> Iterator[SpeechChunk]:
    """Chunks with silence before the first and after the last; there is none after a cancelled segment."""
    for chunk in chunks:
        is_end = chunk.finish_reason not in (None, "cancelled")
        edges = [(before, after if is_end else 0), *((0, 0) for _ in chunk.audio.shape[1:])]
        yield replace(chunk, audio=np.pad(chunk.audio, edges)) if any(edges[0]) else chunk
        before = 0


def widened(codes: CodeMatrix, n_vq: int) -> CodeMatrix:
    """Codes (F, Q) of a model that used fewer codebooks, with 0 for the others, as it feeds them back."""
    return np.pad(codes, ((0, 0), (0, n_vq - codes.shape[1])))
