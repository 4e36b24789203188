"""Attacks on the server, in small: what others wait for meanwhile, and what is left of the attack after it.

Each attack is a context manager that keeps it up until its block ends; support/abuse.py measures.
"""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import requests

pytest.importorskip("fastapi", reason="the extra server is not installed")

from support.abuse import Attacked, assert_others_do_not_notice, attackable
from support.serving import PATIENCE

pytestmark = pytest.mark.slow

# As many as are spoken side by side.
CLIENTS = 16
GRACE_SECONDS = 1
# Of a server that is attacked with more connections.
OPEN_FILES = 200
# What Linux waits before it confirms data that nothing else is sent with.
SECONDS_OF_A_DELAYED_ANSWER = 0.04
# What may be kept in memory for each client that does not read.
KIB_PER_CLIENT = 5 * 1024
STREAM = {
    "input": "Hello there.",
    "max_tokens": 1000,
    "runaway_guard": False,
    "text_temperature": 0.0,
    "seed": 1,
    "response_format": "wav",
}
LONG = STREAM | {
    "input": "A sentence of some length that is spoken. " * 100,
    "long_form": True,
    "long_form_continuity": "none",
    "long_form_parallel": 4,
    "max_tokens": 100,
}


@pytest.fixture(scope="module")
def server(checkpoints, tmp_path_factory) -> Iterator[Attacked]:
    with attackable(checkpoints["delay"], tmp_path_factory.mktemp("voices"), "--grace", GRACE_SECONDS) as running:
        yield running


def sound_of(connection: http.client.HTTPConnection) -> http.client.HTTPResponse:
    """An answer whose first samples were read."""
    response = connection.getresponse()
    assert response.status == 200, response.read()
    assert response.read(2)
    return response


@contextmanager
def unread(server: Attacked, body: dict[str, Any]) -> Iterator[None]:
    """Clients that have heard their first samples, and read no further."""
    with ExitStack() as connections:
        asked = [connections.enter_context(server.asking(body)) for _ in range(CLIENTS)]
        for connection in asked:
            sound_of(connection)
        yield


# --------------------------------------------------------------------------------------------- streams


def test_streams_that_are_not_read(server):
    assert_others_do_not_notice(server, lambda: unread(server, STREAM), KIB_PER_CLIENT * CLIENTS)


def test_whole_answers_that_are_not_read(server):
    assert_others_do_not_notice(server, lambda: unread(server, STREAM | {"stream": False}), KIB_PER_CLIENT * CLIENTS)


# ------------------------------------------------------------------------------------------ long texts


def test_clients_that_leave_long_texts(server):
    @contextmanager
    def attack() -> Iterator[None]:
        with unread(server, LONG):
            pass
        yield

    assert_others_do_not_notice(server, attack)
    with server.asking(LONG) as connection:
        sound_of(connection)


def test_long_texts_that_are_not_read(server):
    assert_others_do_not_notice(server, lambda: unread(server, LONG), KIB_PER_CLIENT * CLIENTS)


def test_large_prompts(server):
    """One that is too large is refused for nothing; those that may be sent are read beside everybody else."""
    with server.asking({"conversation": [{"role": "user", "text": "x" * 190}] * 100}) as connection:
        assert connection.getresponse().status == 400

    @contextmanager
    def attack() -> Iterator[None]:
        with ExitStack() as connections:
            for _ in range(3):
                connections.enter_context(server.asking({"input": "A text. " * 900, "runaway_guard": False}))
            yield

    assert_others_do_not_notice(server, attack)


def test_the_server_ends_although_long_texts_are_not_read(server):
    with unread(server, LONG):
        server.stop()


# ---------------------------------------------------------------------------------------- connections


@pytest.fixture(scope="module")
def narrow(checkpoints, tmp_path_factory) -> Iterator[Attacked]:
    """A server that may open few files, and has few places."""
    options = ("--max-batch", 4, "--max-waiting", 4)
    with attackable(checkpoints["delay"], tmp_path_factory.mktemp("voices"), *options, files=OPEN_FILES) as running:
        yield running


@contextmanager
def saying(server: Attacked, count: int, said: bytes) -> Iterator[None]:
    """Connections that say so much, and nothing more. The server may close them whenever it wants."""
    with ExitStack() as connections:
        for _ in range(count):
            one = connections.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE))
            with suppress(ConnectionError):
                one.sendall(said)
        yield


@pytest.mark.parametrize("said", [b"", b"GET /health HTTP/1.1\r\nHost: localhost\r\n"], ids=["nothing", "half a head"])
def test_silent_connections(narrow, said):
    """More than the server may open files."""
    assert_others_do_not_notice(narrow, lambda: saying(narrow, 300, said))
    assert len(list(Path(f"/proc/{narrow.process.pid}/fd").iterdir())) <= OPEN_FILES


def test_slow_bodies(narrow):
    """More than there are places."""
    head = (
        "POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99\r\n"
    )
    assert_others_do_not_notice(narrow, lambda: saying(narrow, 20, f"{head}\r\n{{".encode()))


def test_kept_connections(narrow):
    """Request after request is answered at once: where each were delayed, none would come sooner."""

    def seconds_of(client: requests.Session) -> float:
        started = time.perf_counter()
        assert client.get(f"http://127.0.0.1:{narrow.port}/v1/models", timeout=PATIENCE).status_code == 200
        return time.perf_counter() - started

    with ExitStack() as kept:
        clients = [kept.enter_context(requests.Session()) for _ in range(20)]
        # The first answers on a connection are never delayed.
        for _ in range(5):
            for client in clients:
                seconds_of(client)
        assert min(map(seconds_of, clients)) < SECONDS_OF_A_DELAYED_ANSWER
