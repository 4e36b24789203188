"""Weights that C multiplies as they are stored stay so; what is computed is what float32 weights give."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from moss_tts.architectures import ARCHITECTURES, Architecture
from moss_tts.checkpoints.loading import load_architecture, quantizable_modules
from moss_tts.checkpoints.number_types import computed_dtype
from moss_tts.config import parse_config
from moss_tts.device import kernels, packed
from moss_tts.weights.layout import SUFFIXES, read_weights

GOLDEN = Path(__file__).parents[1] / "golden"
SETTINGS = {"group_size": 32, "bits": 8}

needs_door = pytest.mark.skipif(not packed.state().in_use, reason="no OpenBLAS or no C++ compiler here")


def half_precision(name: str, quantised: bool) -> tuple[dict[str, Any], dict[str, mx.array]]:
    """config.json and weights of a golden in bfloat16, perhaps with quantised layers."""
    raw = json.loads((GOLDEN / name / "config.json").read_text())
    kind = ARCHITECTURES[type(parse_config(raw))]
    may = quantizable_modules(kind.network_class(parse_config(raw)), kind.protected) if quantised else set()
    weights = {}
    for key, weight in read_weights(GOLDEN / name).items():
        path, half = key.removesuffix(".weight"), weight.astype(mx.bfloat16)
        if kind.layout.our_path(path) in may and weight.shape[-1] % 32 == 0:
            parts = mx.quantize(half, **SETTINGS)
            weights |= {f"{path}.{suffix}": part for suffix, part in zip(SUFFIXES, parts, strict=True)}
        else:
            weights[key] = half
    return raw | ({"quantization": SETTINGS} if quantised else {}), weights


def outputs(architecture: Architecture[Any, Any]) -> list[np.ndarray]:
    """Hidden states of a few rows, and logits."""
    network, config = architecture.network, architecture.config
    rows = mx.array(np.random.default_rng(0).integers(0, 20, (1, 3, 1 + config.n_vq)))
    more = () if architecture.name == "MOSS-TTS Delay" else (config.n_vq,)
    hidden = network(rows, network.backbone.make_cache([0]), *more)
    if more:
        logits = network.depth_logits(hidden[:, -1], rows[:, -1, :-1])
    else:
        logits = (
            network.text_logits(hidden),
            network.text_logits(hidden, mx.array([3, 5])),
            network.audio_logits(hidden),
        )
    made = [hidden, *logits]
    assert {array.dtype for array in made} == {mx.float32}
    return [np.nan_to_num(np.array(array), neginf=0.0) for array in made]


def types(architecture: Architecture[Any, Any]) -> dict[type, set[mx.Dtype]]:
    """Kind of layer -> types of its floating weights."""
    found: dict[type, set[mx.Dtype]] = {}
    for _, module in architecture.network.named_modules():
        for array in module.values():
            if isinstance(array, mx.array) and mx.issubdtype(array.dtype, mx.floating):
                found.setdefault(type(module), set()).add(array.dtype)
    return found


@needs_door
@pytest.mark.parametrize("quantised", [False, True])
@pytest.mark.parametrize("name", ["delay", "local", "local_v1_5", "nano", "realtime"])
def test_stored_types_stay_where_c_multiplies_them(name: str, quantised: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "LARGEST_TURNED", 0)
    raw, weights = half_precision(name, quantised)
    mx.eval(weights)
    kept = load_architecture(GOLDEN / name, parse_config(raw), weights)
    with monkeypatch.context() as closed:
        closed.setattr(packed, "_state", packed.PackedState())
        cast = load_architecture(GOLDEN / name, parse_config(raw), weights)
        assert set().union(*types(cast).values()) == {mx.float32}
    assert computed_dtype(kept.network) == mx.float32
    for kind, found in types(kept).items():
        stays = kind in (kernels.Linear, kernels.Embedding, nn.QuantizedLinear)
        assert mx.bfloat16 in found if stays else found == {mx.float32}, kind
    for made, right in zip(outputs(kept), outputs(cast), strict=True):
        np.testing.assert_allclose(made, right, atol=2e-5 * np.abs(right).max())
