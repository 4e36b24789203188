"""The server under load: concurrent clients, some of whom leave or ask for nonsense.

    python benchmarks/server.py [--model DIR | --demo] [--requests 1000] [--clients 32]

Starts `moss-tts serve` as a process of its own. A client keeps its connection until it leaves. Every audio that comes
back whole is compared with what Model.generate speaks alone with the same seed. Ends with one line of JSON:

    requests, ok, cancelled, rejected (as they should be), lost (no or half an answer), mixed_up (another audio),
    server_errors, memory_growth (of the server at rest, after the last request against after the 50th),
    throughput_ratio (audio per second that arrived whole, against requests of the same mixture one at a time)
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np

import moss_tts
from moss_tts.audio.pcm import as_pcm
from moss_tts.checkpoints.demo import write_demo_checkpoint
from moss_tts.checkpoints.packaged import packaged_voice

Body = dict[str, Any]
# What of ten requests becomes of them, in any order.
TEN = ["cancelled"] * 2 + ["malformed"] + ["whole"] * 7
DISTINCT = 32
SETTLED, PROGRESS = 50, 100
# Requests that are sent one at a time, before the load and once more after it: machines change their speed.
ONE_BY_ONE = 80
SENTENCES = (
    "The rain had stopped before anyone noticed.",
    "She closed the book and looked out of the window.",
    "There is a small shop at the corner of the street.",
    "Nobody had told him about the second key.",
    "The train to the coast leaves at half past seven.",
    "We should have asked for the price before we ordered.",
    "An old clock was ticking somewhere in the house.",
    "He wrote three letters, and sent none of them.",
)
NONSENSE: Sequence[Body] = (
    {"input": ""},
    {"input": "Hi.", "temperature": -1},
    {"input": "Hi.", "voice": "../../etc/passwd"},
    {"input": "Hi.", "reference": "/etc/passwd"},
    {"input": "Hi.", "reference": "data:audio/wav;base64,AAAA"},
    {"input": "x" * 100_000},
    {"input": "Hi.", "speed": 2},
    {"input": "Hi.", "no_such_field": 1},
)


@dataclass(frozen=True)
class Spoken:
    """A request, and what it speaks alone."""

    body: Body
    pcm: np.ndarray


@dataclass(frozen=True)
class Task:
    """One request of the load: "whole", "cancelled" or "malformed"."""

    kind: str
    body: Body
    expected: np.ndarray | None = None


def main() -> None:
    """Run the benchmark and print its line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a checkpoint; by default the packaged voice")
    parser.add_argument("--demo", action="store_true", help="a tiny checkpoint with random weights instead")
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=6.0, help="longest speech of a request with --demo")
    given = parser.parse_args()
    if given.requests <= SETTLED:
        parser.error(f"--requests must be more than {SETTLED}, after which memory is first looked at")
    with tempfile.TemporaryDirectory() as directory:
        if given.demo:
            model, requests = write_demo_checkpoint(Path(directory) / "demo"), lengths(given.seconds)
        else:
            model, requests = given.model or packaged_voice(), sentences()
        spoken = alone(model, requests)
        with served(model, Path(directory) / "voices", given.clients) as (port, process):
            print(json.dumps(measured(port, process.pid, spoken, given.requests, given.clients)))


def sentences() -> list[Body]:
    """Requests to speak one sentence or two, every other one as a stream."""
    rng = random.Random(0)
    texts = [" ".join(rng.sample(SENTENCES, 1 + seed % 2)) for seed in range(DISTINCT)]
    return [{"input": text, "seed": seed, "stream": seed % 2 == 0} for seed, text in enumerate(texts)]


def lengths(longest: float) -> list[Body]:
    """Requests of up to 2 s to the longest. The demo's weights go on until they are stopped."""
    frames = np.linspace(min(25, round(12.5 * longest)), round(12.5 * longest), DISTINCT).astype(int)
    endless = {"text_temperature": 0.0, "runaway_guard": False}
    return [
        {"input": f"This is sentence number {seed}.", "seed": seed, "max_tokens": int(count), "stream": seed % 2 == 0}
        | endless
        for seed, count in enumerate(frames)
    ]


def alone(directory: Path, requests: list[Body]) -> list[Spoken]:
    """What each request speaks by itself."""
    model = moss_tts.load(directory)
    spoken = []
    for body in requests:
        options = {name: value for name, value in body.items() if name not in ("input", "stream")}
        spoken.append(Spoken(body, as_pcm(next(model.generate(body["input"], **options)).audio)))
    return spoken


@contextmanager
def served(model: Path, voices: Path, clients: int) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """A running server and its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moss_tts", "serve", "--model", str(model), "--port", str(port)]
    options = ["--max-batch", str(clients), "--voices", str(voices)]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen([*command, *options], stdout=log, stderr=log)
        try:
            wait_for(port, process)
            yield port, process
        finally:
            process.terminate()
            process.wait(60)
            if process.returncode not in (0, -15):
                log.seek(0)
                sys.stderr.write(log.read().decode()[-5000:])


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Until the server takes requests."""
    while process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.1)
    raise SystemExit("the server did not start")


