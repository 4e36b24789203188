"""A server in a process of its own while it is attacked: what others wait for, and what stays of it in memory."""

from __future__ import annotations

import http.client
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import requests

from support.serving import PATIENCE, wait_until

ROOT = Path(__file__).parents[2]
# First sounds that are measured for one figure; the figure is their median.
MEASURED = 7
# Requests after which a new server has all that is made once.
UNTIL_SETTLED = 20
# What a machine that others use may add to the time until a first sound.
SLACK_SECONDS = 0.15
# A server that never drops a slow client: the attack must last while others are measured.
LASTING = """
from functools import partial
from moss_tts import cli
from moss_tts.server import settings

settings.Settings = partial(settings.Settings, idle_s=1e6, body_timeout_s=1e6, reader_timeout_s=1e6)
cli.main()
"""
# The server gives memory back once it has been idle for half a second.
IDLE_SECONDS = 1.0
SHORT = {"input": "Hello there.", "seed": 1, "max_tokens": 8, "response_format": "pcm"}


@dataclass(frozen=True)
class Attacked:
    """A server that may be attacked.

    Attributes:
        process: `moss-tts serve`.
        port: on 127.0.0.1.
    """

    process: subprocess.Popen[str]
    port: int

    def get(self, path: str) -> requests.Response:
        """The answer to a GET."""
        return requests.get(f"http://127.0.0.1:{self.port}{path}", timeout=PATIENCE)

    @contextmanager
    def asking(self, body: dict[str, Any]) -> Iterator[http.client.HTTPConnection]:
        """A connection over which a speech was asked for; it is closed at the end, whatever was read."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request("POST", "/v1/audio/speech", json.dumps(body), {"Content-Type": "application/json"})
            yield connection
        finally:
            connection.close()

    def first_sound(self) -> float:
        """Seconds that a new client waits for the first bytes of a short speech; it hears all of it."""
        started = time.perf_counter()
        with self.asking(SHORT) as connection, connection.getresponse() as response:
            assert response.status == 200, response.read()
            assert response.read(2)
            seconds = time.perf_counter() - started
            response.read()
        return seconds

    def usual_first_sound(self) -> float:
        """The median of several first sounds, one after the other, in seconds."""
        return statistics.median(self.first_sound() for _ in range(MEASURED))

    def memory(self) -> int:
        """Resident memory of the process, in KiB."""
        shown = subprocess.run(["ps", "-o", "rss=", "-p", str(self.process.pid)], check=True, capture_output=True)
        return int(shown.stdout)

    def stop(self) -> int:
        """Send SIGTERM; the exit code.

        Raises:
            subprocess.TimeoutExpired: the process goes on.
        """
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)


@contextmanager
def attackable(checkpoint: Path, voices: Path, *options: object, files: int | None = None) -> Iterator[Attacked]:
    """`moss-tts serve` of a checkpoint on a free port, with all made that is made once; killed at the end.

    Args:
        checkpoint: its directory.
        voices: directory of its voices.
        options: of the command, such as "--max-waiting", 4.
        files: that it may open; None is as many as this process.
    """
    command = [sys.executable, "-c", LASTING, "serve", "--model", checkpoint, "--voices", voices, "--port", 0]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    arguments = [str(argument) for argument in (*command, *options)]
    limit = None if files is None else partial(resource.setrlimit, resource.RLIMIT_NOFILE, (files, files))
    with subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, text=True, preexec_fn=limit) as process:
        try:
            assert process.stdout is not None
            server = Attacked(process, int(process.stdout.readline().rpartition(":")[2]))
            wait_until(lambda: _answers(server))
            for _ in range(UNTIL_SETTLED):
                server.first_sound()
            yield server
        finally:
            process.kill()


def _answers(server: Attacked) -> bool:
    try:
        return server.get("/health").status_code == 200
    except requests.ConnectionError:
        return False


def assert_others_do_not_notice(
    server: Attacked, attack: Callable[[], AbstractContextManager[object]], growth: int | None = None
) -> None:
    """Others' first sound takes at most twice its time while the attack is on, and the memory comes back after it.

    Whoever attacks by asking for speech is a client like others until that speech is made, so that others may have to
    wait for a place in the batch for so long. Whatever else the machine has to do may end meanwhile, too.

    Args:
        server: is attacked.
        attack: begins the attack; it goes on until its block ends.
        growth: by which the memory may have grown, in KiB, once all is made; None where it ends with the attack.
    """
    before = server.usual_first_sound()
    time.sleep(IDLE_SECONDS)
    at_rest = server.memory()
    with attack():
        meanwhile = server.usual_first_sound()
        until = time.monotonic() + PATIENCE
        while meanwhile > 2 * before + SLACK_SECONDS and time.monotonic() < until:
            meanwhile = server.usual_first_sound()
        if growth is not None:
            wait_until(lambda: server.memory() <= at_rest + growth)
        at_most = server.memory()
    figures = f"first sound {before:.3f} s, under attack {meanwhile:.3f} s; {at_rest} KiB, under attack {at_most} KiB"
    assert meanwhile <= 2 * before + SLACK_SECONDS, figures
    wait_until(lambda: server.memory() <= 1.2 * at_rest)
    print(figures)
