"""Sessions with models that read their text row by row while they speak: one run for a turn, in one context."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace

import numpy as np

from moss_tts.audio.codes import CodeMatrix
from moss_tts.context.kept import KeptContext
from moss_tts.context.text_column import TextColumn
from moss_tts.errors import GenerationError, RequestError, shown
from moss_tts.frames import FinishReason
from moss_tts.long_form import retry_seed
from moss_tts.prompts.growing_ids import GrowingIds
from moss_tts.prompts.packing import LEAD, check_one_reference
from moss_tts.prompts.turns import RealtimePacker
from moss_tts.request import MossNormalizedRequest
from moss_tts.sessions.protocol import CHARACTERS_PER_ID, NO_WORDS, TurnListener, UserTurn, as_failure
from moss_tts.speaking.engine import Run, SpeechChunk
from moss_tts.speaking.jobs import JobMaker
from moss_tts.speaking.listening import Host, Result
from moss_tts.speaking.runaway import longest_plausible_seconds
from moss_tts.text.tags import has_words


class RowwiseConversation:
    """A conversation: its context is all rows so far, what the user said and what was spoken.

    Args:
        host: speaks the turns.
        maker: makes their jobs.
        request: the options of the session.
        packer: writes the rows of turns.
        marks_ends: whether a row follows each turn that says that it has ended, as in training.

    Attributes:
        context: the rows so far.
        turns: the number of turns.
    """

    takes_tokens = takes_user = True

    def __init__(
        self, host: Host, maker: JobMaker, request: MossNormalizedRequest, packer: RealtimePacker, marks_ends: bool
    ) -> None:
        check_one_reference(request.reference)
        if request.respell is not None:
            raise RequestError(
                "this model reads its text while it is written, so a lexicon cannot change it. Leave it out."
            )
        self.packer, self.request, self.maker = packer, request, maker
        self._host, self._marks_ends = host, marks_ends
        self.context, self.turns = KeptContext(1 + maker.config.n_vq), 0

    def begin(self, user: UserTurn, listener: TurnListener) -> RowwiseTurn:
        """Begin a turn."""
        self.context.begin()
        return RowwiseTurn(self, self._header(user), listener)

    def close(self) -> None:
        """Free the context."""
        self.context.close()

    def _header(self, user: UserTurn) -> np.ndarray:
        """The rows (N, 1 + Q) before the text of a reply."""
        packer, is_first = self.packer, not len(self.context.rows)
        parts = [packer.system_rows(self._codes(self.request.reference))] if is_first else []
        has_user = user.text is not None or user.audio is not None
        if has_user:
            parts.append(packer.user_rows(user.text, self._codes((user.audio,))))
        parts.append(packer.reply_header(after_turn=not (is_first or has_user)))
        return np.concatenate(parts)

    def _codes(self, references: Sequence[object | None]) -> CodeMatrix | None:
        known = [reference for reference in references if reference is not None]
        if not known:
            return None
        [codes] = self.maker.processor.encode_audio(known)
        self.maker.codec.release_encoder()
        return codes

    # ---------------------------------------------------------------------------------------- for its turns

    def submit(self, prompt: np.ndarray, column: TextColumn, turn: RowwiseTurn, listener: TurnListener) -> Future[Run]:
        """Speak a turn, which hears of it.

        Raises:
            RequestError: the context has no room for it.
        """
        settled = replace(self.request, seed=retry_seed(self.request.seed, self.turns, 0))
        job = self.maker.job_of(prompt, settled, column, self.context)
        job = replace(job, is_heard=listener.has_room)
        return self._host.submit(lambda: job, lambda _, result: turn.hear(result))

    def drop(self, run: Future[Run]) -> None:
        """Speak a turn no further."""
        self._host.drop(run)

    def longest(self, text: str) -> int | None:
        """Frames after which a text must have been spoken; None without such a bound."""
        if not self.request.runaway_guard:
            return None
        return math.ceil(longest_plausible_seconds(text) * self.frame_rate)

    @property
    def frame_rate(self) -> float:
        """Frames a second."""
        return float(self.maker.codec().config.frame_rate)

    @property
    def end_row(self) -> np.ndarray | None:
        """The row that follows a turn that ends by itself."""
        return self.packer.end_of_turn_row() if self._marks_ends else None


class RowwiseTurn:
    """A turn of a RowwiseConversation.

    Args:
        conversation: its context and its means.
        header: the rows (N, 1 + Q) before its text.
        listener: takes its sound.
    """

    def __init__(self, conversation: RowwiseConversation, header: np.ndarray, listener: TurnListener) -> None:
        self._conversation, self._header, self._listener = conversation, header, listener
        self._number = conversation.turns
        self._growing = GrowingIds(conversation.packer.encoder)
        self._column = TextColumn(ended=False)
        # All text and all ids so far; ids that a caller has given are no text.
        self._text, self._ids = "", list[int]()
        self._takes: type | None = None
        self._run: Future[Run] | None = None
        self._codes = np.zeros((0, header.shape[1] - 1), np.int32)
        self._longest: int | None = None
        self._is_over = False

    @property
    def pending(self) -> int:
        """Characters that the model has not read yet; those without an id count as they are."""
        return CHARACTERS_PER_ID * len(self._unread) + len(self._growing.rest)

    @property
    def text_left(self) -> str:
        """The text that the model has not read."""
        decode = self._conversation.maker.processor.tokenizer.decode
        return (str(decode(self._unread)) if self._unread else "") + self._growing.rest

    @property
    def _unread(self) -> list[int]:
        return self._ids if self._run is None else self._ids[LEAD + len(self._codes) :]

    def push(self, text: str) -> None:
        """Take a piece of text."""
        self._expect(str)
        self._text += text
        self._add(self._growing.push(text))

    def push_tokens(self, ids: Sequence[int]) -> None:
        """Take ids.

        Raises:
            RequestError: an id that the model does not have, or the turn has got text before.
        """
        self._expect(int)
        if (largest := max(ids, default=0)) >= (size := self._conversation.maker.config.vocab_size):
            raise RequestError(
                f"id {largest} is not one of this model's, which are 0 to {size - 1}; got {shown(list(ids))}"
            )
        self._text += CHARACTERS_PER_ID * len(ids) * "x"
        self._add(list(ids))

    def flush(self) -> None:
        """Read the word that may still go on; sound goes on LEAD ids behind the text."""
        self._add(self._growing.flush())

    def end(self) -> None:
        """Read what is there, and then end."""
        self._column.ended = True
        self._longest = self._conversation.longest(self._text)
        self._add(self._growing.flush())
        if self._run is None and not self._is_over:
            self._fail(RequestError(NO_WORDS))

    def cancel(self) -> None:
        """Stop, and restore the context."""
        self._stop()
        self._conversation.context.cancel()
        self._conversation.turns = self._number

    def interrupt(self, heard_seconds: float) -> None:
        """Stop; the context keeps the rows of the frames that were heard, and a row that says that the turn ended."""
        frames = int(heard_seconds * self._conversation.request.speed * self._conversation.frame_rate + 0.5)
        if self._run is None or not (heard := min(frames, len(self._codes))):
            self.cancel()
            return
        self._stop()
        self._settle(heard, self._conversation.packer.end_of_turn_row())

    def hear(self, result: Result) -> None:
        """Take a chunk of sound, or the failure."""
        # The host may be late to drop a run.
        if self._is_over:
            return
        if isinstance(result, GenerationError):
            self._fail(result)
            return
        chunk = self._bounded(result)
        self._codes = np.concatenate([self._codes, chunk.frames])
        if chunk.finish_reason is not None:
            self._end(chunk.finish_reason)
        self._listener.tell(chunk)

    # ---------------------------------------------------------------------------------------------- the rest

    def _expect(self, kind: type) -> None:
        if self._takes not in (None, kind):
            raise RequestError("a turn takes text or ids, not both; begin another turn for the other.")
        self._takes = kind

    def _add(self, ids: list[int]) -> None:
        self._ids += ids
        if self._run is not None:
            self._column.push(ids)
        elif not self._is_over and (len(self._ids) >= LEAD or (self._column.ended and self._has_words)):
            self._column.push(self._ids[LEAD:])
            self._run = self._conversation.submit(self._opening, self._column, self, self._listener)
            self._run.add_done_callback(self._submitted)

    @property
    def _has_words(self) -> bool:
        return bool(self._ids) and has_words(self._text)

    @property
    def _opening(self) -> np.ndarray:
        """The rows that are read before the first frame."""
        return np.concatenate([self._header, self._conversation.packer.reply_rows(self._ids[:LEAD])])

    def _bounded(self, chunk: SpeechChunk) -> SpeechChunk:
        """A chunk up to the frame at which the text must have been spoken."""
        room = math.inf if self._longest is None else self._longest - len(self._codes)
        if len(chunk.frames) < room or not len(chunk.frames):
            return chunk
        kept = int(room)
        samples = len(chunk.audio) * kept // len(chunk.frames)
        return replace(chunk, frames=chunk.frames[:kept], audio=chunk.audio[:samples], finish_reason="length")

    def _end(self, reason: FinishReason) -> None:
        self._stop()
        # The last frame before a limit was never read.
        self._settle(len(self._codes) - (reason != "stop"), self._conversation.end_row)
        if reason == "stop" and (left := self.text_left):
            self._listener.note(f"The model ended its speech before its text: {shown(left)} was not spoken.")
        elif reason == "stop" and not self._column.ended:
            self._listener.note("The model ended its speech before its text had ended: what follows is not spoken.")

    def _settle(self, frames: int, then: np.ndarray | None) -> None:
        """Let the context have the turn with its first frames."""
        packer = self._conversation.packer
        ids = self._ids[LEAD : LEAD + frames]
        ids += [packer.config.text_pad_token_id] * (frames - len(ids))
        rows = packer.slot_rows(ids, self._codes[:frames])
        self._conversation.context.settle(np.concatenate([self._opening, rows]), then)
        self._conversation.turns = self._number + 1

    def _stop(self) -> None:
        self._is_over = True
        if self._run is not None:
            self._conversation.drop(self._run)

    def _submitted(self, run: Future[Run]) -> None:
        if not run.cancelled() and (error := run.exception()) is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self._stop()
        self._conversation.context.cancel()
        self._listener.tell(as_failure(error))
