"""A turn: text that is spoken while it is written. Any thread pushes text, any thread or coroutine takes sound."""

from __future__ import annotations

import asyncio
import math
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Literal, Self, TypeAlias

import mlx.core as mx
import numpy as np

from moss_tts.errors import MossTTSWarning, PendingTextError, RequestError, TurnOverError, shown
from moss_tts.result import GenerationResult
from moss_tts.sessions.outbox import Outbox
from moss_tts.sessions.protocol import CHARACTERS_PER_ID, SpokenTurn, TurnListener, as_failure
from moss_tts.sessions.timing import TurnClock, TurnTimings
from moss_tts.speaking.engine import SpeechChunk
from moss_tts.speaking.listening import MOST_AHEAD, Host
from moss_tts.strict import is_integer, is_number
from moss_tts.text.cleanup import check_text
from moss_tts.text.voice_marks import UnmarkedText

# Characters of text that may wait to be spoken: about 4096 tokens.
MOST_PENDING = 16_384
# Text is taken without a word to those that wait for room.
SECONDS_BETWEEN_LOOKS = 0.05

Outcome: TypeAlias = Literal["ended", "stopped", "failed"]


@dataclass(frozen=True)
class _Part:
    """Sound, or what ended the turn; the segment it belongs to, and the seconds it took."""

    content: SpeechChunk | Exception
    segment: int = 0
    seconds: float = 0.0

    @property
    def size(self) -> int:
        return self.content.audio.nbytes if isinstance(self.content, SpeechChunk) else 0


@dataclass(frozen=True)
class TurnSetting:
    """What a turn has of its session.

    Attributes:
        host: speaks it.
        sample_rate: the rate of its sound, in Hz.
        seed: the session's seed.
        takes_tokens: whether the model takes ids of its tokenizer in place of text.
        warns: whether notes become warnings.
    """

    host: Host
    sample_rate: int
    seed: int
    takes_tokens: bool
    warns: bool = True


