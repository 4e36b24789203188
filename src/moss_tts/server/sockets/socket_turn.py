"""A turn of a session as a client of a WebSocket has it: text in, sound out, and how it ended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import anyio.to_thread

from moss_tts.errors import MossTTSError, PendingTextError
from moss_tts.result import GenerationResult
from moss_tts.server.chunk_stream import as_failure
from moss_tts.server.errors import ApiError
from moss_tts.server.formats import FormatEncoder, new_encoder
from moss_tts.server.service import OpenSession, Service, failure, outcome_of
from moss_tts.server.sockets.messages import SocketFormat
from moss_tts.server.sockets.socket import Socket
from moss_tts.server.sockets.text_queue import TextQueue, text_ended
from moss_tts.sessions.feeding import feed_async
from moss_tts.sessions.turn import Turn


@dataclass(frozen=True)
class SoundForm:
    """The form of the sound on its way to the client.

    Attributes:
        format: the format.
        whole: whether the sound of a turn is one message, sent at its end.
    """

    format: SocketFormat
    whole: bool


class SocketTurn:
    """A turn. `speak` runs it.

    Args:
        service: the state of the server.
        socket: takes the sound.
        open_session: speaks.
        turn: a turn of this session.
        form: the form of the sound.

    Attributes:
        turn: the turn.
        text: its text on the way.
        messages: how many messages of sound were sent.
        bytes: how many bytes of sound were sent.
        error: why it failed; None if it has not.
        reason: how it ended; None before that.
        channels: the channels of its sound; they are known before the first sound is sent.
    """

    def __init__(
        self, service: Service, socket: Socket, open_session: OpenSession, turn: Turn, form: SoundForm
    ) -> None:
        self._service, self._socket, self._form = service, socket, form
        self._mark, self._rate = open_session.mark, open_session.session.sample_rate
        self.turn, self.text = turn, TextQueue(service.settings.max_chars)
        self._encoder: FormatEncoder | None = None
        self.channels = 1
        self.messages = self.bytes = 0
        self.error: ApiError | None = None
        self.reason: str | None = None
        self._stopped_by = "cancelled"
        self._began = asyncio.get_running_loop().time()

    def put_tokens(self, ids: Sequence[int]) -> None:
        """Take in ids of the model's tokenizer.

        Raises:
            ApiError: too many wait to be spoken, or the text has ended.
            RequestError: the model takes text only.
        """
        if self.text.ended:
            raise text_ended()
        try:
            self.turn.push_tokens(ids)
        except PendingTextError as error:
            raise ApiError(400, str(error), "token_ids", "too_much_waits") from error

    def stop(self, reason: str, heard_seconds: float | None = None) -> None:
        """End it at once; the context forgets it, or keeps what was heard."""
        self._stopped_by = reason
        if heard_seconds is None:
            self.turn.cancel()
        else:
            self.turn.interrupt(heard_seconds)

    async def speak(self, on_sound: Callable[[], Awaitable[None]]) -> None:
        """Send the sound until the turn ends. How it ended is told by its attributes.

        Args:
            on_sound: called before the first sound is sent.

        Raises:
            SocketGone: nobody takes it.
        """
        feeding = asyncio.create_task(feed_async(self.turn, self.text))
        outcome, limit = "cancelled", self._service.settings.turn_timeout_s
        try:
            async with asyncio.timeout(limit):
                await self._send_all(on_sound)
            outcome = "cancelled" if self.reason == self._stopped_by else "ok"
        except TimeoutError:
            outcome = self._fail(ApiError(504, f"the turn took longer than {limit:g} s", code="timeout"))
        except MossTTSError as error:
            outcome = self._fail(failure(error))
        finally:
            self.turn.cancel()
            feeding.cancel()
            self._service.metrics.ended(outcome, asyncio.get_running_loop().time() - self._began)

    async def _send_all(self, on_sound: Callable[[], Awaitable[None]]) -> None:
        while (chunk := await self._next()) is not None:
            sound = await anyio.to_thread.run_sync(self._encoded, chunk, limiter=self._service.encoders)
            self._service.metrics.spoke(chunk.token_count, chunk.samples / self._rate)
            if sound:
                if not self.messages:
                    self._tell_first()
                    await on_sound()
                self.messages += await self._socket.send_sound(sound, self._form.whole)
                self.bytes += len(sound)
            if chunk.is_final_chunk:
                self.reason = self._stopped_by if chunk.finish_reason == "cancelled" else chunk.finish_reason

    async def _next(self) -> GenerationResult | None:
        try:
            return await anext(self.turn, None)
        except Exception as error:
            raise as_failure(error) from error

    def _encoded(self, chunk: GenerationResult) -> bytes:
        if self._encoder is None:
            self.channels = 1 if chunk.audio.ndim == 1 else chunk.audio.shape[1]
            form = self._form
            self._encoder = new_encoder(form.format, self._rate, self.channels, form.whole, self._mark)
        encoded = self._encoder.feed(chunk.audio)
        return encoded + self._encoder.close() if chunk.is_final_chunk else encoded

    def _tell_first(self) -> None:
        timings = self.turn.timings
        if timings.first_sound is not None and timings.first_text is not None:
            self._service.metrics.first_audio(timings.first_sound - timings.first_text)

    def _fail(self, error: ApiError) -> str:
        self.error, self.reason = error, "timeout" if error.code == "timeout" else "error"
        return outcome_of(error)
