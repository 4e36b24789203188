"""Attention and its softmax on CPUs, against MLX's own and against float64."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from moss_tts.device.kernels import attend, gated, gelu, swish


def attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, scale: float, seen: np.ndarray) -> np.ndarray:
    """In float64; `seen` is (B, 1, T, N) or broadcasts to it."""
    k, v = (np.repeat(part.astype(np.float64), q.shape[1] // part.shape[1], axis=1) for part in (k, v))
    scores = np.where(seen, q.astype(np.float64) @ k.swapaxes(-1, -2) * scale, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True) @ v


@pytest.mark.parametrize("size", [0.1, 1.0, 30.0])
@pytest.mark.parametrize("kind", [None, "causal", "mask"])
@pytest.mark.parametrize("shape", [(1, 4, 4, 64, 80), (2, 6, 2, 33, 70), (1, 4, 2, 3, 5), (2, 8, 2, 1, 400)])
def test_attention_is_that_of_float64(shape: tuple[int, ...], kind: str | None, size: float) -> None:
    batch, heads, groups, rows, slots = shape
    rng = np.random.default_rng(rows)
    q = (size * rng.standard_normal((batch, heads, rows, 16))).astype(np.float32)
    k, v = rng.standard_normal((2, batch, groups, slots, 16)).astype(np.float32)
    seen = np.ones((batch, 1, rows, slots), dtype=bool)
    if kind == "causal":
        seen = seen & (np.arange(slots) <= np.arange(slots - rows, slots)[:, None])
    elif kind == "mask":
        seen = rng.random(seen.shape) < 0.7
        seen[..., -1] = True
    mask = mx.array(seen) if kind == "mask" else kind
    made = attend(mx.array(q), mx.array(k), mx.array(v), scale=0.25, mask=mask)
    np.testing.assert_allclose(np.array(made), attention(q, k, v, 0.25, seen), atol=2e-5)


def test_what_is_hidden_or_far_below_leaves_no_trace() -> None:
    """Scores of thousands, beside keys that are hidden and values that are huge."""
    rows, slots = 4, 64
    q, k = mx.ones((1, 1, rows, 1)), mx.zeros((1, 1, slots, 1))
    k[..., 0, :], k[..., 1, :] = 5000.0, 9000.0
    v = mx.zeros((1, 1, slots, 1))
    v[..., 0, :], v[..., 1, :], v[..., 2, :] = 1.0, 1e9, 1e9
    made = attend(q, k, v, scale=1.0, mask=mx.arange(slots) != 1)
    np.testing.assert_array_equal(np.array(made), np.ones((1, 1, rows, 1), np.float32))


def test_silu_is_that_of_float64() -> None:
    x = np.concatenate([np.linspace(-40, 40, 4001), [-1e30, -0.0, 1e30]]).astype(np.float32)
    exact = x.astype(np.float64) / (1 + np.exp(-np.clip(x.astype(np.float64), -700, 700)))
    within = 3e-7 * np.maximum(1, np.abs(x))
    assert (np.abs(np.array(swish(mx.array(x))) - exact) <= within).all()
    assert (np.abs(np.array(gated(mx.array(x), mx.full(x.shape, 0.5))) - exact / 2) <= within).all()


def test_gelu_is_gpt_2s_approximation_in_float64() -> None:
    x = np.concatenate([np.linspace(-40, 40, 4001), [-1e12, -0.0, 1e12]]).astype(np.float32)
    wide = x.astype(np.float64)
    exact = wide / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (wide + 0.044715 * wide**3)))
    assert (np.abs(np.array(gelu(mx.array(x))) - exact) <= 5e-7 * np.maximum(1, np.abs(x))).all()