class Turn:
    """Iterate over it, in a thread or a coroutine, for its sound; exactly one chunk is final.

    After `with`, a turn is cancelled unless its last chunk was taken.

    Args:
        setting: what it has of its session.
        begin: begins the turn in the host's thread.
    """

    def __init__(self, setting: TurnSetting, begin: Callable[[TurnListener], SpokenTurn]) -> None:
        self._setting, self._begin = setting, begin
        self._changed = threading.Condition()
        self._outbox: Outbox[_Part] = Outbox()
        self._clock, self._unmarked = TurnClock(), UnmarkedText()
        self._spoken: SpokenTurn | None = None
        self._outcome: Outcome | None = None
        self._text_has_ended = self._is_past = self._is_exhausted = False
        self._on_way = 0  # Characters that the host's thread has not read yet.
        self._ahead = 0  # Bytes of sound that wait for the listener.
        self._no_sound = np.zeros(0, np.float32)
        self._notes: list[str] = []
        self._unwarned: list[str] = []
        setting.host.call(self._start).add_done_callback(self._called)

    # ------------------------------------------------------------------------------------------- text in

    def push(self, text: str) -> None:
        """Add a piece of text, of any length. It never waits for the device.

        Raises:
            RequestError: no text.
            PendingTextError: more than MOST_PENDING characters would wait; see `wait_for_room`.
            TurnOverError: the turn was ended, or is over.
        """
        if check_text("text", text):
            self._push(lambda spoken: self._take(spoken, self._unmarked.push(text)), len(text))

    def push_tokens(self, ids: Sequence[int]) -> None:
        """Add ids of the model's own tokenizer, for models that take them; a turn takes text or ids, not both.

        Raises:
            RequestError: the model takes text only, or these are no ids.
            PendingTextError: too many ids wait.
            TurnOverError: the turn was ended, or is over.
        """
        if not self._setting.takes_tokens:
            raise RequestError("this model takes text only; use push in place of push_tokens.")
        known = list(ids)
        if not all(is_integer(one, 0) for one in known):
            raise RequestError(f"ids must be a sequence of integers that are not negative, got {shown(known)}")
        if known:
            self._push(lambda spoken: spoken.push_tokens(known), CHARACTERS_PER_ID * len(known))

    def flush(self) -> None:
        """Speak what was pushed without waiting for more: the segment ends here. A word that is cut here stays cut.

        Raises:
            TurnOverError: the turn was ended, or is over.
        """
        with self._changed:
            self._check_takes_text()
            self._later(lambda spoken: self._take_rest(spoken, spoken.flush))

    def end(self) -> None:
        """Say that no text follows; the turn ends after its last word. Has no effect on a turn that is over."""
        with self._changed:
            if not self._text_has_ended and not self.is_over:
                self._text_has_ended = True
                self._later(lambda spoken: self._take_rest(spoken, spoken.end))

    @property
    def pending(self) -> int:
        """Characters of text that wait to be spoken; a token id counts as 4."""
        return self._on_way + len(self._unmarked.held) + (self._spoken.pending if self._spoken is not None else 0)

    def wait_for_room(self, seconds: float | None = None) -> bool:
        """Wait until at most half as much text waits as may, or the turn is over; False if it takes longer."""
        until = math.inf if seconds is None else time.monotonic() + seconds
        with self._changed:
            while not (has_room := self.is_over or 2 * self.pending <= MOST_PENDING):
                left = until - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(min(left, SECONDS_BETWEEN_LOOKS))
        return has_room

    # ------------------------------------------------------------------------------------------- its end

    @property
    def is_over(self) -> bool:
        """Whether all sound is made, or the turn was stopped or has failed; the session may begin another one."""
        return self._outcome is not None

    def cancel(self) -> None:
        """Stop at once. The context is as if the turn had never been; sound that was not taken yet is dropped.

        It has no effect once the last chunk was taken, the turn has failed, or another turn has begun.
        """
        with self._changed:
            if self._outcome is None or (self._outcome == "ended" and not (self._is_exhausted or self._is_past)):
                self._stop()
                self._later(lambda spoken: spoken.cancel())

    def interrupt(self, heard_seconds: float) -> None:
        """Stop at once, and keep in the context what was heard; sound that was not taken yet is dropped.

        It may come after all sound was made, for a listener is behind; the turn must still be the session's last.

        Args:
            heard_seconds: how much of the turn's sound was heard.

        Raises:
            RequestError: no number of seconds.
            TurnOverError: the turn was cancelled or has failed, or another one has begun.
        """
        if not is_number(heard_seconds) or heard_seconds < 0:
            raise RequestError(f"heard_seconds must be a number of seconds from 0, got {shown(heard_seconds)}")
        with self._changed:
            if self._is_past or self._outcome in ("stopped", "failed"):
                raise TurnOverError(
                    "this turn cannot be interrupted: it was stopped, has failed, or another one began."
                )
            self._stop()
            self._later(lambda spoken: spoken.interrupt(heard_seconds))

    def pass_by(self) -> None:
        """Note that the session goes on with another turn: what was heard of this one is settled."""
        self._is_past = True

    @property
    def text_left(self) -> str:
        """The text that is not spoken to its end; it is asked for between two rows of the host.

        Raises:
            GenerationError: the host has stopped.
        """

        def left() -> str:
            return ("" if self._spoken is None else self._spoken.text_left) + self._unmarked.held

        return self._setting.host.call(left).result()

    @property
    def timings(self) -> TurnTimings:
        """What a listener had to wait for."""
        return self._clock.timings

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for people on what was done otherwise than asked; a server's turns make no warnings of them."""
        return tuple(self._notes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()

    # ----------------------------------------------------------------------------------------- sound out

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> GenerationResult:
        """The next chunk; waits for it.

        Raises:
            MossTTSError: the turn has failed.
        """
        while not self._is_exhausted:
            self._outbox.ready().result()
            if (part := self._outbox.take()) is not None:
                return self._taken(part)
        raise StopIteration

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> GenerationResult:
        """The next chunk; the event loop goes on meanwhile.

        Raises:
            MossTTSError: the turn has failed.
        """
        while not self._is_exhausted:
            await asyncio.wrap_future(self._outbox.ready())
            if (part := self._outbox.take()) is not None:
                return self._taken(part)
        raise StopAsyncIteration

    def _taken(self, part: _Part) -> GenerationResult:
        content = part.content
        with self._changed:
            had_room = self.has_room()
            self._ahead -= part.size
            self._is_exhausted = isinstance(content, Exception) or content.finish_reason is not None
            unwarned, self._unwarned = self._unwarned, []
        if self._is_exhausted:
            self._outbox.close()
        if not had_room and self.has_room():
            self._setting.host.wake()
        for note in unwarned:
            warnings.warn(note, MossTTSWarning, stacklevel=3)
        if isinstance(content, Exception):
            raise content
        return GenerationResult.of(
            content.audio,
            sample_rate=self._setting.sample_rate,
            frames=len(content.frames),
            prompt_rows=content.prompt_rows,
            seconds=part.seconds,
            peak_memory=mx.get_peak_memory(),
            streaming=True,
            finish_reason=content.finish_reason,
            seed=self._setting.seed,
            segment_idx=part.segment,
        )

    # --------------------------------------------------------------------- for the model, from any thread

    def tell(self, part: SpeechChunk | Exception, segment: int = 0) -> None:
        """Hand over sound, or the error that ends the turn: see TurnListener."""
        with self._changed:
            if self.is_over:
                return
            seconds = 0.0
            if isinstance(part, Exception):
                self._outcome = "failed"
                self._later(lambda spoken: spoken.cancel())
            else:
                self._outcome = "ended" if part.finish_reason is not None else None
                seconds = self._clock.sound(len(part.audio) / self._setting.sample_rate)
                self._no_sound = part.audio[:0]
            self._put(_Part(part, segment, seconds))

    def note(self, sentence: str) -> None:
        """Tell people about something that is done otherwise than asked; once."""
        with self._changed:
            if sentence not in self._notes:
                self._notes.append(sentence)
                self._unwarned += [sentence] if self._setting.warns else []

    def has_room(self) -> bool:
        """Whether the listener has taken nearly all of its sound."""
        return self._ahead < MOST_AHEAD

    # ------------------------------------------------------------------------------------------- the rest

    def _push(self, work: Callable[[SpokenTurn], None], size: int) -> None:
        with self._changed:
            self._check_takes_text()
            if self.pending + size > MOST_PENDING:
                raise PendingTextError(
                    f"{self.pending} characters wait to be spoken, and {size} more would be too many: at most "
                    f"{MOST_PENDING} may wait. Wait for room, or push smaller pieces."
                )
            self._clock.text()
            self._later(work, size)

    def _check_takes_text(self) -> None:
        if self.is_over:
            raise TurnOverError("this turn is over, so it takes no more text; begin another one with session.turn().")
        if self._text_has_ended:
            raise TurnOverError("the text of this turn was ended, so it takes no more; begin another turn after it.")

    def _start(self) -> None:
        if not self.is_over:
            self._spoken = self._begin(self)

    def _take(self, spoken: SpokenTurn, text: str) -> None:
        """Pass text on to the model."""
        if text:
            spoken.push(text)
        for mark in self._unmarked.marks:
            self.note(
                f"The mark {shown(mark)} was left out: a session has one voice. `moss-tts read` changes the voice "
                "inside a text."
            )

    def _take_rest(self, spoken: SpokenTurn, then: Callable[[], None]) -> None:
        self._take(spoken, self._unmarked.rest())
        then()

    def _later(self, work: Callable[[SpokenTurn], None], size: int = 0) -> None:
        """Do something with the model in the host's thread, after all that was asked for before."""

        def run() -> None:
            try:
                if self._spoken is not None:
                    work(self._spoken)
            finally:
                with self._changed:
                    self._on_way -= size
                    self._changed.notify_all()

        self._on_way += size
        self._setting.host.call(run).add_done_callback(self._called)

    def _called(self, future: Future[None]) -> None:
        error = None if future.cancelled() else future.exception()
        if error is not None:
            self.tell(as_failure(error))

    def _stop(self) -> None:
        self._outcome = "stopped"
        self._outbox.clear()
        self._ahead = 0
        nothing = SpeechChunk(self._no_sound, np.zeros((0, 0), np.int32), "cancelled")
        self._put(_Part(nothing))

    def _put(self, part: _Part) -> None:
        self._ahead += part.size
        self._outbox.put(part)
        self._changed.notify_all()
