"""More than one process: replicas behind one route, and one network over several processes."""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import random
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import requests
import soundfile

pytest.importorskip("fastapi", reason="the extra server is not installed")

import moss_tts
from moss_tts.errors import ConfigError
from moss_tts.tensor_parallel import load_part
from support.hub import cache_entry
from support.serving import assert_same_speech, wait_until
from support.tensor_parallel_frames import frames

ROOT = Path(__file__).parents[1]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT / "src"), "RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0"}


def free_port() -> int:
    """A port that stays free until it is bound: those above 32768 are given to whatever asks for any."""
    for port in random.sample(range(20_000, 32_000), 100):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("no port is free")


@contextmanager
def replicas(checkpoint: Path, voices: Path) -> Iterator[str]:
    """Two replicas on this machine; Ray is started and ended with them."""
    port = free_port()
    command = [sys.executable, ROOT / "deploy" / "ray_serve" / "speech.py", "--model", checkpoint, "--replicas", "2"]
    started = [*command, "--port", str(port), "--voices", voices]
    with (voices.parent / "ray.log").open("w") as log:
        process = subprocess.Popen(started, env=ENVIRONMENT, stdout=log, stderr=log)
        try:
            wait_until(lambda: process.poll() is not None or is_ready(port, log.name), 600)
            assert process.poll() is None, Path(log.name).read_text()[-3000:]
            yield f"http://127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(600)


def is_ready(port: int, log: str) -> bool:
    return f":{port}/" in Path(log).read_text() and "is ready at" in Path(log).read_text()


def ask(url: str, body: dict[str, Any]) -> requests.Response:
    response = requests.post(f"{url}/v1/audio/speech", json=body | {"response_format": "pcm"}, timeout=600)
    assert response.status_code == 200, response.text
    return response


@pytest.mark.slow
def test_replicas_behind_one_route(checkpoints, delay_model, tmp_path):
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed: pip install 'ray[serve]'")
    with replicas(checkpoints["delay"], tmp_path / "voices") as url:
        bodies = [{"input": f"Sentence {seed}.", "seed": seed, "max_tokens": 30} for seed in range(12)]
        with ThreadPoolExecutor(6) as clients:
            answers = list(clients.map(lambda body: ask(url, body), bodies))
        assert len({answer.headers["x-replica"] for answer in answers}) == 2
        for body, answer in zip(bodies, answers, strict=True):
            alone = next(delay_model.generate(body["input"], seed=body["seed"], max_tokens=30)).audio
            assert_same_speech(np.frombuffer(answer.content, "<i2"), alone)
        assert (
            requests.post(f"{url}/v1/audio/speech", json={"input": ""}, timeout=600).json()["error"]["param"] == "input"
        )
        # Who leaves is let go by whichever replica it was.
        leave(url)
        wait_until(lambda: cancelled(url) == 1)


def leave(url: str) -> None:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=600)
    endless = {"input": "A text.", "runaway_guard": False, "text_temperature": 0.0, "seed": 1}
    connection.request("POST", "/v1/audio/speech", json.dumps(endless), {"Content-Type": "application/json"})
    assert connection.getresponse().read(100)
    connection.close()


def cancelled(url: str) -> int:
    """Over both replicas; each tells of itself."""
    seen: dict[str, int] = {}
    for _ in range(200):
        answer = requests.get(f"{url}/metrics", timeout=600)
        line = next(line for line in answer.text.splitlines() if 'outcome="cancelled"' in line)
        seen[answer.headers["x-replica"]] = int(float(line.rpartition(" ")[2]))
        if len(seen) == 2:
            break
        time.sleep(0.01)
    return sum(seen.values())


# ---------------------------------------------------------------------------------- one network in two processes


@pytest.mark.slow
def test_two_processes_draw_the_rows_of_one(checkpoints, models, tmp_path):
    """Each holds half of every layer; both sums of a layer cross the loopback device."""
    if not mx.distributed.is_available("ring"):
        pytest.skip("this build of mlx has no ring backend")
    names = ("delay", "local", "local_v1_5")
    launch = [sys.executable, "-c", "from mlx._distributed_utils.launch import main; main()", "-n", "2"]
    options = ["--backend", "ring", "--python", sys.executable, "--env", f"PYTHONPATH={ENVIRONMENT['PYTHONPATH']}"]
    script = [ROOT / "tests" / "support" / "tensor_parallel_frames.py", tmp_path / "frames.npz"]
    command = [*launch, *options, *script, *(checkpoints[name] for name in names)]
    ran = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=600, check=False)
    assert ran.returncode == 0, ran.stderr
    with np.load(tmp_path / "frames.npz") as spoken:
        assert spoken["processes"] == 2
        for index, name in enumerate(names):
            np.testing.assert_array_equal(spoken[str(index)], frames(models[name]))
            whole = models[name].architecture.network["backbone"].layers[0].self_attn.o_proj.weight
            assert spoken["o_proj"][index] * 2 == whole.size


def documented(program: str) -> str:
    """The first command of docs/scaling.md that begins with a program, one for this machine."""
    lines = (ROOT / "docs" / "scaling.md").read_text().splitlines()
    return next(line for line in lines if line.startswith(f"{program} ") and "hostfile" not in line)


@pytest.mark.slow
def test_the_documents_own_command_speaks_in_two_processes(checkpoints, tmp_path):
    if not mx.distributed.is_available("ring"):
        pytest.skip("this build of mlx has no ring backend")
    cache_entry(tmp_path / "cache", "OpenMOSS-Team/MOSS-TTS", checkpoints["delay"])
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    # As where this environment is activated.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = ENVIRONMENT | {"PATH": path, "HF_HUB_CACHE": str(tmp_path / "cache")}
    command = shlex.split(documented("mlx.launch"))
    ran = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert re.fullmatch(r"hello\.wav: 00:00:\d\d\.\d{3}, 2 processes, [\d.]+ MB each\n", ran.stdout)
    alone = next(moss_tts.load(checkpoints["delay"]).generate("Hello.", seed=0))
    np.testing.assert_allclose(soundfile.read(tmp_path / "hello.wav")[0], alone.audio, atol=1e-4)


class Alone:
    """A group that nobody else is in, said to be larger."""

    def __init__(self, rank: int, size: int) -> None:
        self._rank, self._size = rank, size

    def rank(self) -> int:
        return self._rank

    def size(self) -> int:
        return self._size


def test_what_cannot_be_shared_is_refused_before_it_is_read(checkpoints):
    with pytest.raises(ConfigError, match="3 processes cannot share num_attention_heads = 4"):
        load_part(checkpoints["delay"], Alone(0, 3))
    with pytest.raises(ConfigError, match="num_key_value_heads = 2"):
        load_part(checkpoints["delay"], Alone(0, 4))


def test_a_backbone_that_is_never_shared_is_refused(checkpoints):
    with pytest.raises(ConfigError, match=r"only models with a Qwen3 backbone are shared.*load this one whole"):
        load_part(checkpoints["nano"], Alone(0, 2))


def test_the_parts_are_the_whole(checkpoints, delay_model):
    parts = [load_part(checkpoints["delay"], Alone(rank, 2)).architecture.network["backbone"] for rank in (0, 1)]
    whole = delay_model.architecture.network["backbone"]
    for index, layer in enumerate(whole.layers):
        for name, axis in (("self_attn.o_proj", 1), ("mlp.down_proj", 1)):
            block, projection = name.split(".")
            halves = [part.layers[index][block][projection].part.weight for part in parts]
            np.testing.assert_array_equal(mx.concatenate(halves, axis=axis), layer[block][projection].weight)
