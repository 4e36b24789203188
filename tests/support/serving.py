"""A server on this machine for tests: the real one, on a free port."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import requests

import moss_tts
from moss_tts.audio.pcm import FULL_SCALE, as_pcm
from moss_tts.model import Model
from moss_tts.server.app import create_app
from moss_tts.server.connections import look_after
from moss_tts.server.device_thread import Device
from moss_tts.server.lifecycle import new_server
from moss_tts.server.listener import bound
from moss_tts.server.models import Models
from moss_tts.server.served_model import ModelSource
from moss_tts.server.settings import Settings

# What ends no test: hours of speech.
ENDLESS_FRAMES = 10**6
# Limits that are not over before a test is, however slow the machine, unless it lets time pass.
OF_A_REQUEST = ("timeout_s", "idle_s", "body_timeout_s", "reader_timeout_s")
OF_A_SESSION = ("session_idle_s", "turn_timeout_s", "session_timeout_s")
NEVER = dict.fromkeys((*OF_A_REQUEST, *OF_A_SESSION), 1e9)
# The longest wait for what comes sooner or later on any machine.
PATIENCE = 300


def wait_until(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Ask again and again; not before `seconds` are over is it an error that nothing came of it."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)


def is_open(port: int) -> bool:
    """Whether a server takes connections."""
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True


class Clock:
    """The time of a server, which passes by itself, and at once where a test lets it.

    Args:
        look: makes the server look at what is there.
    """

    def __init__(self, look: Callable[[], None]) -> None:
        self._look, self._ahead = look, 0.0

    def wind(self) -> None:
        """Begin to tell the time of the event loop that this is called in."""
        self._loop = asyncio.get_running_loop()
        real = self._loop.time
        self._loop.time = lambda: real() + self._ahead  # type: ignore[method-assign]

    def move(self, seconds: float) -> None:
        """Let time pass between two turns of the event loop, for all that is there now."""
        moved = threading.Event()

        def work() -> None:
            self._look()
            self._ahead += seconds
            moved.set()

        self._loop.call_soon_threadsafe(work)
        assert moved.wait(PATIENCE)


@dataclass
class Serving:
    """A running server."""

    url: str
    device: Device
    model: Model
    server: Any
    headers: dict[str, str] = field(default_factory=dict)
    models: Models | None = None
    clock: Clock | None = None

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def post(self, path: str = "/v1/audio/speech", **options: Any) -> requests.Response:
        return requests.post(self.url + path, headers=self.headers, timeout=PATIENCE, **options)

    def get(self, path: str) -> requests.Response:
        return requests.get(self.url + path, headers=self.headers, timeout=PATIENCE)

    def pcm(self, body: dict[str, Any]) -> np.ndarray:
        """What a request speaks, as 16-bit samples."""
        response = self.post(json=body | {"response_format": "pcm"})
        assert response.status_code == 200, response.text
        samples = np.frombuffer(response.content, "<i2")
        channels = int(response.headers["x-channels"])
        return samples if channels == 1 else samples.reshape(-1, channels)

    def counter(self, name: str) -> float:
        """A value of /metrics."""
        lines = self.get("/metrics").text.splitlines()
        return float(next(line for line in lines if line.startswith(f"{name} ")).rpartition(" ")[2])

    def outcome(self, name: str) -> float:
        return self.counter(f'moss_tts_requests_total{{outcome="{name}"}}')

    def wait_until_idle(self) -> None:
        wait_until(lambda: not (self.counter('moss_tts_requests{state="running"}') or self.device.running))

    def later(self, seconds: float) -> None:
        """Let so much time pass for the server at once."""
        assert self.clock is not None
        self.clock.move(seconds)

    @contextmanager
    def passing(self, seconds: float) -> Iterator[None]:
        """Let so much time pass again and again, until the block ends."""
        stop = threading.Event()

        def go_on() -> None:
            while not stop.wait(0.05):
                self.later(seconds)

        thread = threading.Thread(target=go_on)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    @contextmanager
    def open(self, body: dict[str, Any], path: str = "/v1/audio/speech") -> Iterator[http.client.HTTPConnection]:
        """A connection with a request sent; leaving the block is leaving the server."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        headers = {"Content-Type": "application/json", **self.headers}
        connection.request("POST", path, json.dumps(body), headers)
        # A response that closes the connection takes the socket over.
        sock = connection.sock
        try:
            yield connection
        finally:
            sock.shutdown(socket.SHUT_RDWR)
            sock.close()
            connection.close()


@contextmanager
def serving(
    checkpoint: Path,
    voices: Path,
    *,
    send_buffer: int | None = None,
    lora: Mapping[str, Path] | None = None,
    adapters: Mapping[str, float] | None = None,
    mark: str | None = None,
    more: Mapping[str, Path] | None = None,
    **settings: Any,
) -> Iterator[Serving]:
    """A server of a checkpoint, without limits on time but those that are given; stopped at the end.

    Args:
        checkpoint: its directory.
        voices: directory of its voices.
        send_buffer: bytes that the system keeps for a client which does not read; its own choice by default.
        lora: directories of the model's adapters.
        adapters: weights of its adapters for requests that name none.
        mark: what its files say of how they were made.
        more: checkpoints of further models, by name.
        settings: of the server.
    """
    chosen = Settings(voices=voices, **{"max_frames": ENDLESS_FRAMES, **NEVER} | settings)
    demo = ModelSource("demo", lambda: moss_tts.load(checkpoint, adapters=lora), adapters or {}, mark)
    others = [ModelSource(name, partial(moss_tts.load, place)) for name, place in (more or {}).items()]
    models = Models([demo, *others], chosen)
    models.start()
    device, model = models.first.device, models.first.model
    assert model is not None
    app = create_app(chosen, models)
    server, place = new_server(app, chosen), bound("127.0.0.1", 0)
    if send_buffer is not None:
        place.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    port = place.getsockname()[1]
    clock = Clock(partial(look_after, server.server_state.connections, chosen))
    server.on_listening = clock.wind
    thread = threading.Thread(target=server.run, args=([place],), daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    headers = {} if chosen.api_key is None else {"Authorization": f"Bearer {chosen.api_key}"}
    try:
        yield Serving(f"http://127.0.0.1:{port}", device, model, server, headers, models, clock)
    finally:
        server.should_exit = True
        thread.join(timeout=PATIENCE)
        assert not thread.is_alive()
        assert not models.alive


def assert_same_speech(heard: np.ndarray, audio: np.ndarray) -> None:
    """Equal to what a single run speaks, to 1e-6 of its loudest sample, before both are rounded to 16 bits.

    Products of one row and of many differ in their last bits, so a sample may fall on the other side of a rounding
    boundary; another voice, seed or frame would differ everywhere.
    """
    assert heard.shape == as_pcm(audio).shape
    exact = np.clip(audio.astype(np.float64) * FULL_SCALE, -FULL_SCALE, FULL_SCALE - 1)
    allowed = 0.5 + 1e-6 * FULL_SCALE * max(1.0, float(np.abs(audio).max(initial=0.0)))
    assert np.abs(heard - exact).max(initial=0.0) <= allowed
