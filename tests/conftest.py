"""What all tests share: no network, tiny checkpoints, models loaded once."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Before anything imports huggingface_hub.
os.environ["HF_HUB_OFFLINE"] = "1"
# Threads of the BLAS would only wait for each other: every matrix here is tiny.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# isort: off
import moss_tts  # before mlx: it brings the fast BLAS

# isort: on
import mlx.core as mx
import pytest
from hypothesis import HealthCheck, settings

from moss_tts.audio import av_process
from moss_tts.checkpoints.demo import write_demo_checkpoint, write_tokenizer
from moss_tts.config import parse_config
from moss_tts.device import kernels
from moss_tts.prompts import chat_template
from moss_tts.weights.layout import read_weights
from support.codec_tiny import random_weights, stereo

# A slow machine is no fault, and every run tries the same examples; `--hypothesis-profile explore` tries others.
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("default", settings.get_profile("explore"), derandomize=True)
settings.load_profile("default")

GOLDEN = Path(__file__).parent / "golden"
# Tests that took longer than this, one a line: scripts/check leaves them out, and `--record-slow` notes them.
SLOW = Path(__file__).parent / "slow.txt"
SLOW_SECONDS = 0.2
ARCHITECTURES = ("delay", "local", "local_v1_5", "nano", "realtime")
# Test files of what computes: what they check holds on every device.
MEET_BRANCHES = {
    "test_codec.py",
    "test_codec_precision.py",
    "test_codec_stages.py",
    "test_decoding.py",
    "test_generate_stream_contracts.py",
    "test_golden.py",
    "test_golden_adapters.py",
    "test_moss_tts_delay_runtime.py",
    "test_moss_tts_local_runtime.py",
    "test_quantised_cache.py",
    "test_rows.py",
    "test_sampling.py",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--branches",
        choices=("cpu", "gpu"),
        default="cpu",
        help="Which branches of the code run: those for CPUs, or those for GPUs, which run on a CPU as well.",
    )
    parser.addoption("--record-slow", action="store_true", help="Measure the tests that run, and note the slow ones.")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark slow tests; of the second suite, keep what meets the branches, and not what is about the C for CPUs."""
    slow = set(SLOW.read_text("utf-8").splitlines())
    for item in items:
        if function_of(item.nodeid) in slow:
            item.add_marker(pytest.mark.slow)
    if config.getoption("branches") == "gpu":
        kept = [item for item in items if item.path.name in MEET_BRANCHES and not item.get_closest_marker("c_on_cpus")]
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """With --record-slow, note which of the tests that ran are slow; the others stay as they were noted."""
    if not config.getoption("record_slow"):
        return
    longest: dict[str, float] = {}
    for report in terminalreporter.stats.get("passed", []):
        name = function_of(report.nodeid)
        longest[name] = max(report.duration, longest.get(name, 0.0))
    before = set(SLOW.read_text("utf-8").splitlines()) - longest.keys()
    slow = before | {name for name, seconds in longest.items() if seconds > SLOW_SECONDS}
    SLOW.write_text("".join(f"{name}\n" for name in sorted(slow)), "utf-8")


def function_of(nodeid: str) -> str:
    """The function of a test, which all its parameters share."""
    return nodeid.partition("[")[0]


def pytest_report_header(config: pytest.Config) -> str:
    return f"branches of the code for {config.getoption('branches').upper()}s"


@pytest.fixture(scope="session", autouse=True)
def branches(request: pytest.FixtureRequest):
    """With --branches gpu, everything that asks whether this is a CPU hears that it is none."""
    with pytest.MonkeyPatch.context() as patch:
        if request.config.getoption("branches") == "gpu":
            patch.setattr(kernels, "device_is_cpu", lambda: False)
        yield


@pytest.fixture(scope="session", autouse=True)
def heeded_ctrl_c():
    """Ctrl-C means what it means in a terminal, though tests that were started in the background ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session", autouse=True)
def unhurried():
    """Programs for foreign data are not ended because the machine is slow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(av_process, "MAX_TIME", 100.0)
        patch.setattr(chat_template, "MAX_TIME", 100.0)
        yield


