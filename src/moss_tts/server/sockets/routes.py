"""The paths of sessions over WebSockets, and how many are open."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, WebSocket
from fastapi.responses import JSONResponse, Response

from moss_tts.server.errors import ApiError
from moss_tts.server.openapi import errors
from moss_tts.server.service import Service
from moss_tts.server.sockets.realtime import RealtimeSession
from moss_tts.server.sockets.session import SocketSession
from moss_tts.server.sockets.socket import Socket
from moss_tts.server.sockets.stream import StreamSession

STREAM, REALTIME = "/audio/speech/stream", "/audio/speech/realtime"
# How a path of sessions is described, which the schema has no words for.
SWITCHED: dict[int | str, dict[str, Any]] = {101: {"description": "The connection is a WebSocket from here on."}}
SECONDS_TO_TRY_AGAIN = 5


class Sockets:
    """The sessions that are open. Used on the event loop.

    Args:
        service: the state of the server.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._open: set[SocketSession] = set()
        self._stopping = asyncio.Event()

    def __len__(self) -> int:
        return len(self._open)

    async def serve(self, websocket: WebSocket, kind: type[SocketSession]) -> None:
        """Hold a session with a client, or refuse it before the WebSocket is one."""
        refusal = self._refusal()
        if refusal is not None:
            await websocket.send_denial_response(JSONResponse(refusal.body, refusal.status, refusal.headers))
            return
        session = kind(self._service, Socket(websocket, self._service.settings.reader_timeout_s))
        self._open.add(session)
        try:
            await websocket.accept()
            await session.run()
        finally:
            self._open.remove(session)

    def _refusal(self) -> ApiError | None:
        most = self._service.settings.max_sessions
        if self._stopping.is_set():
            why, code = "the server is stopping", "stopping"
        elif len(self._open) >= most:
            why, code = f"{most} sessions are open, which is the limit", "overloaded"
        else:
            return None
        return ApiError(503, why, code=code, headers={"Retry-After": str(SECONDS_TO_TRY_AGAIN)})

    def stop(self) -> None:
        """Let the sessions end with the turns that are being spoken."""
        self._stopping.set()
        for session in list(self._open):
            session.stop()


def add_sockets(router: APIRouter, sockets: Sockets) -> None:
    """The paths of sessions. A request that is no WebSocket is told so; in the schema it stands for the path."""

    @router.websocket(STREAM)
    async def speak_stream(websocket: WebSocket) -> None:
        await sockets.serve(websocket, StreamSession)

    @router.websocket(REALTIME)
    async def speak_realtime(websocket: WebSocket) -> None:
        await sockets.serve(websocket, RealtimeSession)

    described: dict[str, Any] = {
        "tags": ["Speech"],
        "status_code": 101,
        "responses": SWITCHED | errors(403, 426, 503),
        "response_class": Response,
    }

    @router.get(STREAM, **described)
    async def stream() -> Response:
        """Speak a text while it is written, over a WebSocket.

        The client sends JSON: session.config (the fields of a request for speech), then input.text as often as it
        likes, and input.done. It receives audio.start, sound in binary messages, audio.done and session.done, or error.
        Then another utterance may follow; session.close ends the session.
        """
        raise no_websocket()

    @router.get(REALTIME, **described)
    async def realtime() -> Response:
        """Hold a conversation of turns, each spoken while it is written, over a WebSocket.

        The client sends JSON: session.config, turn.start, input.text or input.tokens, input.done, and at any time
        turn.cancel, turn.interrupt or session.close. It receives session.configured, turn.started, input.ack,
        audio.start, sound in binary messages, audio.done, turn.done and session.closed, or error.
        """
        raise no_websocket()


def no_websocket() -> ApiError:
    """The answer to a request by plain HTTP."""
    message = "this path takes WebSockets only; connect to it with ws:// in place of http://"
    headers = {"Upgrade": "websocket", "Connection": "Upgrade"}
    return ApiError(426, message, code="upgrade_required", headers=headers)
