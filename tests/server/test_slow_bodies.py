"""Bodies that take their time keep nobody out, and are not gathered without a bound."""

from __future__ import annotations

import http.client
import json
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

pytest.importorskip("fastapi", reason="the extra server is not installed")

from support.serving import PATIENCE, Serving, serving, wait_until

SHORT = {"input": "Hello there.", "seed": 1, "max_tokens": 4}
ENDLESS = {"input": "A text.", "runaway_guard": False, "text_temperature": 0.0, "seed": 1}


class Sender:
    """A request with a body that is sent bit by bit."""

    def __init__(self, running: Serving, length: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", running.port), timeout=PATIENCE)
        head = "POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        self.socket.sendall(f"{head}Content-Length: {length}\r\n\r\n".encode())

    def answer(self) -> http.client.HTTPResponse:
        response = http.client.HTTPResponse(self.socket, method="POST")
        response.begin()
        return response


@contextmanager
def sending(running: Serving, length: int) -> Iterator[Sender]:
    sender = Sender(running, length)
    try:
        yield sender
    finally:
        sender.socket.close()


def test_slow_bodies_hold_no_place(checkpoints, tmp_path):
    with serving(checkpoints["delay"], tmp_path, max_batch=1, max_waiting=1) as running:
        senders = [Sender(running, 100) for _ in range(20)]
        for sender in senders:
            sender.socket.sendall(b"{")
        wait_until(lambda: len(running.server.server_state.tasks) >= len(senders))
        assert running.post(json=SHORT).status_code == 200
        for sender in senders:
            sender.socket.close()
        wait_until(lambda: running.outcome("cancelled") == len(senders))
        assert running.counter('moss_tts_requests{state="running"}') == 0


def test_a_body_that_comes_when_all_places_are_taken_is_refused(checkpoints, tmp_path):
    body = json.dumps(SHORT).encode()
    with serving(checkpoints["delay"], tmp_path, max_batch=1, max_waiting=0) as running:
        with sending(running, len(body)) as slow:
            slow.socket.sendall(body[:5])
            with running.open(ENDLESS) as first:
                assert first.getresponse().read(10)
                slow.socket.sendall(body[5:])
                response = slow.answer()
                assert (response.status, int(response.headers["retry-after"]) > 0) == (503, True)
        running.wait_until_idle()
        assert running.post(json=SHORT).status_code == 200


def test_of_too_many_bodies_an_early_one_is_given_up(checkpoints, tmp_path):
    """16 of the largest may be on their way together."""
    most = 2**18
    with serving(checkpoints["delay"], tmp_path, max_body=most) as running:
        *first, last = senders = [Sender(running, most) for _ in range(17)]
        for sender in senders:
            sender.socket.sendall(bytes(most - 1))
        answered, _, _ = select.select([sender.socket for sender in first], [], [], PATIENCE)
        [given_up] = [sender for sender in first if sender.socket in answered]
        response = given_up.answer()
        assert (response.status, response.headers["connection"]) == (503, "close")
        last.socket.sendall(b"\0")
        assert last.answer().status == 400
        assert running.post(json=SHORT).status_code == 200
        for sender in senders:
            sender.socket.close()
