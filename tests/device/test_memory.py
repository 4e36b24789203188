"""Memory: no weight twice while loading, nothing kept for reuse after a request, the encoder only while it encodes.

Blocks of the C library come from one heap where the process is ours, and go back when told.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from moss_tts import load
from moss_tts.architectures import ARCHITECTURES
from moss_tts.checkpoints import footprint
from moss_tts.checkpoints.convert import convert
from moss_tts.checkpoints.demo import model_config, write_demo_checkpoint
from moss_tts.checkpoints.footprint import CodecBytes, memory_facts, model_footprint
from moss_tts.checkpoints.loading import CheckpointSource, load_architecture, load_config
from moss_tts.checkpoints.plan import plan
from moss_tts.config import parse_config
from moss_tts.device.memory import REQUEST_CACHE, cache_limit
from moss_tts.errors import CheckpointError, RequestError
from moss_tts.weights.layout import read_weights
from moss_tts.weights.quantisation import recipe_of

TEXT = "Hello there."
# Of the weights: what the issue of loading allows on top of them.
MOST_ON_TOP = 0.1


@pytest.fixture
def active() -> Iterator[Any]:
    """Bytes that have come into use since the test began, and the most there were."""
    gc.collect()
    mx.synchronize()
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    return lambda: (mx.get_active_memory() - before, mx.get_peak_memory() - before)


@pytest.fixture(scope="module")
def many_layers(tmp_path_factory) -> Path:
    """A Delay model of forty layers, none of which is more than a thirtieth of it."""
    directory = tmp_path_factory.mktemp("many")
    raw = model_config("delay")
    raw["language_config"] |= {"hidden_size": 128, "num_hidden_layers": 40, "intermediate_size": 192}
    config = parse_config(raw)
    kind = ARCHITECTURES[type(config)]
    shapes = kind.layout.upstream_shapes(kind.network_class(config), config.n_vq)
    weights = {name: mx.random.normal(shape) for name, shape in shapes.items()}
    mx.eval(weights)
    mx.save_safetensors(str(directory / "model.safetensors"), weights)
    (directory / "config.json").write_text(json.dumps(raw))
    return directory


def copy_of(source: Path, target: Path, bits: int | None, dtype: mx.Dtype) -> Path:
    recipe = None if bits is None else recipe_of(bits=bits)
    planned = plan(source, load_config(source), recipe, dtype)
    convert(CheckpointSource(str(source), source, from_hub=False), target, planned)
    return target


@pytest.mark.parametrize("computed", ["float32", "bfloat16"])
@pytest.mark.parametrize("stored", [mx.float32, mx.bfloat16], ids=["float32 file", "bfloat16 file"])
@pytest.mark.parametrize("bits", [None, 4], ids=["whole", "4 bit"])
def test_loading_takes_little_more_than_the_weights(tmp_path, many_layers, active, bits, stored, computed):
    directory = copy_of(many_layers, tmp_path / "copy", bits, stored)
    config = load_config(directory)
    mx.clear_cache()
    mx.reset_peak_memory()
    architecture = load_architecture(directory, config, read_weights(directory), computed)
    now, most = active()
    parameters = sum(array.nbytes for _, array in tree_flatten(architecture.network.parameters()))
    assert parameters == model_footprint(directory, config, computed)[1]
    assert now <= 1.02 * parameters
    assert most <= (1 + MOST_ON_TOP) * parameters


def test_a_plan_foretells_what_a_copy_takes(tmp_path, many_layers):
    config = load_config(many_layers)
    sizes = footprint.smaller(many_layers, config, mx.bfloat16)
    assert sorted(sizes.values(), reverse=True) == list(sizes.values())
    copy = copy_of(many_layers, tmp_path / "copy", 4, mx.bfloat16)
    assert model_footprint(copy, load_config(copy), "bfloat16")[1] == sizes["-q --q-bits 4"]
    assert footprint.smaller(copy, load_config(copy), mx.bfloat16) == {}


def test_the_most_precise_way_that_fits_is_named(many_layers):
    config = load_config(many_layers)
    dtype, nbytes = model_footprint(many_layers, config, "bfloat16")
    codec = CodecBytes({"float32": 400_000, "bfloat16": 200_000, "8bit": 100_000}, encoder=10)
    facts = memory_facts(many_layers, config, dtype, nbytes, codec)
    assert facts.too_much_for(facts.needed) is None
    assert facts.codec_smaller == {"bfloat16": 200_000, "8bit": 100_000}
    ways = [(way, codec) for way in (None, *facts.smaller) for codec in (None, "bfloat16", "8bit")]
    for most in (facts.needed_with(*way) for way in ways[1:]):
        sentence = facts.too_much_for(most)
        way, codec_dtype = next(way for way in ways if facts.needed_with(*way) <= most)
        assert ("convert" in sentence, "--codec-dtype" in sentence) == (way is not None, codec_dtype is not None)
        assert (way or "") in sentence
        assert (codec_dtype or "") in sentence
    assert "it would need" in facts.too_much_for(1000)


def test_max_memory_refuses_before_anything_is_loaded(tmp_path, monkeypatch):
    demo = write_demo_checkpoint(tmp_path / "demo")
    limits: list[int] = []
    monkeypatch.setattr(mx, "set_memory_limit", limits.append)
    with pytest.raises(CheckpointError, match=r"needs \d\.\d+ MB of memory, but only 0\.01 MB are available"):
        load(demo, max_memory=10_000)
    with pytest.raises(RequestError, match="above 0"):
        load(demo, max_memory=0)
    assert limits == []
    load(demo, max_memory=10**9)
    assert limits == [10**9]


# --------------------------------------------------------------------------------------------------- requests


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Any:
    return load(write_demo_checkpoint(tmp_path_factory.mktemp("demo") / "delay"))


def limit() -> int:
    now = mx.set_cache_limit(1)
    mx.set_cache_limit(now)
    return now


def test_a_request_limits_what_is_kept_and_leaves_nothing(model):
    # As on a GPU: mlx keeps whatever it has used.
    before = mx.set_cache_limit(2**40)
    during = [limit() for _ in model.generate(TEXT, seed=1, max_tokens=12, stream=True)]
    assert len(during) > 1
    assert max(during) == REQUEST_CACHE
    assert mx.set_cache_limit(before) == 2**40
    assert mx.get_cache_memory() == 0


def test_limits_end_in_any_order():
    before = limit()
    first, second = cache_limit(200), cache_limit(100)
    first.__enter__()
    second.__enter__()
    assert limit() == 100
    first.__exit__(None, None, None)
    assert limit() == 100
    second.__exit__(None, None, None)
    assert limit() == before


@pytest.mark.parametrize("way", ["whole", "long form", "batch"])
def test_the_encoder_is_freed_before_the_first_frame(model, way):
    reference = np.sin(np.arange(24_000) / 30).astype(np.float32)
    codec = model.codec()
    codec.release_encoder()
    options: dict[str, Any] = {"ref_audio": reference, "seed": 1, "max_tokens": 8, "stream": True}
    if way == "batch":
        first = model.generate_batch([{"text": TEXT, **options}] * 2)
    else:
        first = model.generate(TEXT, long_form=way == "long form", **options)
    next(first)
    assert not codec.encoder_loaded
    first.close()


def test_an_encoder_fused_with_the_model_can_be_freed(tmp_path, active):
    demo = write_demo_checkpoint(tmp_path / "demo")
    codec = read_weights(demo / "audio_tokenizer")
    weights = read_weights(demo) | {f"codec_model.{name}": weight for name, weight in codec.items()}
    mx.eval(weights)
    mx.save_safetensors(str(demo / "model.safetensors"), weights)
    raw = json.loads((demo / "config.json").read_text())
    raw["codec_config"] = json.loads((demo / "audio_tokenizer" / "config.json").read_text())
    (demo / "config.json").write_text(json.dumps(raw))
    del weights, codec
    fused = load(demo).codec()
    gc.collect()
    before, _ = active()
    mx.eval(fused.encoder.parameters())
    assert active()[0] > before
    fused.release_encoder()
    gc.collect()
    assert active()[0] == before


# --------------------------------------------------------------------------------------------- the C library

# Whether 10 MB, asked for by a thread, come from the heap, and whether they leave once freed and trimmed.
SCRIPT = """
import ctypes, threading
from moss_tts.device import memory

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes, libc.memset.argtypes = [ctypes.c_void_p], [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
resident = lambda: int(open("/proc/self/statm").read().split()[1]) * 4096
blocks = []

def ask():
    for _ in range(2):
        blocks.append(libc.malloc(10 << 20))
        libc.memset(blocks[-1], 1, 10 << 20)

memory.use_one_heap()
thread = threading.Thread(target=ask)
thread.start()
thread.join()
line = next(line for line in open("/proc/self/maps") if "[heap]" in line)
start, end = (int(address, 16) for address in line.split()[0].split("-"))
libc.free(blocks[0])
before = resident()
memory.trim()
print(start <= blocks[0] < end, before - resident() > 9 << 20)
"""

glibc_only = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")


def said(**more: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    environment.pop("GLIBC_TUNABLES", None)
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment | more, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@glibc_only
def test_a_process_of_ours_has_one_heap_and_gives_it_back() -> None:
    assert said() == "True True"


@glibc_only
def test_what_the_environment_says_of_malloc_holds() -> None:
    assert said(MALLOC_ARENA_MAX="4").startswith("False")
