"""The codec's stages in C give the same steps to the last bit, however streams are cut and whatever threads help."""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_map

from moss_tts.codec import compiled_network
from moss_tts.codec.compiled_network import CompiledStage
from moss_tts.codec.stages import TransformerConfig
from moss_tts.codec.transformer import TransformerStage
from moss_tts.device import compiled

CONFIG = TransformerConfig(
    input_dimension=48,
    output_dimension=32,
    d_model=64,
    num_heads=4,
    num_layers=2,
    dim_feedforward=256,
    max_period=10000,
    window=20,
)
STEPS, STREAMS = 90, 2


@pytest.mark.skipif(compiled.library() is None, reason="no OpenBLAS or no C compiler here")
def test_cuts_and_threads_change_no_bit(monkeypatch: pytest.MonkeyPatch):
    stage = TransformerStage(CONFIG, mx.float32, 2)
    mx.random.seed(0)
    stage.update(tree_map(lambda weight: 0.2 * mx.random.normal(weight.shape), stage.parameters()))
    in_c = stage.in_c(compiled.library())
    x = np.random.default_rng(0).standard_normal((STREAMS, STEPS, 48), np.float32)
    whole = after(in_c, x, [STEPS])
    np.testing.assert_allclose(np.array(stage(mx.array(x), stage.empty_state(STREAMS), None)[0]), whole, atol=1e-4)
    for cores in (1, 2, 3):
        monkeypatch.setattr(compiled_network, "cores_in_use", lambda cores=cores: cores)
        for cuts in ([STEPS], [1] * STEPS, [50, 7, 33]):
            np.testing.assert_array_equal(after(in_c, x, cuts), whole)


def after(stage: CompiledStage, x: np.ndarray, cuts: Sequence[int]) -> np.ndarray:
    """The steps of x (B, T, D in) after the stage, (B, T, D out), in pieces of such lengths."""
    state, start, made = stage.empty_state(len(x)), 0, []
    for count in cuts:
        packed = np.ascontiguousarray(x[:, start : start + count].reshape(-1, x.shape[2]))
        steps, state = stage(packed, state, [count] * len(x))
        made.append(steps.reshape(len(x), count, -1))
        start += count
    return np.concatenate(made, axis=1)
