"""GPT-2 blocks in C compute what MLX computes, and a row is the same to the last bit beside others."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx.utils import tree_map_with_path

from moss_tts.backbone import GPT2Decoder
from moss_tts.config import GPT2Config
from moss_tts.context.batch_cache import BatchCache
from moss_tts.device import compiled, compiled_decoder
from moss_tts.evidence.goldens import load
from moss_tts.local_v1_5_model import TiedHeadsModel
from moss_tts.rows import step_uniforms
from moss_tts.sampling import ChannelSampling, RowSampling, penalise, sample

GOLDEN = Path(__file__).parents[1] / "golden"
pytestmark = pytest.mark.skipif(compiled.library() is None, reason="no OpenBLAS or no C compiler here")

GREEDY, SAMPLED = ChannelSampling(0.0, 1.0, 50), ChannelSampling(1.1, 0.9, 7, 1.3)
CHOICES = mx.array([9, 7])


def decoder(layers: int, activation: str = "gelu_new", width: int = 96, hidden: int = 200) -> GPT2Decoder:
    """A decoder with random weights, biases and gains."""
    config = GPT2Config(width, layers, 3, hidden, 0, 0, 1e-5, activation, True, 10000.0)
    return randomised(GPT2Decoder(config))


def randomised(network: Any, scale: float = 0.15) -> Any:
    rng = np.random.default_rng(0)

    def draw(name: str, array: mx.array) -> mx.array:
        gain = name.endswith(("ln_1.weight", "ln_2.weight", "norm.weight"))
        return mx.array(rng.standard_normal(array.shape, np.float32) * scale + gain)

    network.update(tree_map_with_path(draw, network.parameters()))
    return network


def hidden_states(network: GPT2Decoder, in_c: bool, padding: list[int], x: mx.array, steps: int = 4) -> np.ndarray:
    """The states (B, steps, D) of rows after a prompt x (B, T, D), each step on its own."""
    network.settle(in_c)
    caches = [BatchCache(padding) for _ in network.layers]
    mx.eval(network(x[:, :-steps], caches))
    return np.concatenate([np.array(network(x[:, at : at + 1], caches)) for at in range(-steps, -1)], axis=1)


@pytest.mark.parametrize("activation", ["silu", "gelu_new"])
@pytest.mark.parametrize("layers", [1, 3])
def test_rows_are_those_of_mlx(layers: int, activation: str) -> None:
    network = decoder(layers, activation)
    x = mx.random.normal((3, 14, 96), key=mx.random.key(layers))
    # Large enough that the sigmoid's power is at its bounds.
    for scale in (1, 300):
        made, wanted = (hidden_states(network, in_c, [0, 4, 1], scale * x) for in_c in (True, False))
        np.testing.assert_allclose(made, wanted, atol=1e-4)


def test_a_row_is_the_same_to_the_last_bit_beside_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its neighbours, the padding before it, and the number of cores."""
    network = decoder(2)
    x = mx.random.normal((7, 40, 96), key=mx.random.key(1))
    alone = np.concatenate([hidden_states(network, True, [0], x[row : row + 1]) for row in range(7)])
    for cores in (1, 2, 3):
        monkeypatch.setattr("moss_tts.device.compiled_decoder.cores_in_use", lambda cores=cores: cores)
        for rows in (2, 3, 5, 7):
            np.testing.assert_array_equal(hidden_states(network, True, [0] * rows, x[:rows]), alone[:rows])
        np.testing.assert_array_equal(hidden_states(network, True, [0], x[:1]), alone[:1])


def test_buffers_that_are_shared_are_not_written() -> None:
    """What others hold of a context stays as it is when a row joins it."""
    network = decoder(1)
    x = mx.random.normal((1, 9, 96), key=mx.random.key(2))
    network.settle(True)
    cache = BatchCache([0])
    mx.eval(network(x[:, :8], [cache]))
    held = cache._context(0)
    before = [np.array(part) for part in held]
    for _ in range(300):  # past the room for rows
        network(x[:, 8:], [cache])
    for part, old in zip(held, before, strict=True):
        np.testing.assert_array_equal(np.array(part), old)
    for part, old in zip(cache._context(0), before, strict=True):
        np.testing.assert_array_equal(np.array(part)[:, :, :8], old)


def test_other_weights_are_left_to_mlx() -> None:
    network = decoder(1)
    assert network.settle(True) is not None
    network.layers[0].attn.c_attn.weight = network.layers[0].attn.c_attn.weight.astype(mx.bfloat16)
    assert network.settle(True) is None


# ------------------------------------------------------------------------------------------------- frames


