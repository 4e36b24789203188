"""A context in 8 or 4 bit: nearly the same logits, less memory, and every law of batches and streams."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from moss_tts import load
from moss_tts.checkpoints.demo import write_demo_checkpoint
from moss_tts.checkpoints.loading import load_config
from moss_tts.config import MossConfig
from moss_tts.context.quantised_cache import group_size_for, row_bytes
from moss_tts.errors import RequestError
from moss_tts.result import GenerationResult

NAMES = ["delay", "local", "local_v1_5"]
TEXTS = ["Hello there.", "A longer sentence, so that prompts differ in length."]
REFERENCE = np.sin(np.arange(24_000) / 20).astype(np.float32) / 4


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("demos")
    return {name: write_demo_checkpoint(root / name, name) for name in NAMES}


def samples(results: list[GenerationResult]) -> list[np.ndarray]:
    return [np.array(result.audio) for result in results]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("bits", "most"), [(8, 0.02), (4, 0.3)])
def test_hidden_states_are_close(demos: dict[str, Path], name: str, bits: int, most: float) -> None:
    """In one pass and row by row, alone and beside a shorter prompt."""
    exact, packed = (load(demos[name], kv_bits=chosen).architecture.network.backbone for chosen in (None, bits))
    x = mx.random.normal((2, 12, exact.norm.weight.shape[0]), key=mx.random.key(0))
    for padding, row in (([0], 0), ([0, 5], 0), ([0, 5], 1)):
        batch = x[: len(padding)]
        wanted = exact(batch, exact.make_cache(padding))
        cache = packed.make_cache(padding)
        made = [packed(batch[:, :8], cache)] + [packed(batch[:, n : n + 1], cache) for n in range(8, 12)]
        seen = slice(padding[row], None)
        error = mx.abs(mx.concatenate(made, axis=1) - wanted)[row, seen].max() / mx.abs(wanted[row, seen]).max()
        assert 0 < error.item() < most


@pytest.mark.parametrize("bits", [None, 8])
@pytest.mark.parametrize("padding", [[0], [0, 5]])
def test_the_last_row_alone_is_as_among_all(demos: dict[str, Path], bits: int | None, padding: list[int]) -> None:
    """In two passes and by a single row behind them, for which the caches have to hold the same."""
    backbone = load(demos["delay"], kv_bits=bits).architecture.network.backbone
    x = mx.random.normal((len(padding), 13, backbone.norm.weight.shape[0]), key=mx.random.key(0))
    all_rows, last_rows = backbone.make_cache(padding), backbone.make_cache(padding)
    for stretch in (x[:, :7], x[:, 7:12], x[:, 12:]):
        wanted = backbone(stretch, all_rows)[:, -1:]
        last = backbone(stretch, last_rows, last_only=True)
        assert last.shape == wanted.shape
        assert mx.abs(last - wanted).max().item() < 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_is_its_requests(demos: dict[str, Path], name: str) -> None:
    model = load(demos[name], kv_bits=8)
    requests = [{"text": text, "seed": 3, "max_tokens": 6 + 3 * n} for n, text in enumerate(TEXTS)]
    results = dict(model.generate_batch(requests))
    for index, request in enumerate(requests):
        (alone,) = samples(list(model.generate(**request)))
        np.testing.assert_allclose(np.array(results[index].audio), alone, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bits", [None, 8])
def test_a_request_in_the_place_of_another_is_as_if_alone(demos: dict[str, Path], name: str, bits: int | None) -> None:
    """More requests than fit at a time: who ends leaves its place to the last one, and who joins comes behind."""
    model = load(demos[name], kv_bits=bits)
    endless = {"text_temperature": 0.0, "runaway_guard": False}
    requests = [{"text": TEXTS[n % 2], "seed": n, "max_tokens": 3 + 5 * n % 12, **endless} for n in range(15)]
    results = dict(model.generate_batch(requests, max_batch=10))
    for index, request in enumerate(requests):
        (alone,) = samples(list(model.generate(**request)))
        np.testing.assert_allclose(np.array(results[index].audio), alone, atol=1e-4)


def test_a_voice_that_speaks_again_says_the_same(demos: dict[str, Path]) -> None:
    model = load(demos["local"], kv_bits=4)
    first, again = (
        samples(list(model.generate(TEXTS[0], reference=REFERENCE, seed=1, max_tokens=8)))[0] for _ in range(2)
    )
    assert len(model.architecture.prefixes) == 1
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("bits", [8, 4])
def test_memory_is_what_was_foretold(demos: dict[str, Path], bits: int) -> None:
    backbone = load(demos["local"], kv_bits=bits).architecture.network.backbone
    cache, rows = backbone.make_cache([0]), 256
    backbone(mx.zeros((1, rows, backbone.norm.weight.shape[0])), cache)
    config: MossConfig = load_config(demos["local"])
    sizes = config.backbone
    held = sum(part.nbytes for layer in cache for part in layer.parts)
    per_head = row_bytes(sizes.head_dim, mx.float32, bits)
    assert held == 2 * rows * sizes.num_hidden_layers * sizes.num_key_value_heads * per_head
    assert held < sum(layer.nbytes for layer in _filled(demos["local"], rows)) / (2 if bits == 8 else 3)


def _filled(directory: Path, rows: int) -> list:
    backbone = load(directory).architecture.network.backbone
    cache = backbone.make_cache([0])
    backbone(mx.zeros((1, rows, backbone.norm.weight.shape[0])), cache)
    return cache


def test_what_cannot_be_packed_is_refused(demos: dict[str, Path]) -> None:
    with pytest.raises(RequestError, match="kv_bits must be 8 or 4, got 3"):
        load(demos["local"], kv_bits=3)
    assert (group_size_for(128), group_size_for(96)) == (64, 32)
    with pytest.raises(RequestError, match="multiple of 32 values; this model's have 24"):
        group_size_for(24)
