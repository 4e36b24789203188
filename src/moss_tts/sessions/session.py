"""A session: one voice, and turns that follow each other in one context."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterable, Generator, Iterable
from functools import partial
from typing import Any, Self

from moss_tts.audio.references import as_references
from moss_tts.device.thread import closed_at_exit
from moss_tts.errors import GenerationError, RequestError, TurnOverError, shown
from moss_tts.result import GenerationResult
from moss_tts.sessions.feeding import feed, feed_async
from moss_tts.sessions.protocol import Conversation, UserTurn
from moss_tts.sessions.turn import Turn, TurnSetting
from moss_tts.speaking.listening import Host
from moss_tts.text.cleanup import check_text


class Session:
    """Speaks texts while they are written, one turn at a time; any thread may use it. `with` closes it.

    Args:
        host: speaks.
        conversation: the context of its turns.
        sample_rate: the rate of its sound, in Hz.
        seed: the same seed and the same turns give the same sound.
        notes: sentences for people about options that are followed otherwise than asked.
        warns: whether notes of its turns become warnings, too.

    Attributes:
        sample_rate: the rate of its sound, in Hz.
        seed: the seed, drawn if the caller gave none.
        notes: sentences for people about options that are followed otherwise than asked.
    """

    def __init__(
        self,
        host: Host,
        conversation: Conversation,
        sample_rate: int,
        seed: int,
        notes: tuple[str, ...] = (),
        *,
        warns: bool = True,
    ) -> None:
        self.sample_rate, self.seed, self.notes = sample_rate, seed, notes
        self._host, self._conversation = host, conversation
        self._setting = TurnSetting(host, sample_rate, seed, conversation.takes_tokens, warns)
        self._lock = threading.Lock()
        self._turn: Turn | None = None
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    @property
    def takes_user(self) -> bool:
        """Whether a turn takes user_text and user_audio."""
        return self._conversation.takes_user

    @property
    def takes_tokens(self) -> bool:
        """Whether a turn takes ids of the model's tokenizer."""
        return self._conversation.takes_tokens

    def turn(self, *, user_text: str | None = None, user_audio: Any = None) -> Turn:
        """Begin a turn.

        Args:
            user_text: what the user said before it.
            user_audio: a recording of that: a path, a waveform or codes.

        Raises:
            RequestError: the model has no place for what the user said, or it cannot be used.
            TurnOverError: the turn before it is not over, or the session is closed.
        """
        user = self._user(user_text, user_audio)
        with self._lock:
            if self._closed:
                raise TurnOverError("this session is closed; open another one.")
            if self._turn is not None:
                if not self._turn.is_over:
                    raise TurnOverError("a turn of this session is not over yet; wait for its end, or cancel it.")
                self._turn.pass_by()
            self._turn = Turn(self._setting, partial(self._conversation.begin, user))
            return self._turn

    def speak(self, deltas: Iterable[str]) -> Generator[GenerationResult, None, None]:
        """Speak a text as one turn while an iterator yields it.

        A thread of its own takes the pieces, so a slow writer does not stop the sound. If the iterator raises, the
        turn fails with that error. Closing the generator cancels the turn.

        Args:
            deltas: pieces of text of any length, such as an LLM writes them.

        Raises:
            RequestError: deltas is no iterable.
            TurnOverError: see turn.
            MossTTSError: the turn has failed.
        """
        if not isinstance(deltas, Iterable):
            raise RequestError(f"deltas must be an iterable of strings, got {shown(deltas)}")
        return closed_at_exit(self._spoken(deltas))

    def _spoken(self, deltas: Iterable[str]) -> Generator[GenerationResult, None, None]:
        with self.turn() as turn:
            _feed_in_thread(turn, deltas)
            yield from turn

    async def speak_async(self, deltas: Iterable[str] | AsyncIterable[str]) -> AsyncGenerator[GenerationResult, None]:
        """Speak a text as one turn while an iterator, or an asynchronous one, yields it.

        Args:
            deltas: pieces of text of any length. An asynchronous iterator is asked in this event loop.

        Raises:
            RequestError: deltas is no iterable.
            TurnOverError: see turn.
            MossTTSError: the turn has failed.
        """
        if not isinstance(deltas, Iterable | AsyncIterable):
            raise RequestError(f"deltas must be an iterable of strings, got {shown(deltas)}")
        with self.turn() as turn:
            task = None
            if isinstance(deltas, AsyncIterable):
                task = asyncio.create_task(feed_async(turn, deltas))
            else:
                _feed_in_thread(turn, deltas)
            try:
                async for result in turn:
                    yield result
            finally:
                if task is not None:
                    task.cancel()

    def _user(self, text: str | None, audio: Any) -> UserTurn:
        if text is None and audio is None:
            return UserTurn()
        if not self.takes_user:
            raise RequestError("the prompt of this model has no place for user_text and user_audio; leave them out.")
        checked = None if text is None else check_text("user_text", text)
        return UserTurn(checked, None if audio is None else as_references([audio], "user_audio")[0])

    def close(self) -> None:
        """Cancel the turn that is not over, and free the context."""
        with self._lock:
            if self._closed:
                return
            self._closed, turn = True, self._turn
        if turn is not None:
            turn.cancel()
        self._host.call(self._conversation.close)

    def fail(self, error: GenerationError) -> None:
        """End it with an error, which the turn that is not over raises."""
        if self._turn is not None:
            self._turn.tell(error)
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _feed_in_thread(turn: Turn, deltas: Iterable[str]) -> None:
    threading.Thread(target=feed, args=(turn, deltas), name="deltas", daemon=True).start()