@pytest.fixture(scope="session", autouse=True)
def no_network():
    """Every test runs offline; only this machine may be connected to."""
    real = socket.socket.connect

    def connect(self: socket.socket, address: Any) -> None:
        local = self.family == socket.AF_UNIX or address[0] in ("127.0.0.1", "::1", "localhost")
        if not local:
            raise AssertionError(f"a test wants to connect to {address}")
        real(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect)
        yield


def write_v1_5_checkpoint(directory: Path) -> Path:
    """Upstream's tiny v1.5 with a tokenizer, and a stereo codec whose rates it is told.

    One coordinate of the depth decoder's output is made constant, and goes on speaking for some 30 frames.
    """
    codec = stereo()
    codec["quantizer_kwargs"] |= {"num_quantizers": 4, "codebook_size": 24}
    raw = json.loads((GOLDEN / "local_v1_5" / "config.json").read_text()) | {"sampling_rate": codec["sampling_rate"]}
    (directory / "audio_tokenizer").mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(raw))
    weights = read_weights(GOLDEN / "local_v1_5")
    first = mx.arange(weights["local_transformer.ln_f.bias"].shape[0]) == 0
    weights["local_transformer.ln_f.weight"] = mx.where(first, 0.0, weights["local_transformer.ln_f.weight"])
    weights["local_transformer.ln_f.bias"] = mx.where(first, 1.0, weights["local_transformer.ln_f.bias"])
    weights["local_text_lm_head.weight"] = mx.stack([3.4 * first, 0.0 * first])
    mx.save_safetensors(str(directory / "model.safetensors"), weights)
    (directory / "audio_tokenizer" / "config.json").write_text(json.dumps(codec))
    mx.save_safetensors(str(directory / "audio_tokenizer" / "model.safetensors"), random_weights(codec))
    write_tokenizer(directory, parse_config(raw))
    return directory


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory) -> dict[str, Path]:
    """One complete checkpoint directory per architecture. Read only: see `copied` for one to change."""
    root = tmp_path_factory.mktemp("checkpoints")
    made = {name: write_demo_checkpoint(root / name, name) for name in ("delay", "local", "nano", "realtime")}
    return made | {"local_v1_5": write_v1_5_checkpoint(root / "local_v1_5")}


@pytest.fixture
def copied(checkpoints, tmp_path) -> Callable[[str], Path]:
    """A checkpoint of that architecture to break or change."""
    return lambda name: Path(shutil.copytree(checkpoints[name], tmp_path / name))


@pytest.fixture(scope="session")
def models(checkpoints) -> dict[str, Any]:
    """One loaded model per architecture."""
    return {name: moss_tts.load(directory) for name, directory in checkpoints.items()}


@pytest.fixture(scope="session")
def delay_model(models) -> Any:
    """Speaks noise for 20 to 60 frames."""
    return models["delay"]


@pytest.fixture(scope="session")
def local_model(models) -> Any:
    """Speaks noise for 20 to 60 frames."""
    return models["local"]


@pytest.fixture(params=ARCHITECTURES)
def model(request, models) -> Any:
    """Each architecture's model in turn."""
    return models[request.param]


@pytest.fixture
def fuse() -> Callable[[Path], Path]:
    """Put a checkpoint's codec into its own files, as upstream's fusing script lays them out."""

    def fused(directory: Path) -> Path:
        raw = json.loads((directory / "config.json").read_text())
        codec = directory / "audio_tokenizer"
        raw["codec_config"] = json.loads((codec / "config.json").read_text())
        weights = dict(mx.load(str(directory / "model.safetensors")))
        if any(name.startswith("language_model.") for name in weights):
            weights = {name.replace("language_model.", "model.", 1): weight for name, weight in weights.items()}
        weights |= {f"codec_model.{k}": v for k, v in mx.load(str(codec / "model.safetensors")).items()}
        mx.eval(weights)
        mx.save_safetensors(str(directory / "model.safetensors"), weights)
        (directory / "config.json").write_text(json.dumps(raw))
        shutil.rmtree(codec)
        return directory

    return fused
