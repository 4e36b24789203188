"""A client's WebSocket with limits on time: messages in, messages and sound out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from moss_tts.server.errors import ApiError
from moss_tts.server.sending import PIECE


class SocketGone(Exception):
    """The client has gone, or takes nothing of what is sent."""


class Socket:
    """An accepted WebSocket.

    Args:
        websocket: accepted.
        patience: seconds that the client has for each message that is sent.
    """

    def __init__(self, websocket: WebSocket, patience: float) -> None:
        self._websocket, self._patience = websocket, patience
        self._deadline: float | None = None
        self._waiting = asyncio.timeout(None)

    def wait_until(self, deadline: float | None) -> None:
        """Let `receive` wait until then, in the event loop's time; None is for ever."""
        self._deadline = deadline
        with suppress(RuntimeError):  # nobody waits
            self._waiting.reschedule(deadline)

    async def receive(self) -> str:
        """The next message.

        Raises:
            TimeoutError: it did not come in time.
            ApiError: it is binary.
            SocketGone: none will come.
        """
        async with asyncio.timeout_at(self._deadline) as self._waiting:
            message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise SocketGone
        text = message.get("text")
        if text is None:
            raise ApiError(400, "messages of clients are JSON in text frames, not binary", code="invalid_value")
        return text

    async def send(self, message: Mapping[str, Any]) -> None:
        """Send a message.

        Raises:
            SocketGone: nobody takes it.
        """
        await self._send({"type": "websocket.send", "text": json.dumps(message, ensure_ascii=False)})

    async def send_error(self, error: ApiError) -> None:
        """Send what was wrong.

        Raises:
            SocketGone: nobody takes it.
        """
        of_error = error.body["error"]
        named = {name: of_error[name] for name in ("param", "code") if of_error[name] is not None}
        await self.send({"type": "error", "message": of_error["message"], "error_type": of_error["type"], **named})

    async def send_sound(self, sound: bytes, whole: bool = False) -> int:
        """Send sound in binary messages of a bounded size, or in one; returns how many.

        Raises:
            SocketGone: nobody takes it.
        """
        size = max(1, len(sound)) if whole else PIECE
        starts = range(0, len(sound), size)
        for start in starts:
            await self._send({"type": "websocket.send", "bytes": sound[start : start + size]})
        return len(starts)

    async def close(self, code: int, reason: str = "") -> None:
        """Close it; the reason is at most 123 bytes long."""
        with suppress(SocketGone):
            await self._send({"type": "websocket.close", "code": code, "reason": reason})

    async def _send(self, message: dict[str, Any]) -> None:
        try:
            async with asyncio.timeout(self._patience):
                await self._websocket.send(message)
        except (TimeoutError, WebSocketDisconnect, RuntimeError, OSError) as error:
            raise SocketGone from error
