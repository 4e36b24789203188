"""A session over a WebSocket, whatever its messages are: how it begins, waits, and ends."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import ClassVar

import anyio.to_thread

from moss_tts.errors import MossTTSError, TurnOverError
from moss_tts.server.errors import ApiError
from moss_tts.server.schema import SpeechBody
from moss_tts.server.service import OpenSession, Service, failure
from moss_tts.server.sockets.messages import CONFIG, Configuration, Message, SocketFormat, parsed
from moss_tts.server.sockets.socket import Socket, SocketGone
from moss_tts.server.sockets.socket_turn import SocketTurn, SoundForm
from moss_tts.sessions.turn import Turn

# Codes with which a WebSocket is closed (RFC 6455).
NORMAL, LIMIT, UNWANTED, MISTAKE, RESTART = 1000, 1001, 1008, 1011, 1012

LARGE = 2**16
# The part of the time that running requests have when the server stops: what is left of it is for goodbyes.
SHARE_OF_GRACE = 0.9
WINDOW_LEFT_OUT = "repetition_window was left out: the penalty of this model looks at all frames."

log = logging.getLogger("moss_tts.server")


class SocketClosed(Exception):
    """The conversation is over.

    Args:
        code: the WebSocket is closed with it.
        error: what the client is told before.
    """

    def __init__(self, code: int, error: ApiError | None = None) -> None:
        super().__init__(code)
        self.code, self.error = code, error


class SocketSession(ABC):
    """One client's session: its turns follow each other, and its messages are read while a turn is spoken.

    Args:
        service: the state of the server.
        socket: accepted.

    Attributes:
        kinds: the messages of the protocol besides session.config, by their type.
        active: the turn that is being spoken; None between two turns.
        warnings: sentences for people about options that are followed otherwise than asked.
    """

    kinds: ClassVar[Mapping[str, type[Message]]]

    def __init__(self, service: Service, socket: Socket) -> None:
        self._service, self._socket, self._settings = service, socket, service.settings
        self._loop = asyncio.get_running_loop()
        self._ends = self._loop.time() + self._settings.session_timeout_s
        # When it is left at the latest, because the server stops.
        self._leaves: float | None = None
        self._opened = AsyncExitStack()
        self._session: OpenSession | None = None
        self._form = SoundForm("pcm", whole=False)
        self.active: SocketTurn | None = None
        self.warnings: list[str] = []
        self._speaking: asyncio.Task[None] | None = None

    # --------------------------------------------------------------------------------------- one protocol's

    @abstractmethod
    def form_of(self, configuration: Configuration) -> SoundForm:
        """The form of the sound."""

    @abstractmethod
    async def configured(self) -> None:
        """Tell the client that its configuration holds."""

    @abstractmethod
    async def handle(self, message: Message) -> None:
        """Do what a message asks for.

        Raises:
            ApiError: it cannot be done.
            SocketClosed: the session ends.
        """

    # ------------------------------------------------------------------------------------------ both protocols'

    async def run(self) -> None:
        """Converse until the client leaves, a limit is reached, or the server stops."""
        code = MISTAKE
        try:
            async with self._opened, asyncio.TaskGroup() as self._tasks:
                code = await self._converse()
                if self.active is not None:
                    self.active.stop("session_closed")
        except* SocketGone:
            log.debug("the client of a session has gone")
        except* Exception as errors:
            log.exception("a session failed", exc_info=errors)
            raise
        finally:
            if self.active is not None:
                self.active.turn.cancel()
            await self._socket.close(code)

    def stop(self) -> None:
        """End with the turn that is being spoken, or shortly before the server cuts it off, for the server stops."""
        self._leaves = self._loop.time() + SHARE_OF_GRACE * self._settings.grace_s
        self._rest()

    async def _converse(self) -> int:
        """Read messages; returns the code to close the WebSocket with."""
        try:
            await self._begin()
            while True:
                self._rest()
                try:
                    message = await self._next()
                    if isinstance(message, Configuration):
                        await self.reconfigure(message)
                    else:
                        await self.handle(message)
                except ApiError as error:
                    await self._socket.send_error(error)
                except TurnOverError as error:
                    await self._socket.send_error(ApiError(400, str(error), "turn_id", "no_turn"))
                except MossTTSError as error:
                    await self._socket.send_error(failure(error))
        except SocketClosed as closed:
            if closed.error is not None:
                await self._socket.send_error(closed.error)
            return closed.code

    async def _begin(self) -> None:
        seconds = self._settings.idle_s
        self._socket.wait_until(self._loop.time() + seconds)
        try:
            message = await self._next()
            if not isinstance(message, Configuration):
                raise ApiError(400, f"the first message must be {CONFIG}; got {message.type}", "type", "no_session")
            await self._configure(message)
        except ApiError as error:
            raise SocketClosed(UNWANTED, error) from error

    async def reconfigure(self, configuration: Configuration) -> None:
        """Take another session.config, where a protocol has more than one.

        Raises:
            ApiError: it has one.
        """
        del configuration
        raise ApiError(
            400, f"{CONFIG} was sent already; open another session for other options", "type", "session_configured"
        )

    async def _configure(self, configuration: Configuration) -> None:
        """Open a session as it was asked for; the one before it ends, if there is one.

        Raises:
            ApiError: it cannot be opened; the one before it goes on.
            SocketClosed: it cannot be opened, and the one before it had another model, which may have had to leave.
        """
        body, left_out = self._followed(configuration.body)
        before = self._session
        changes = before is not None and self._service.models.named(body.model).name != before.model
        if changes:
            await self._opened.aclose()
        opened = AsyncExitStack()
        try:
            session = await opened.enter_async_context(self._service.session(body))
            self._check_rate(configuration.sound.sample_rate, session.session.sample_rate)
            form = self.form_of(configuration)
        except ApiError as error:
            await opened.aclose()
            if changes:
                raise SocketClosed(UNWANTED, error) from error
            raise
        await self._opened.aclose()
        self._opened.push_async_callback(opened.aclose)
        self._session, self._form = session, form
        self.warnings = [*session.session.notes, *left_out]
        await self.configured()

    def _followed(self, body: SpeechBody) -> tuple[SpeechBody, list[str]]:
        """The fields of a configuration without a window that the model does not have, and what is told of it.

        Clients of other servers send one to every model.
        """
        fields = self._service.models.named(body.model).abilities.fields
        if body.repetition_window is None or "repetition_window" in fields:
            return body, []
        return body.model_copy(update={"repetition_window": None}), [WINDOW_LEFT_OUT]

    def _check_rate(self, given: int | None, rate: int) -> None:
        if given not in (None, rate):
            raise ApiError(400, f"sample_rate is {rate} with this model; got {given}", "sample_rate", "invalid_value")

    async def _next(self) -> Message | Configuration:
        try:
            content = await self._socket.receive()
        except TimeoutError as error:
            raise self._late() from error
        read = partial(parsed, content, self.kinds, self._settings.max_chars)
        # Recordings are megabytes, which others should not wait for.
        return read() if len(content) < LARGE else await anyio.to_thread.run_sync(read)

    def _late(self) -> SocketClosed:
        """Why nothing more is waited for."""
        if self._leaves is not None:
            return SocketClosed(RESTART, ApiError(503, "the server is stopping", code="stopping"))
        if self._session is None:
            seconds, what = self._settings.idle_s, f"{CONFIG} must come within"
        elif self._loop.time() >= self._ends:
            seconds, what = self._settings.session_timeout_s, "a session may last"
        else:
            seconds, what = self._settings.session_idle_s, "a session may be without a message for"
        return SocketClosed(LIMIT, ApiError(408, f"{what} {seconds:g} s", code="timeout"))

    def _rest(self) -> None:
        """Set how long the next message may take, from now."""
        idle = self._loop.time() + self._settings.session_idle_s
        if self.active is None:
            self._socket.wait_until(min(idle, self._ends) if self._leaves is None else 0.0)
        elif self._leaves is None:
            self._socket.wait_until(None if self.active.text.ended else idle)
        else:
            self._socket.wait_until(self._leaves)

    # ------------------------------------------------------------------------------------------------- turns

    @property
    def session(self) -> OpenSession:
        """The session; there is one once it was configured."""
        assert self._session is not None
        return self._session

    @property
    def format(self) -> SocketFormat:
        """The format of the sound."""
        return self._form.format

    def begin(self, turn: Turn) -> SocketTurn:
        """Speak a turn of the session beside the reading of messages."""
        self.active = SocketTurn(self._service, self._socket, self.session, turn, self._form)
        self._speaking = self._tasks.create_task(self._speak(self.active))
        return self.active

    async def over(self) -> None:
        """Wait until the client was told how its last turn ended."""
        if self._speaking is not None:
            await asyncio.wait([self._speaking])

    async def _speak(self, turn: SocketTurn) -> None:
        await turn.speak(lambda: self.sound_begins(turn))
        self.active = None
        if turn.error is not None:
            await self._socket.send_error(turn.error)
        await self.turn_ended(turn)
        self._rest()

    @abstractmethod
    async def sound_begins(self, turn: SocketTurn) -> None:
        """Tell the client that sound follows."""

    @abstractmethod
    async def turn_ended(self, turn: SocketTurn) -> None:
        """Tell the client how a turn ended."""
