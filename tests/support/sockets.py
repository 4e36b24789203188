"""A client of sessions over WebSockets for tests: the library `websockets`, and what came of a turn."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from moss_tts.speaking.engine import SpeechChunk
from support.serving import PATIENCE, Serving

STREAM, REALTIME = "/v1/audio/speech/stream", "/v1/audio/speech/realtime"
# Short turns that have sound.
OPTIONS: dict[str, Any] = {"seed": 5, "max_tokens": 6, "long_form_retry_attempts": 9}


@dataclass
class Heard:
    """What came up to a message: the messages in order, without acknowledgements, and the sound."""

    messages: list[dict[str, Any]]
    sound: bytes
    parts: int

    @property
    def types(self) -> list[str]:
        return [message["type"] for message in self.messages]

    @property
    def last(self) -> dict[str, Any]:
        return self.messages[-1]

    @property
    def samples(self) -> np.ndarray:
        return np.frombuffer(self.sound, "<i2")


class Talk:
    """A connection."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    def send(self, type_: str, **fields: Any) -> None:
        self.connection.send(json.dumps({"type": type_, **fields}))

    def receive(self) -> dict[str, Any] | bytes:
        message = self.connection.recv(timeout=PATIENCE)
        return message if isinstance(message, bytes) else json.loads(message)

    def answer(self) -> dict[str, Any]:
        """The next message, which is no sound."""
        message = self.receive()
        assert isinstance(message, dict)
        return message

    def until(self, type_: str) -> Heard:
        heard = Heard([], b"", 0)
        while not heard.messages or heard.last["type"] != type_:
            message = self.receive()
            if isinstance(message, bytes):
                heard.sound += message
                heard.parts += 1
            elif message["type"] != "input.ack":
                heard.messages.append(message)
        return heard

    def configure(self, **options: Any) -> dict[str, Any]:
        """Open a session with turns."""
        self.send("session.config", session=OPTIONS | options)
        configured = self.answer()
        assert configured["type"] == "session.configured", configured
        return configured

    def begin(self, turn_id: str, *pieces: str, ends: bool = True) -> None:
        """Send a turn."""
        self.send("turn.start", turn_id=turn_id)
        assert self.answer()["type"] == "turn.started"
        for number, piece in enumerate(pieces):
            self.send("input.text", turn_id=turn_id, seq_no=number, text=piece)
        if ends:
            self.send("input.done", turn_id=turn_id)

    def turn(self, turn_id: str, *pieces: str) -> Heard:
        """A whole turn."""
        self.begin(turn_id, *pieces)
        return self.until("turn.done")

    def closed(self) -> int | None:
        """The code with which the server closes the connection, after all that it sends before."""
        with suppress(ConnectionClosed):
            for _ in self.connection:
                pass
        return self.connection.close_code


class Beep:
    """A conversation whose turns are one short sound each, without a model."""

    pending, text_left = 0, ""

    def __init__(self, note: str | None = None, takes_all: bool = False) -> None:
        self._note, self.takes_tokens, self.takes_user = note, takes_all, takes_all
        self.user: Any = None
        self.ids: list[int] = []

    def begin(self, user: Any, listener: Any) -> Beep:
        self.user = user
        self._listener = listener
        return self

    def push_tokens(self, ids: Sequence[int]) -> None:
        self.ids += ids

    def push(self, _: str) -> None:
        if self._note is not None:
            self._listener.note(self._note)
        self._listener.tell(SpeechChunk(np.zeros(480, np.float32), np.zeros((1, 4), np.int32)))

    def end(self) -> None:
        self._listener.tell(SpeechChunk(np.zeros(480, np.float32), np.zeros((1, 4), np.int32), "stop"))

    def cancel(self) -> None:
        """Nothing is to be undone."""

    close = cancel


@contextmanager
def talking(running: Serving, path: str = REALTIME, **options: Any) -> Iterator[Talk]:
    """A connection to a server."""
    headers = running.headers | options.pop("headers", {})
    url = running.url.replace("http", "ws", 1) + path
    # No ping of the client's own: the server has to notice by itself.
    usual = {"additional_headers": headers, "max_size": None, "ping_interval": None, "close_timeout": PATIENCE}
    with connect(url, open_timeout=PATIENCE, **usual | options) as connection:
        yield Talk(connection)