def measured(port: int, pid: int, spoken: list[Spoken], count: int, clients: int) -> dict[str, Any]:
    """One at a time, the load, and one at a time again."""
    with Client(port) as client:
        for one in spoken[:3]:
            client.ask(whole(one))
    load, todo = Load(), tasks(spoken, count)
    before = audio_per_second(port, todo[:ONE_BY_ONE], 1, Load())
    audio_per_second(port, todo[:SETTLED], clients, load)
    settled = resident_at_rest(port, pid)
    rate = audio_per_second(port, todo[SETTLED:], clients, load)
    growth = resident_at_rest(port, pid) / settled - 1
    after = audio_per_second(port, todo[:ONE_BY_ONE], 1, Load())
    outcomes = load.outcomes
    names = ("ok", "cancelled", "rejected", "lost", "mixed_up", "server_errors")
    print(
        f"seconds of audio per second: one at a time {before:.1f}, {clients} clients {rate:.1f}, "
        f"one at a time again {after:.1f}",
        file=sys.stderr,
    )
    return {
        "requests": sum(outcomes.values()),
        **{name: outcomes[name] for name in names},
        "memory_growth": round(growth, 4),
        "throughput_ratio": round(rate / ((before + after) / 2), 2),
    }


def whole(one: Spoken) -> Task:
    """A request that is waited for."""
    return Task("whole", one.body, one.pcm)


def tasks(spoken: list[Spoken], count: int) -> list[Task]:
    """A seeded mixture; so is every part of it of some tens."""
    rng = random.Random(0)
    mixed = []
    for kind in (kind for _ in range(0, count, len(TEN)) for kind in rng.sample(TEN, len(TEN))):
        one = rng.choice(spoken)
        if kind == "cancelled":
            mixed.append(Task(kind, one.body | {"stream": rng.random() < 0.7}))
        elif kind == "malformed":
            mixed.append(Task(kind, rng.choice(NONSENSE)))
        else:
            mixed.append(whole(one))
    return mixed[:count]


class Load:
    """What became of requests."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.outcomes: Counter[str] = Counter()
        self.samples = 0

    def add(self, outcome: str, samples: int) -> None:
        """Count one."""
        with self._lock:
            self.outcomes[outcome] += 1
            self.samples += samples
            done = sum(self.outcomes.values())
        if done % PROGRESS == 0:
            print(f"{done} requests", file=sys.stderr, flush=True)


def audio_per_second(port: int, todo: list[Task], clients: int, load: Load) -> float:
    """Seconds of audio that arrived whole, per second, with so many clients."""
    waiting = iter(todo)
    lock = threading.Lock()

    def ask_on() -> None:
        with Client(port) as client:
            while True:
                with lock:
                    task = next(waiting, None)
                if task is None:
                    return
                load.add(*client.ask(task))

    before, started = load.samples, time.perf_counter()
    with ThreadPoolExecutor(clients) as threads:
        for future in [threads.submit(ask_on) for _ in range(clients)]:
            future.result()
    return (load.samples - before) / 24000 / (time.perf_counter() - started)


class Client:
    """A client that keeps its connection from one request to the next, as programs do, unless it leaves."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def ask(self, task: Task) -> tuple[str, int]:
        """The outcome of a request, and the samples that arrived whole."""
        content = json.dumps(task.body | {"response_format": "pcm"})
        try:
            self._connection.request("POST", "/v1/audio/speech", content, {"Content-Type": "application/json"})
            if task.kind == "cancelled":
                return self._leave(task)
            response = self._connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return "lost", 0
        return judged(task, response.status, answer)

    def _leave(self, task: Task) -> tuple[str, int]:
        """Go after the first bytes, or before there are any."""
        try:
            if not task.body["stream"]:
                time.sleep(0.05)
                return "cancelled", 0
            with self._connection.getresponse() as response:
                response.read(1000)
            if response.status >= 500:
                return "server_errors", 0
            return ("cancelled" if response.status == 200 else "lost"), 0
        finally:
            self._connection.close()


def judged(task: Task, status: int, answer: bytes) -> tuple[str, int]:
    """What an answer is."""
    if status >= 500:
        return "server_errors", 0
    if task.kind == "malformed":
        named = status in (400, 422) and json.loads(answer)["error"]["param"] is not None
        return ("rejected" if named else "lost"), 0
    if status != 200 or task.expected is None:
        return "lost", 0
    heard = np.frombuffer(answer, "<i2")
    # Products of many rows differ from those of one in their last bits: a sample may be rounded the other way.
    same = heard.shape == task.expected.shape and np.abs(heard.astype(int) - task.expected).max(initial=0) <= 1
    return ("ok", len(heard)) if same else ("mixed_up", 0)


def resident_at_rest(port: int, pid: int) -> int:
    """Resident memory of the server in KiB, once it speaks for nobody and has given back what it can."""
    metrics = f"http://127.0.0.1:{port}/metrics"
    while re.search(rb'^moss_tts_requests\{state="running"\} 0(\.0)?$', urlopen(metrics).read(), re.MULTILINE) is None:
        time.sleep(0.1)
    time.sleep(1)
    return int(subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, check=True).stdout)


if __name__ == "__main__":
    main()
