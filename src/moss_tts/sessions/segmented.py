"""Sessions with models that need a text before they speak it: segments, cut while the text comes, in one voice.

A turn has at most one segment with the host, for the next one may need its codes. A segment is a job like any other,
so sessions and requests share a batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

import numpy as np

from moss_tts.errors import GenerationError, RequestError, shown
from moss_tts.frames import FinishReason
from moss_tts.long_form import ContinuityState, TextSegment, advance_continuity_state, retry_seed
from moss_tts.prompts.planning import plan_text, tags_left_out
from moss_tts.prompts.token_budgets import cut_of
from moss_tts.request import MossNormalizedRequest
from moss_tts.sessions.protocol import NO_WORDS, TurnListener, UserTurn, as_failure
from moss_tts.speaking.attempts import CUT_SHORT
from moss_tts.speaking.conditioning import conditioned
from moss_tts.speaking.engine import Run, SpeechChunk, SpeechJob
from moss_tts.speaking.jobs import JobMaker
from moss_tts.speaking.listening import Host, Result
from moss_tts.speaking.narration import between_silence, widened
from moss_tts.text.growing import GrowingText

# Seconds of sound that the voice is taken from where the caller gave none: a first segment may be a word or two.
LEAST_VOICE = 4.0
# A segment counts as heard if its listener is at most this many seconds before its end.
NEARLY = 0.05
# Numbers of turns, where retry_seed has numbers of segments: no text has as many.
_SEEDS_OF_TURNS = 2**32


@dataclass(frozen=True, eq=False)
class SegmentedContext:
    """What a turn has of those before it.

    Attributes:
        continuity: what conditions the next segment.
        turns: the number of turns.
        speaker: the speaker's tag that holds until another one comes; None before the first.
    """

    continuity: ContinuityState = field(default_factory=ContinuityState)
    turns: int = 0
    speaker: str | None = None


class SegmentedConversation:
    """A conversation: its context is the voice, and the end of what was spoken last.

    Args:
        host: speaks the segments.
        maker: makes their jobs.
        request: the options of the session; long_form is among them.

    Attributes:
        context: what the next turn has of those before it.
    """

    takes_tokens = takes_user = False

    def __init__(self, host: Host, maker: JobMaker, request: MossNormalizedRequest) -> None:
        assert request.long_form is not None
        self._host, self._maker, self._request, self._ties = host, maker, request, request.long_form
        self._is_encoded = False
        self.context = SegmentedContext()

    def begin(self, user: UserTurn, listener: TurnListener) -> SegmentedTurn:  # noqa: ARG002 - see takes_user
        """Begin a turn."""
        if not self._is_encoded:
            self._request, self._is_encoded = self._maker.encoded(self._request), True
            self._maker.codec.release_encoder()
        return SegmentedTurn(self, listener)

    def close(self) -> None:
        """Forget the context."""
        self.context = SegmentedContext()

    # ---------------------------------------------------------------------------------------- for its turns

    def planned(self, stretch: str, listener: TurnListener) -> tuple[TextSegment, ...]:
        """The segments of a stretch of text; none if nothing of it can be spoken."""
        request, maker = self._request, self._maker
        cut = cut_of(self._ties, False, request.preset.pieces, maker.processor.count_tokens)
        try:
            plan = plan_text(stretch, self._ties, maker.config.text_preparation, cut, request.respell)
        except RequestError:
            listener.note(f"A part of the text has no word that can be spoken, so it was left out: {shown(stretch)}.")
            return ()
        for note in plan.notes + (tags_left_out(plan, request.preset.clean_up) if request.normalizes_text else ()):
            listener.note(note)
        return plan.segments

    def silence_after(self, segment: TextSegment) -> float:
        """Seconds of silence between a segment and the next stretch of text."""
        pieces = self._request.preset.pieces
        return 0.0 if pieces is None else pieces.silence_after(segment.text)

    def submit(self, job: SegmentJob, turn: SegmentedTurn, listener: TurnListener) -> Future[Run]:
        """Speak a segment; the turn hears of it."""
        return self._host.submit(
            lambda: replace(self._job(job), is_heard=listener.has_room, owner=self),
            lambda _, result: turn.hear(result),
        )

    def _job(self, job: SegmentJob) -> SpeechJob:
        turn = job.context.turns
        seed = retry_seed(self._request.seed, _SEEDS_OF_TURNS + turn if turn else 0, 0)
        request = replace(self._request, seed=retry_seed(seed, job.index, job.attempt))
        return self._maker.job(conditioned(request, job.segment, job.context.continuity))

    def drop(self, run: Future[Run]) -> None:
        """Speak a segment no further."""
        self._host.drop(run)

    @property
    def most_retries(self) -> int:
        """How often a segment that gave no sound is spoken again."""
        return self._ties.retry_attempts

    @property
    def sample_rate(self) -> int:
        """Rate of the sound, in Hz."""
        return self._maker.sample_rate

    @property
    def silence_rate(self) -> float:
        """Samples for each second of silence that the text asks for: fewer in fast speech."""
        return self.sample_rate / self._request.speed

    def after(self, context: SegmentedContext, segment: TextSegment, codes: np.ndarray) -> SegmentedContext:
        """The context after a segment was spoken as codes (F, Q)."""
        continuity = context.continuity
        if len(codes):
            wide = widened(codes, self._maker.config.n_vq)
            rate = self._maker.codec().config.frame_rate
            continuity = advance_continuity_state(continuity, segment, wide, self._ties, rate, LEAST_VOICE)
        return replace(context, continuity=continuity, speaker=segment.last_speaker)


@dataclass(frozen=True, eq=False)
class SegmentJob:
    """An attempt at a segment.

    Attributes:
        segment: the segment.
        index: its number in the turn.
        attempt: the number of the attempt.
        context: what it is conditioned on.
    """

    segment: TextSegment
    index: int
    attempt: int
    context: SegmentedContext


class SegmentedTurn:
    """A turn of a SegmentedConversation.

    Args:
        conversation: its context and its means.
        listener: takes its sound.
    """

    def __init__(self, conversation: SegmentedConversation, listener: TurnListener) -> None:
        self._conversation, self._listener = conversation, listener
        self._before = self._context = conversation.context
        self._text = GrowingText()
        self._planned: deque[TextSegment] = deque()
        self._job: SegmentJob | None = None
        self._last: TextSegment | None = None
        self._run: Future[Run] | None = None
        self._codes: list[np.ndarray] = []
        # A chunk without sound, in the shape of the others.
        self._nothing = SpeechChunk(np.zeros(0, np.float32), np.zeros((0, 0), np.int32))
        self._is_over = False
        self._cut_short: FinishReason | None = None
        # Samples of the turn's sound, and with each finished segment: how many there were, and the context after it.
        self._samples = 0
        self._finished: list[tuple[int, SegmentedContext]] = []

    @property
    def pending(self) -> int:
        """Characters that are in no segment yet."""
        return self._text.pending

    @property
    def text_left(self) -> str:
        """The text that was not spoken to its end."""
        segments = [*([self._job.segment] if self._job else []), *self._planned]
        return " ".join([*(segment.text for segment in segments), self._text.rest]).strip()

    def push(self, text: str) -> None:
        """Take a piece of text."""
        self._text.push(text)
        self._go_on()

    def push_tokens(self, ids: Sequence[int]) -> None:
        """Refuse ids: these models take text.

        Raises:
            RequestError: always.
        """
        raise RequestError(f"this model takes text only, no ids; got {shown(ids)}")

    def flush(self) -> None:
        """End a segment with what is there."""
        self._text.flush()
        self._go_on()

    def end(self) -> None:
        """End with what is there."""
        self._text.end()
        self._go_on()
        if self._job is None and not self._is_over:
            self._end(replace(self._nothing, finish_reason="stop"))

    def cancel(self) -> None:
        """Stop, and restore the context."""
        self._stop(self._before)

    def interrupt(self, heard_seconds: float) -> None:
        """Stop; the context is the one after the last segment that was heard to its end."""
        heard = (heard_seconds + NEARLY) * self._conversation.sample_rate
        contexts = [context for samples, context in self._finished if samples <= heard]
        self._stop(replace(contexts[-1], turns=contexts[-1].turns + 1) if contexts else self._before)

    def _stop(self, context: SegmentedContext) -> None:
        self._is_over = True
        self._conversation.context = context
        if self._run is not None:
            self._conversation.drop(self._run)

    # ---------------------------------------------------------------------------------------------- segments

    def _go_on(self) -> None:
        """Speak the next segment, if there is one and none is being spoken."""
        if self._job is None and not self._is_over and (segment := self._next_segment()) is not None:
            self._speak(SegmentJob(segment, len(self._finished), 0, self._context))

    def _next_segment(self) -> TextSegment | None:
        while not self._planned:
            stretch = self._text.next()
            if stretch is None:
                return None
            self._planned.extend(self._conversation.planned(stretch, self._listener))
            if self._planned and self._last is not None:
                first, silence = self._planned[0], self._conversation.silence_after(self._last)
                self._planned[0] = replace(first, silence_before=first.silence_before + silence)
        segment = self._planned.popleft()
        return replace(segment, speaker=segment.speaker or self._context.speaker)

    def _speak(self, job: SegmentJob) -> None:
        self._job, self._codes = job, []
        self._run = self._conversation.submit(job, self, self._listener)
        self._run.add_done_callback(self._submitted)

    def _submitted(self, run: Future[Run]) -> None:
        if not run.cancelled() and (error := run.exception()) is not None:
            self._fail(error)

    def hear(self, result: Result) -> None:
        """Take a chunk of the segment that is being spoken, or its failure."""
        # The host may be late to drop a segment.
        if self._job is None or self._is_over:
            return
        if isinstance(result, GenerationError):
            if self._codes or self._job.attempt >= self._conversation.most_retries:
                self._fail(result)
            else:
                self._speak(replace(self._job, attempt=self._job.attempt + 1))
            return
        chunk = self._with_silence(result, self._job.segment)
        self._codes.append(result.frames)
        self._nothing = replace(result, audio=result.audio[:0], frames=result.frames[:0])
        self._samples += len(chunk.audio)
        if chunk.finish_reason is None:
            self._listener.tell(chunk, self._job.index)
        else:
            self._finish(chunk, self._job)

    def _with_silence(self, chunk: SpeechChunk, segment: TextSegment) -> SpeechChunk:
        rate = self._conversation.silence_rate
        before = 0 if self._codes else round(segment.silence_before * rate)
        [padded] = between_silence([chunk], before, round(segment.silence_after * rate))
        return padded

    def _finish(self, chunk: SpeechChunk, job: SegmentJob) -> None:
        """Hand over the last chunk of a segment, and go on with the next one."""
        self._context = self._conversation.after(self._context, job.segment, np.concatenate(self._codes))
        self._finished.append((self._samples, self._context))
        self._last, self._job, self._run = job.segment, None, None
        if chunk.finish_reason in CUT_SHORT:
            self._cut_short = chunk.finish_reason
        segment = self._next_segment()
        if segment is None and self._text.is_over:
            self._end(chunk, job.index)
            return
        self._listener.tell(replace(chunk, finish_reason=None), job.index)
        if segment is not None:
            self._speak(SegmentJob(segment, len(self._finished), 0, self._context))

    def _end(self, chunk: SpeechChunk, index: int = 0) -> None:
        """Settle the context, and hand over the turn's last chunk."""
        self._is_over = True
        if not self._finished:
            self._fail(RequestError(NO_WORDS))
            return
        self._conversation.context = replace(self._context, turns=self._context.turns + 1)
        self._listener.tell(replace(chunk, finish_reason=self._cut_short or chunk.finish_reason), index)

    def _fail(self, error: BaseException) -> None:
        self._is_over = True
        self._listener.tell(as_failure(error))
