"""Connections: how many may be open, and how long one may hold its place without a request.

The server may close connections that only wait, for a request or for the rest of one: the one that has waited longest
makes room for a new one. A connection that is being answered is never closed for others.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

import h11
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from moss_tts.server.errors import ApiError
from moss_tts.server.settings import Settings
from moss_tts.server.sockets.connection import SocketConnection

# The same is not said again before so many seconds are over.
SECONDS_OF_SILENCE = 60.0

log = logging.getLogger("moss_tts.server")


class Connection(H11Protocol):
    """A connection of a client.

    Args:
        most: connections that may be open together.

    Attributes:
        closed: whether it was given up.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        most: int,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._most = most
        self.closed = False
        self._waits_since = self._quiet_since = self.loop.time()
        self._seen: tuple[Any, int] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Let it in, if there is room or room can be made."""
        super().connection_made(transport)
        all_ = [one for one in self.connections if isinstance(one, Connection | SocketConnection) and not one.closed]
        if len(all_) <= self._most:
            return
        seldom.warn(f"all {self._most} connections are taken; those that wait for a request are closed for new ones")
        waiting = [one for one in all_ if isinstance(one, Connection) and one._waits and one is not self]
        if waiting:
            min(waiting, key=lambda one: one._waits_since)._abort()
        else:
            self._refuse(ApiError(503, f"all {self._most} connections are being answered; try again in 1 s"))

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self._waits_since = self.loop.time()
        super().on_response_complete()

    def look(self, idle_s: float, reader_timeout_s: float) -> None:
        """Close it if nothing has come of it for so long: no new request, or no byte of an answer that was taken."""
        now, unsent = self.loop.time(), self.transport.get_write_buffer_size()
        if self._is_answered or self._seen != (self.cycle, unsent):
            self._seen, self._quiet_since = (self.cycle, unsent), now
        elif now - self._quiet_since < (reader_timeout_s if unsent else idle_s):
            return
        elif unsent or self.transport.is_closing():
            self._abort()
        elif self.conn.our_state is h11.IDLE and self.conn.trailing_data[0]:
            self._refuse(ApiError(408, f"the headers of a request must arrive within {idle_s:g} s", code="too_slow"))
        else:
            self.timeout_keep_alive_handler()

    @property
    def _is_answered(self) -> bool:
        """Whether the server is at work on a request of it, or reading one."""
        return self.cycle is not None and not self.cycle.response_complete and not self.transport.is_closing()

    @property
    def _waits(self) -> bool:
        """Whether a request, or the rest of one, is yet to come."""
        return not self._is_answered or self.cycle.more_body

    def _abort(self) -> None:
        self.closed = True
        self.transport.abort()

    def _refuse(self, error: ApiError) -> None:
        """Answer what is no request yet."""
        self.closed = True
        body = json.dumps(error.body).encode()
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body))), ("Connection", "close")]
        response = h11.Response(status_code=error.status, headers=headers, reason=HTTPStatus(error.status).phrase)
        for event in (response, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


def look_after(connections: Iterable[Any], settings: Settings) -> None:
    """Close connections that hold their place for nothing."""
    for connection in list(connections):
        connection.look(settings.idle_s, settings.reader_timeout_s)


class Seldom:
    """Log lines that would repeat in a flood, each of them now and then."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}

    def warn(self, line: str) -> None:
        """Say it, unless it was said a short time ago."""
        now = time.monotonic()
        if now - self._last.get(line, -SECONDS_OF_SILENCE) >= SECONDS_OF_SILENCE:
            self._last[line] = now
            log.warning(line)


seldom = Seldom()


def handle_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Handle an error that the event loop tells of: connections that cannot be accepted are one line now and then."""
    error = context.get("exception")
    if isinstance(error, OSError) and "socket.accept" in context["message"]:
        seldom.warn(f"connections cannot be accepted: {error.strerror}; ulimit -n may be too low")
    else:
        loop.default_exception_handler(context)
