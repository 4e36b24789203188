"""A WebSocket under the server's rules for connections: it is given up if its client takes nothing of what is sent."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from uvicorn import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.frames import CloseCode, Frame

# What this library logs is either a client's mistake or logged by us.
silent = logging.getLogger("moss_tts.server.websockets")
silent.setLevel(logging.CRITICAL + 1)
MOST_FRAGMENTS = 1024


class SocketConnection(WebSocketsSansIOProtocol):
    """A connection of a client that has become a WebSocket."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.logger = self.conn.logger = silent
        self._unsent, self._since = 0, self.loop.time()

    @property
    def closed(self) -> bool:
        """Whether it is no more, or about to be."""
        return self.transport.is_closing()

    def handle_cont(self, event: Frame) -> None:
        """Take a fragment of a message, if there are not far too many: each costs more memory than its bytes."""
        if len(self.frames) >= MOST_FRAGMENTS:
            self.conn.fail(CloseCode.MESSAGE_TOO_BIG, "too many fragments")
            self.handle_parser_exception()
        else:
            super().handle_cont(event)

    def look(self, idle_s: float, reader_timeout_s: float) -> None:
        """Close it if its client takes nothing of what is sent, or has not finished its first request."""
        now, unsent = self.loop.time(), self.transport.get_write_buffer_size()
        if unsent != self._unsent or (not unsent and self.handshake_initiated):
            self._unsent, self._since = unsent, now
        elif now - self._since >= (reader_timeout_s if unsent else idle_s):
            self.transport.abort()

    def shutdown(self) -> None:
        """Leave it to the session, which ends after its turn."""
        if not self.handshake_complete:
            super().shutdown()
