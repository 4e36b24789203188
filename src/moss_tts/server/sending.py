"""Answers on their way to clients that read slowly, or not at all, or leave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import anyio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from moss_tts.server.errors import ApiError
from moss_tts.server.leaving import disconnected
from moss_tts.server.service import outcome_of

# Bytes that are handed to the network at a time; the next ones wait until most of them are gone.
PIECE = 2**16


class Sent(Response):
    """Sends parts as they are made, and stops as soon as nobody takes them.

    Args:
        parts: the parts of the body.
        headers: its headers, with Content-Length if it is known.
        patience: seconds that a client has for each piece.
        seconds: the time limit for all of it; None is no limit.
        on_end: told at the end how it ended: "ok", "timeout", "cancelled", or as the error was.
    """

    def __init__(
        self,
        parts: AsyncIterator[bytes],
        headers: dict[str, str],
        *,
        patience: float,
        seconds: float | None,
        on_end: Callable[[str], None],
    ) -> None:
        self._parts, self._patience, self._seconds, self._on_end = parts, patience, seconds, on_end
        self.status_code, self.background = 200, None
        self.body = b""
        self.init_headers(headers)
        if "Content-Length" not in headers:
            del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's
        """Send the response.

        After an error the response is left without its end: a client must not take it for whole.
        """
        outcome = "cancelled"
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._watch, receive, group.cancel_scope)
                outcome = await self._send(send)
                group.cancel_scope.cancel()
        finally:
            self._on_end(outcome)

    async def _watch(self, receive: Receive, scope: anyio.CancelScope) -> None:
        await disconnected(receive)
        scope.cancel()

    async def _send(self, send: Send) -> str:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            async with asyncio.timeout(self._seconds):
                async for part in self._parts:
                    await self._send_part(send, part)
        except ApiError as error:
            return outcome_of(error)
        except TimeoutError:
            return "timeout"
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        return "ok"

    async def _send_part(self, send: Send, part: bytes) -> None:
        for start in range(0, len(part), PIECE):
            async with asyncio.timeout(self._patience):
                await send({"type": "http.response.body", "body": part[start : start + PIECE], "more_body": True})


async def one_by_one(parts: list[bytes]) -> AsyncIterator[bytes]:
    """The parts of an answer that is there already; each is let go once it is sent."""
    parts.reverse()
    while parts:
        yield parts.pop()