@pytest.fixture(scope="module", params=["nano", "local_v1_5"])
def model(request: pytest.FixtureRequest) -> TiedHeadsModel:
    """A small network with the golden's weights."""
    network, _ = load(GOLDEN / request.param)
    assert isinstance(network, TiedHeadsModel)
    return network


def frames(model: TiedHeadsModel, requests: slice, n_vq: int, in_c: bool) -> np.ndarray:
    """Rows of requests with settings of all kinds, some of whose codes were there before."""
    channels = [GREEDY, SAMPLED, ChannelSampling(0.7, 1.0, 0), ChannelSampling(0.0, 1.0, 50, 1.5), SAMPLED] * 4
    count, width = len(channels), model.text_embedding.weight.shape[1]
    hidden = mx.random.normal((count, width), key=mx.random.key(3))
    codebooks = model._n_vq
    seen = mx.random.uniform(shape=(count, codebooks, model._codebook), key=mx.random.key(4)) < 0.3
    uniforms = step_uniforms(mx.arange(count).astype(mx.uint32), mx.zeros(count), 1 + codebooks)
    model.settle(CHOICES)
    assert model._depth_in_c is not None
    if not in_c:
        model._depth_in_c = None
    rows = RowSampling.of(channels[requests], keeps_ties=model.keeps_ties)
    made = model.sample_next_channels(
        hidden[requests], uniforms[requests], rows, rows, n_vq=n_vq, text_choices=CHOICES, seen=seen[requests]
    )
    return np.array(made)


def test_frames_are_those_of_mlx(model: TiedHeadsModel) -> None:
    for n_vq in (model._n_vq, model._n_vq - 1, 1):
        made, wanted = (frames(model, slice(0, 20), n_vq, in_c) for in_c in (True, False))
        np.testing.assert_array_equal(made, wanted)
        assert made.shape == (20, 1 + model._n_vq)
        assert made.dtype == np.int32
        assert set(made[:, 0]) == {9, 7}


def test_a_frame_does_not_depend_on_its_neighbours(model: TiedHeadsModel) -> None:
    together = frames(model, slice(0, 20), model._n_vq, in_c=True)
    for row in range(20):
        alone = frames(model, slice(row, row + 1), model._n_vq, in_c=True)
        np.testing.assert_array_equal(alone[0], together[row])


# -------------------------------------------------------------------------------------------------- draws

DRAWS = 40


def drawn(
    channel: ChannelSampling, ties: bool, logits: np.ndarray, seen: np.ndarray, uniforms: np.ndarray
) -> list[int]:
    """One token for each uniform number, by C."""
    library, order = compiled.library(), np.empty(len(logits), np.int32)
    assert library is not None
    setting = compiled_decoder.settings(RowSampling.of([channel]))

    def draw(uniform: float) -> int:
        scratch = logits.copy()
        pointers = [ctypes.c_void_p(array.ctypes.data) for array in (scratch, seen)]
        given = (len(logits), *pointers, ctypes.c_float(uniform), ctypes.c_void_p(order.ctypes.data))
        return int(library.moss_tts_draw(ctypes.c_void_p(setting.ctypes.data), ties, *given))

    return [draw(float(uniform)) for uniform in uniforms]


@settings(max_examples=100, deadline=None)
@given(
    st.builds(
        ChannelSampling,
        temperature=st.sampled_from([0.0, 0.5, 1.7]),
        top_p=st.sampled_from([0.0, 0.05, 0.37, 0.83, 1.0]),
        top_k=st.integers(0, 40),
        repetition_penalty=st.sampled_from([1.0, 1.9]),
    ),
    st.sampled_from([1, 2, 9, 30, 300]),
    st.booleans(),
    st.booleans(),
    st.integers(0, 999),
)
def test_draws_are_those_of_mlx(channel: ChannelSampling, size: int, ties: bool, rounded: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=size).astype(np.float32) * 3
    logits = np.round(logits * 4) / 4 if rounded else logits
    seen, uniforms = rng.random(size) < 0.3, rng.random(DRAWS).astype(np.float32)
    made = drawn(channel, ties, logits, seen, uniforms)
    asked = mx.broadcast_to(mx.array(logits), (1, DRAWS, size)), mx.array(uniforms[None])
    rows = RowSampling.of([channel], keeps_ties=ties)
    wanted = np.array(sample(*asked, rows, mx.array(seen)[None, None]))[0]
    # Equal scores may be ranked in another order, and a draw at the edge of a candidate's share may be the next one.
    scores = np.array(penalise(mx.array(logits), mx.array(seen), mx.array(channel.repetition_penalty)))
    assert (scores[made] != scores[wanted]).mean() <= 0.03
    if channel.temperature == 0:
        assert made == list(wanted)
