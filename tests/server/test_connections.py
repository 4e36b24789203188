"""Connections to the server: how fast they are, how many there may be, and how long one may say nothing."""

from __future__ import annotations

import asyncio
import errno
import json
import resource
import signal
import socket
from contextlib import ExitStack, suppress
from typing import Any

import pytest
import requests

pytest.importorskip("fastapi", reason="the extra server is not installed")

from fastapi import FastAPI

import moss_tts
from moss_tts.server import connections
from moss_tts.server.connections import Seldom, handle_error
from moss_tts.server.lifecycle import new_server, serve
from moss_tts.server.listener import bound, most_connections
from moss_tts.server.served_model import ModelSource
from moss_tts.server.settings import Settings
from support.serving import PATIENCE, Serving, serving, wait_until


@pytest.fixture(scope="module")
def served(checkpoints, tmp_path_factory) -> Any:
    with serving(checkpoints["delay"], tmp_path_factory.mktemp("voices")) as running:
        yield running


def test_what_is_sent_leaves_at_once(served):
    """A kept connection would wait 40 ms for every answer without it."""
    with requests.Session() as client:
        client.get(f"{served.url}/health", timeout=PATIENCE)
        [connection] = served.server.server_state.connections
        accepted = connection.transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


def test_the_address_is_told_when_clients_can_connect(checkpoints, tmp_path):
    told: list[str] = []

    def tell(address: str) -> None:
        host, _, port = address.removeprefix("http://").rpartition(":")
        socket.create_connection((host, int(port)), timeout=PATIENCE).close()
        told.append(address)
        signal.raise_signal(signal.SIGINT)

    settings = Settings(voices=tmp_path)
    with bound("127.0.0.1", 0) as place:
        port = place.getsockname()[1]
        assert serve([ModelSource("demo", lambda: moss_tts.load(checkpoints["delay"]))], settings, place, tell) == 0
    assert told == [f"http://127.0.0.1:{port}"]


# ------------------------------------------------------------------------------------------------- how long


# Seconds that do not pass by themselves while a test waits.
IDLE = 1e6


@pytest.fixture
def impatient(checkpoints, tmp_path) -> Any:
    with serving(checkpoints["delay"], tmp_path, idle_s=IDLE) as running:
        yield running


def connected(running: Serving) -> socket.socket:
    return socket.create_connection(("127.0.0.1", running.port), timeout=PATIENCE)


def received(connection: socket.socket) -> bytes:
    """All that comes until the server closes the connection; a client that waits for ever fails."""
    with connection, suppress(ConnectionResetError):
        return b"".join(iter(lambda: connection.recv(2**16), b""))
    return b"reset"


def the_one_of(running: Serving) -> Any:
    """The only connection, as the server sees it."""
    wait_until(lambda: len(running.server.server_state.connections) == 1)
    [connection] = running.server.server_state.connections
    return connection


def test_a_connection_that_says_nothing_is_closed(impatient):
    connection = connected(impatient)
    the_one_of(impatient)
    impatient.later(IDLE)
    assert received(connection) == b""


def test_headers_that_do_not_come_are_not_waited_for(impatient):
    connection = connected(impatient)
    connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n")
    held = the_one_of(impatient)
    wait_until(lambda: held.conn.trailing_data[0])
    impatient.later(IDLE)
    answer = received(connection)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "too_slow"


@pytest.mark.parametrize("before", [b"", b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"])
def test_a_byte_now_and_then_is_no_request(impatient, before):
    """Neither before the first request nor after one, where every byte used to put the deadline off."""
    with connected(impatient) as connection:
        connection.sendall(before)
        held = the_one_of(impatient)
        wait_until(lambda: not before or (held.cycle is not None and held.cycle.response_complete))
        for sent in (b"G", b"GG", b"GGG", b"GGGG"):
            connection.sendall(b"G")
            wait_until(lambda sent=sent: held.conn.trailing_data[0] == sent)
            impatient.later(0.3 * IDLE)
        wait_until(lambda: not impatient.server.server_state.connections)


def test_a_kept_connection_serves_one_request_after_another(impatient):
    """However long together: only a pause is too long."""
    with requests.Session() as client:
        client.get(f"{impatient.url}/health", timeout=PATIENCE)
        kept = the_one_of(impatient)
        for _ in range(8):
            impatient.later(0.3 * IDLE)
            client.get(f"{impatient.url}/health", timeout=PATIENCE)
            assert impatient.server.server_state.connections == {kept}


def test_who_is_being_answered_is_not_hurried(impatient):
    """A first sound may be long in coming, here behind another request, and so may the next ones."""
    body = {"input": "A text.", "runaway_guard": False, "text_temperature": 0.0, "seed": 1, "max_tokens": 200}
    with impatient.open(body) as connection:
        held = the_one_of(impatient)
        wait_until(lambda: held.cycle is not None)
        impatient.later(3 * IDLE)
        response = connection.getresponse()
        assert (response.status, len(response.read()) > 1000) == (200, True)


# ------------------------------------------------------------------------------------------------- how many


@pytest.fixture
def few(checkpoints, tmp_path, monkeypatch) -> Any:
    monkeypatch.setattr("moss_tts.server.lifecycle.most_connections", lambda: 4)
    with serving(checkpoints["delay"], tmp_path) as running:
        yield running


SLOW = (
    b"POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
)


@pytest.mark.parametrize("said", [b"", b"GET /health HTTP/1.1\r\nHost:", SLOW])
def test_those_who_only_wait_make_room_for_others(few, said):
    waiting = [connected(few) for _ in range(12)]
    for connection in waiting:
        with suppress(ConnectionError):
            connection.sendall(said)
    assert few.get("/health").status_code == 200
    assert len(few.server.server_state.connections) <= 4 + 1
    for connection in waiting[:4]:
        assert received(connection) in (b"", b"reset")
    for connection in waiting:
        connection.close()


def test_whoever_is_answered_is_not_closed_for_others(few):
    body = {"input": "A text.", "runaway_guard": False, "text_temperature": 0.0, "seed": 1}
    with ExitStack() as answered:
        streams = [answered.enter_context(few.open(body)).getresponse() for _ in range(4)]
        assert all(stream.read(10) for stream in streams)
        answer = received(connected(few))
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert all(stream.read(10) for stream in streams)


@pytest.mark.parametrize(("files", "most"), [(256, 128), (1024, 512), (2**20, 1024), (resource.RLIM_INFINITY, 1024)])
def test_half_of_the_files_are_for_connections(monkeypatch, files, most):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    assert most_connections() == most


def test_fewer_connections_than_requests_are_told(monkeypatch, caplog):
    monkeypatch.setattr("moss_tts.server.lifecycle.most_connections", lambda: 79)
    new_server(FastAPI(), Settings())
    assert "allows 79 connections, fewer than the 80 requests" in caplog.text
    caplog.clear()
    new_server(FastAPI(), Settings(max_waiting=63))
    assert caplog.text == ""


def test_accepts_that_fail_are_told_now_and_then(caplog, monkeypatch):
    monkeypatch.setattr(connections, "seldom", Seldom())
    loop = asyncio.new_event_loop()
    error = OSError(errno.EMFILE, "Too many open files")
    for _ in range(1000):
        handle_error(loop, {"message": "socket.accept() out of system resource", "exception": error})
    loop.close()
    assert [record.message for record in caplog.records] == [
        "connections cannot be accepted: Too many open files; ulimit -n may be too low"
    ]
