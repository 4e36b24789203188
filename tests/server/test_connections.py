"""Connections to the server: how fast they are, how many there may be, and how long one may say nothing."""

from __future__ import annotations

import signal
import socket
from typing import Any

import pytest
import requests

pytest.importorskip("fastapi", reason="the extra server is not installed")

import moss_tts
from moss_tts.server.lifecycle import serve
from moss_tts.server.listener import bound
from moss_tts.server.settings import Settings
from support.serving import serving


@pytest.fixture(scope="module")
def served(checkpoints, tmp_path_factory) -> Any:
    with serving(checkpoints["delay"], tmp_path_factory.mktemp("voices")) as running:
        yield running


def test_what_is_sent_leaves_at_once(served):
    """A kept connection would wait 40 ms for every answer without it."""
    with requests.Session() as client:
        client.get(f"{served.url}/health", timeout=60)
        [connection] = served.server.server_state.connections
        accepted = connection.transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


def test_the_address_is_told_when_clients_can_connect(checkpoints, tmp_path):
    told: list[str] = []

    def tell(address: str) -> None:
        host, _, port = address.removeprefix("http://").rpartition(":")
        socket.create_connection((host, int(port)), timeout=5).close()
        told.append(address)
        signal.raise_signal(signal.SIGINT)

    settings = Settings(model_id="demo", voices=tmp_path)
    with bound("127.0.0.1", 0) as place:
        port = place.getsockname()[1]
        assert serve(lambda: moss_tts.load(checkpoints["delay"]), settings, place, tell) == 0
    assert told == [f"http://127.0.0.1:{port}"]
