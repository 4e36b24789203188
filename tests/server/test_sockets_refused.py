"""What keeps WebSockets out: key, host, origin, size, number; each before it costs."""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from typing import Any

import pytest
import requests

pytest.importorskip("fastapi", reason="the extra server is not installed")

from websockets.exceptions import ConnectionClosed, InvalidStatus

from moss_tts.server.sockets.connection import MOST_FRAGMENTS
from support.serving import PATIENCE, Serving, serving, wait_until
from support.sockets import REALTIME, STREAM, talking

PATHS = pytest.mark.parametrize("path", [STREAM, REALTIME])


# Seconds that do not pass by themselves while a test waits.
IDLE = 1e6


@pytest.fixture(scope="module")
def served(checkpoints, tmp_path_factory) -> Any:
    limits = {"max_body": 4096, "max_sessions": 2, "idle_s": IDLE, "cors_origins": ("https://friend.example",)}
    with serving(checkpoints["delay"], tmp_path_factory.mktemp("voices"), **limits) as running:
        yield running


@pytest.fixture(scope="module")
def locked(checkpoints, tmp_path_factory) -> Any:
    with serving(checkpoints["delay"], tmp_path_factory.mktemp("voices"), api_key="secret") as running:
        yield running


def refusal(running: Serving, path: str, **options: Any) -> tuple[int, str]:
    """The status and the code of the answer in place of a WebSocket."""
    with pytest.raises(InvalidStatus) as refused, talking(running, path, **options):
        pass
    response = refused.value.response
    assert response.headers["x-request-id"]
    return response.status_code, json.loads(response.body)["error"]["code"]


def is_let_in(running: Serving, path: str, **options: Any) -> bool:
    with talking(running, path, **options) as talk:
        talk.send("session.config")
        talk.send("session.close")
        return talk.closed() == 1000


@PATHS
def test_a_key_is_needed_where_the_server_has_one(locked, path):
    for headers in ({"Authorization": "Bearer wrong"}, {"Authorization": ""}, {"Authorization": "Basic secret"}):
        assert refusal(locked, path, headers=headers) == (401, "invalid_api_key")
    assert is_let_in(locked, path)


@PATHS
def test_a_page_of_another_site_may_not_open_one(served, locked, path):
    for origin in ("https://evil.example", "null", f"http://127.0.0.1:{served.port + 1}"):
        assert refusal(served, path, origin=origin) == (403, "origin")
        assert refusal(locked, path, origin=origin) == (403, "origin")
    assert is_let_in(served, path, origin=served.url)
    assert is_let_in(served, path, origin="https://friend.example")


def upgrade(running: Serving, path: str, host: str, more: bytes = b"") -> bytes:
    """What comes of a handshake by hand."""
    with socket.create_connection(("127.0.0.1", running.port), timeout=PATIENCE) as connection:
        connection.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n".encode()
            + more
            + b"\r\n"
        )
        connection.settimeout(PATIENCE)
        answer = b""
        while b"\r\n\r\n" not in answer and (part := connection.recv(2**16)):
            answer += part
        return answer


@PATHS
def test_the_server_must_be_called_by_a_name_of_its_own(served, locked, path):
    assert upgrade(served, path, "evil.example").startswith(b"HTTP/1.1 403 ")
    assert upgrade(served, path, "server.local").startswith(b"HTTP/1.1 101 ")
    # With a key it is harmless.
    assert upgrade(locked, path, "evil.example", b"Authorization: Bearer secret\r\n").startswith(b"HTTP/1.1 101 ")


@PATHS
def test_a_message_that_is_too_large_ends_the_session(served, path):
    with talking(served, path) as talk:
        talk.send("session.config", voice="x" * 5000)
        assert talk.closed() == 1009


def test_a_message_in_very_many_pieces_ends_the_session(served):
    with talking(served) as talk:
        with suppress(ConnectionClosed):
            # The client adds an empty last one. No more come, which would reset the connection before it is closed.
            talk.connection.send(iter(["{"] * MOST_FRAGMENTS))
        assert talk.closed() == 1009
    assert is_let_in(served, "/v1/audio/speech/stream")


@PATHS
def test_sessions_have_a_number(served, path):
    with talking(served, path), talking(served, path):
        assert refusal(served, path) == (503, "overloaded")
        assert served.counter("moss_tts_sessions") == 2
    wait_until(lambda: served.counter("moss_tts_sessions") == 0)
    assert is_let_in(served, path)


@PATHS
def test_plain_http_is_told_how_to_connect(served, path):
    response = requests.get(served.url + path, timeout=PATIENCE)
    assert (response.status_code, response.json()["error"]["code"]) == (426, "upgrade_required")
    assert response.headers["upgrade"] == "websocket"


@pytest.mark.parametrize("path", ["/", "/health", "/v1/audio/speech", "/v1/nothing"])
def test_other_paths_take_no_websockets(served, path):
    with pytest.raises(InvalidStatus) as refused, talking(served, path):
        pass
    assert refused.value.response.status_code == 403


def test_a_session_must_be_configured_soon(served):
    with talking(served) as talk, served.passing(IDLE):
        assert talk.answer()["message"] == "session.config must come within 1e+06 s"
        assert talk.closed() == 1001


HANDSHAKES = {
    "no key": b"GET %s HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    "many headers": b"GET %s HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    + b"".join(b"X-%d: 1\r\n" % number for number in range(200))
    + b"\r\n",
    "a long header": b"GET %s HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX: "
    + b"x" * 10_000
    + b"\r\n\r\n",
    "a post": b"POST %s HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("name", HANDSHAKES)
def test_a_handshake_that_is_none_is_answered_or_closed(served, name, caplog):
    with socket.create_connection(("127.0.0.1", served.port), timeout=PATIENCE) as connection:
        connection.sendall(HANDSHAKES[name] % REALTIME.encode())
        with served.passing(IDLE):
            answer = b"".join(iter(lambda: connection.recv(2**16), b""))
    assert not answer or answer.startswith(b"HTTP/1.1 4"), answer
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
