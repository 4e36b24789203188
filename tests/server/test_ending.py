"""Every way in which `moss-tts serve` ends: with an exit code, soon, and never aborted."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra server is not installed")

from support.serving import PATIENCE, is_open, wait_until

SRC = Path(__file__).parents[2] / "src"
ENDLESS = {"input": "A text.", "runaway_guard": False, "text_temperature": 0.0, "max_tokens": 10**6}
SERVE = [sys.executable, "-m", "moss_tts", "serve", "--port", "0", "--max-frames", "1000000"]
# A device that is busy for longer than anybody waits for it.
STUCK = """
import time
from moss_tts import cli
from moss_tts.server.device_thread import Device

def stuck(*_):
    print("stuck", flush=True)
    time.sleep(3600)

Device._step = stuck
cli.main()
"""
# Its end is not hurried, however slow the machine.
PATIENT = """
from moss_tts import cli
from moss_tts.server import ending, lifecycle

ending.SECONDS_TO_END = lifecycle.SECONDS_TO_END = 300
cli.main()
"""
# A model that takes its time, and computes meanwhile.
LOADING = """
import mlx.core as mx
from moss_tts import cli
from moss_tts.cli.speak_text import Source

def load(_):
    print("loading", flush=True)
    while True:
        mx.eval(mx.ones((500, 500)) @ mx.ones((500, 500)))

Source.load = load
cli.main()
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
        asked = [
            clients.enter_context(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)) for _ in range(4)
        ]
        for client in asked:
            clients.enter_context(client)
            client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        yield asked


def ends_with(started: Any, *signals: signal.Signals) -> int:
    """The exit code after signals."""
    for one in signals:
        started.send_signal(one)
    return int(started.wait(PATIENCE))


@pytest.mark.slow
@pytest.mark.parametrize(("second", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_second_signal_under_load_does_not_wait(checkpoints, tmp_path, second, code):
    """It comes once the first one was heard, and long before its grace is over."""
    with process(checkpoints["delay"], tmp_path, SERVE, "--grace", str(2 * PATIENCE)) as started:
        with asking(started) as clients:
            assert all(client.recv(10) for client in clients)
            port = clients[0].getpeername()[1]
            started.send_signal(signal.SIGINT)
            wait_until(lambda: not is_open(port))
            assert ends_with(started, second) == code


@pytest.mark.slow
def test_one_signal_waits_no_longer_than_it_was_told(checkpoints, tmp_path):
    patient = [sys.executable, "-c", PATIENT, *SERVE[3:]]
    with process(checkpoints["delay"], tmp_path, patient, "--grace", "1") as started:
        with asking(started) as clients:
            assert all(client.recv(10) for client in clients)
            assert ends_with(started, signal.SIGINT) == 0


@pytest.mark.slow
def test_a_device_that_hangs_is_not_waited_for(checkpoints, tmp_path):
    stuck = [sys.executable, "-c", STUCK, *SERVE[3:]]
    with process(checkpoints["delay"], tmp_path, stuck, "--grace", "1") as started:
        with asking(started):
            assert started.stdout.readline() == "stuck\n"
            assert ends_with(started, signal.SIGINT) == 130


@pytest.mark.slow
def test_ctrl_c_while_the_model_is_loaded(checkpoints, tmp_path):
    loading = [sys.executable, "-c", LOADING, *SERVE[3:]]
    with process(checkpoints["delay"], tmp_path, loading) as started:
        assert started.stdout.readline() == "loading\n"
        assert ends_with(started, signal.SIGINT) == 130
