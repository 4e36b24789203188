"""What a model takes leaves memory with it, and nothing is left behind that grows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from moss_tts.checkpoints import demo

SRC = Path(__file__).parents[2] / "src"
# Prints the process's memory, in bytes, when the model is in memory and when it is not, after each cycle.
CYCLES = """
import json, sys
from moss_tts.device.memory import use_one_heap
use_one_heap()
import moss_tts
from moss_tts.server.device_thread import Device

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

device = Device(lambda: moss_tts.load(sys.argv[1]), 4, 1000)
device.start()
found = []
for _ in range(int(sys.argv[2])):
    loaded = resident()
    device.unload().result()
    found.append((loaded, resident()))
    device.load().result()
device.stop()
print(json.dumps(found))
"""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="/proc tells the memory of a process on Linux"),
]


def cycles(checkpoint: Path, count: int) -> list[tuple[int, int]]:
    """(Bytes with the model, bytes without it) of a process, for each time that it was loaded and unloaded."""
    command = [sys.executable, "-c", CYCLES, str(checkpoint), str(count)]
    environment = os.environ | {"PYTHONPATH": str(SRC)}
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=600)
    return [(loaded, unloaded) for loaded, unloaded in json.loads(answer.stdout)]


def test_a_model_that_leaves_returns_nine_tenths_of_its_memory(tmp_path, monkeypatch):
    small = demo.model_config

    def wide(architecture: str) -> demo.Raw:
        raw = small(architecture)
        raw["language_config"] |= {"hidden_size": demo.WIDTH, "intermediate_size": 2 * demo.WIDTH}
        raw["language_config"]["num_hidden_layers"] = 8
        return raw

    monkeypatch.setattr(demo, "WIDTH", 1024)
    monkeypatch.setattr(demo, "model_config", wide)
    checkpoint = demo.write_demo_checkpoint(tmp_path / "wide")
    weights = sum(file.stat().st_size for file in checkpoint.rglob("*.safetensors"))
    assert weights > 200e6
    for loaded, unloaded in cycles(checkpoint, 3):
        assert loaded - unloaded > 0.9 * weights


def test_a_hundred_cycles_leave_nothing_behind(checkpoints):
    left = [unloaded for _, unloaded in cycles(checkpoints["delay"], 100)]
    # A tenth of a megabyte in each cycle was too much once: keys for random weights that nobody needs.
    assert max(left[80:]) - max(left[20:40]) < 2e6
