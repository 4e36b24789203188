"""Every way in which `moss-tts serve` ends: with an exit code, soon, and never aborted."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra server is not installed")

SRC = Path(__file__).parents[2] / "src"
ENDLESS = {"input": "A text.", "runaway_guard": False, "text_temperature": 0.0, "max_tokens": 10**6}
SERVE = [sys.executable, "-m", "moss_tts", "serve", "--port", "0", "--max-frames", "1000000"]
# A device that is busy for longer than anybody waits for it.
STUCK = """
import sys, time
from moss_tts import cli
from moss_tts.server.device_thread import Device

Device._step = lambda *_: time.sleep(600)
cli.main(sys.argv[1:])
"""
# A model that takes its time, and computes meanwhile.
LOADING = """
import sys
import mlx.core as mx
from moss_tts import cli
from moss_tts.cli.speak_text import Source

def load(_):
    print("loading", flush=True)
    while True:
        mx.eval(mx.ones((500, 500)) @ mx.ones((500, 500)))

Source.load = load
cli.main(sys.argv[1:])
"""


@contextmanager
def process(checkpoint: Path, directory: Path, command: list[str], *options: str) -> Iterator[Any]:
    """The command, in a process that is killed if the test fails."""
    arguments = [*command, "--model", str(checkpoint), "--voices", str(directory), *options]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(arguments, env=os.environ | {"PYTHONPATH": str(SRC)}, text=True, **pipes) as started:
        try:
            yield started
        finally:
            started.kill()


@contextmanager
def asking(started: Any) -> Iterator[list[socket.socket]]:
    """Clients that have asked for a speech without end."""
    port = int(started.stdout.readline().strip().rpartition(":")[2])
    body = json.dumps(ENDLESS)
    head = "POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with ExitStack() as clients:
        asked = [clients.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30)) for _ in range(4)]
        for client in asked:
            client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        yield asked


def ends_with(started: Any, *signals: signal.Signals, within: float = 20) -> int:
    """The exit code after signals that come one soon after the other."""
    for one in signals:
        started.send_signal(one)
        time.sleep(0.2)
    return int(started.wait(within))


@pytest.mark.slow
@pytest.mark.parametrize(("signals", "code"), [([signal.SIGINT] * 2, 130), ([signal.SIGINT, signal.SIGTERM], 143)])
def test_a_second_signal_under_load_does_not_wait(checkpoints, tmp_path, signals, code):
    with process(checkpoints["delay"], tmp_path, SERVE) as started:
        with asking(started) as clients:
            assert all(client.recv(10) for client in clients)
            assert ends_with(started, *signals) == code


@pytest.mark.slow
def test_one_signal_waits_no_longer_than_it_was_told(checkpoints, tmp_path):
    with process(checkpoints["delay"], tmp_path, SERVE, "--grace", "1") as started:
        with asking(started) as clients:
            assert all(client.recv(10) for client in clients)
            assert ends_with(started, signal.SIGINT) == 0


@pytest.mark.slow
def test_a_device_that_hangs_is_not_waited_for(checkpoints, tmp_path):
    stuck = [sys.executable, "-c", STUCK, *SERVE[3:]]
    with process(checkpoints["delay"], tmp_path, stuck, "--grace", "1") as started:
        with asking(started):
            time.sleep(0.5)
            assert ends_with(started, signal.SIGINT) == 130


@pytest.mark.slow
def test_ctrl_c_while_the_model_is_loaded(checkpoints, tmp_path):
    loading = [sys.executable, "-c", LOADING, *SERVE[3:]]
    with process(checkpoints["delay"], tmp_path, loading) as started:
        assert started.stdout.readline() == "loading\n"
        assert ends_with(started, signal.SIGINT) == 130
