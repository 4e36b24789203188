"""GELU and attention in C are those of MLX, on any number of cores."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from moss_tts.device import compiled, many_rows
from moss_tts.device.many_rows import attend_to_all, gelu_of_many

pytestmark = pytest.mark.skipif(compiled.library() is None, reason="no OpenBLAS or no C compiler here")


def drawn(*shape: int, seed: int = 0) -> mx.array:
    return mx.array(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


@pytest.fixture(params=[1, 2, 3], autouse=True)
def cores(request, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many_rows, "cores_in_use", lambda: request.param)


@pytest.mark.parametrize("shape", [(2, 1, 3, 4), (1, 15, 2, 6), (2, 16, 1, 64), (2, 33, 5, 128)])
def test_attention_is_that_of_numpy(shape: tuple[int, ...]):
    q, k, v = (np.array(drawn(*shape, seed=seed)).astype(np.float64).swapaxes(1, 2) for seed in range(3))
    scores = np.exp(q @ k.swapaxes(2, 3) / shape[-1] ** 0.5)
    expected = (scores / scores.sum(axis=-1, keepdims=True) @ v).swapaxes(1, 2).reshape(*shape[:2], -1)
    made = attend_to_all(*(drawn(*shape, seed=seed) for seed in range(3)))
    np.testing.assert_allclose(np.array(made), expected, atol=1e-5)


def test_gelu_is_gpt2s():
    x = np.array(drawn(3, 701)).astype(np.float64) * 4
    expected = x / 2 * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)))
    np.testing.assert_allclose(np.array(gelu_of_many(mx.array(x.astype(np.float32)))), expected, atol=1e-5)


def test_without_c_mlx_computes_the_same(monkeypatch: pytest.MonkeyPatch):
    given = [drawn(2, 20, 3, 8, seed=seed) for seed in range(3)]
    attention, gelu = np.array(attend_to_all(*given)), np.array(gelu_of_many(drawn(5, 9)))
    monkeypatch.setattr(compiled, "library", lambda: None)
    np.testing.assert_allclose(np.array(attend_to_all(*given)), attention, atol=1e-5)
    np.testing.assert_allclose(np.array(gelu_of_many(drawn(5, 9))), gelu, atol=1e-5)
