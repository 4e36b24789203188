"""PEFT's files of an adapter: what is read, and what is refused in a sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from math import sqrt
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from moss_tts.adapters.peft import read_adapter
from moss_tts.errors import CheckpointError
from support.adapters import write_adapter

LAYER = "language_model.layers.0.self_attn.q_proj"
OTHER = "language_model.layers.10.self_attn.q_proj"
A, B = f"base_model.model.{LAYER}.lora_A.weight", f"base_model.model.{LAYER}.lora_B.weight"


@pytest.fixture
def adapter(tmp_path: Path) -> Callable[..., Path]:
    return lambda **settings: write_adapter(tmp_path / "ada", {LAYER: (6, 4), OTHER: (6, 4)}, **settings)


def rewrite(directory: Path, change: Callable[[dict[str, mx.array]], object]) -> None:
    path = str(directory / "adapter_model.safetensors")
    tensors = dict(mx.load(path))
    mx.eval(tensors)
    change(tensors)
    mx.save_safetensors(path, tensors)


@pytest.mark.parametrize(
    ("settings", "scales"),
    [
        ({}, (2, 2)),
        ({"use_rslora": None, "init_lora_weights": True, "target_parameters": None, "modules_to_save": []}, (2, 2)),
        ({"use_rslora": True}, (4 / sqrt(2), 4 / sqrt(2))),
        ({"alpha_pattern": {"q_proj": 8}}, (4, 4)),
        ({"alpha_pattern": {"layers.0.self_attn.q_proj": 8}}, (4, 2)),
        ({"alpha_pattern": {r"^language_model\.layers\.0\.self_attn\.q_proj": 8, "q_proj": 1}}, (4, 0.5)),
        ({"alpha_pattern": {"^q_proj": 8}}, (2, 2)),
        ({"alpha_pattern": {r"layers\.[0-9]\..*q_proj": 8}}, (4, 2)),
        ({"alpha_pattern": {r"layers\.\d+\.self_attn\.q_proj": 8}}, (4, 4)),
        ({"alpha_pattern": {"proj": 8}}, (2, 2)),
        ({"alpha_pattern": {r"layers\.(0|1)\.(self_attn|mlp)\.(q|v)_proj": 8}}, (4, 2)),
        ({"r": 64, "rank_pattern": {"q_proj": 2}}, (2, 2)),
    ],
)
def test_scales(adapter: Callable[..., Path], settings: dict[str, Any], scales: tuple[float, float]) -> None:
    pairs = read_adapter("ada", adapter(**settings)).pairs
    assert (pairs[LAYER].scale, pairs[OTHER].scale) == pytest.approx(scales)


def test_other_forms_of_keys(adapter: Callable[..., Path]) -> None:
    directory = adapter()
    expected = read_adapter("ada", directory).pairs
    for shorten in (
        lambda key: key.removeprefix("base_model.model."),
        lambda key: key.replace(".weight", ".default.weight"),
    ):
        rewrite(
            directory,
            lambda tensors, shorten=shorten: [tensors.update({shorten(k): tensors.pop(k)}) for k in list(tensors)],
        )
        pairs = read_adapter("ada", directory).pairs
        assert pairs.keys() == expected.keys()
        assert mx.array_equal(pairs[LAYER].down, expected[LAYER].down)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"peft_type": "LOHA"}, "peft_type 'LOHA'; only LORA is supported"),
        ({"use_dora": True}, r"'use_dora', which means .* \(DoRA\); that is not supported"),
        ({"bias": "lora_only"}, "trained biases are not supported"),
        ({"lora_bias": True}, "'lora_bias', which means a bias"),
        ({"modules_to_save": ["lm_heads"]}, "'modules_to_save', which means modules that were trained whole"),
        ({"trainable_token_indices": [1]}, "trained embeddings"),
        ({"layer_replication": [[0, 2]]}, "layers that occur twice"),
        ({"use_something_new": True}, "'use_something_new', which means something that is not known here"),
        ({"target_parameters": ["experts"]}, "parameters that are no linear layers"),
        ({"alora_invocation_tokens": [1]}, "aLoRA"),
        ({"ensure_weight_tying": True}, "one adapter for a head and its embedding"),
        ({"init_lora_weights": "pissa"}, "'pissa', which changes the weights of the base"),
        ({"rank_pattern": {"q_proj": 3}}, "the rank 3"),
        ({"rank_pattern": [1]}, "rank_pattern must be an object"),
        ({"alpha_pattern": {r"((\w|.)+)+[0-4]": 3}}, "alpha_pattern has .* which takes too long"),
        ({"alpha_pattern": {"x" * 301: 3}}, "more than 300 characters"),
        ({"alpha_pattern": {"[": 3}}, "unterminated character set"),
        ({"lora_alpha": "8"}, "lora_alpha must be 0, or a number of .* to .* of either sign, got '8'"),
        ({"r": 0}, r"the rank must be in 1..4096, got 0"),
        ({"use_rslora": 1}, "use_rslora must be true or false"),
    ],
)
def test_settings_that_are_refused(
    adapter: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr("moss_tts.adapters.peft.PATTERN_SECONDS", 0.02)
    with pytest.raises(CheckpointError, match=message):
        read_adapter("ada", adapter(**settings))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop(B), f"lacks lora_B of {LAYER}"),
        (lambda tensors: tensors.update({A: mx.full((2, 4), mx.nan)}), f"{A} holds values that are no finite numbers"),
        (lambda tensors: tensors.update({A: mx.full((2, 4), mx.inf)}), "no finite numbers"),
        (
            lambda tensors: tensors.update({B: mx.full((6, 2), 3e38)}),
            rf"lora_B of {LAYER} is too large for its scale, 2",
        ),
        (lambda tensors: tensors.update({A: mx.zeros((2, 4), mx.int32)}), f"{A} holds mlx.core.int32; only float32,"),
        (lambda tensors: tensors.update({A: mx.zeros((3, 4))}), r"the shapes \(3, 4\) and \(6, 2\)"),
        (lambda tensors: tensors.update({A: mx.zeros(2)}), "the shapes"),
        (lambda tensors: tensors.update({"base_model.model.emb.lora_embedding_A": mx.zeros(2)}), "lora_embedding_A"),
        (lambda tensors: tensors.update({f"{LAYER}.lora_A.weight": mx.zeros((2, 4))}), f"lora_A of {LAYER} twice"),
    ],
)
def test_tensors_that_are_refused(adapter: Callable[..., Path], change: Callable[..., Any], message: str) -> None:
    directory = adapter()
    rewrite(directory, change)
    with pytest.raises(CheckpointError, match=message):
        read_adapter("ada", directory)


def test_files_that_are_missing_or_broken(adapter: Callable[..., Path]) -> None:
    directory = adapter()
    weights, config = directory / "adapter_model.safetensors", directory / "adapter_config.json"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-8])
    with pytest.raises(CheckpointError, match="incomplete copy"):
        read_adapter("ada", directory)
    weights.rename(directory / "adapter_model.bin")
    with pytest.raises(CheckpointError, match=r"adapter_model\.bin, a pickle, which is not read"):
        read_adapter("ada", directory)
    (directory / "adapter_model.bin").unlink()
    with pytest.raises(CheckpointError, match=r"no adapter_model\.safetensors"):
        read_adapter("ada", directory)
    weights.write_bytes(whole)
    config.write_text(json.dumps({"peft_type": "LORA"})[:-1])
    with pytest.raises(CheckpointError, match="cannot be read as JSON"):
        read_adapter("ada", directory)
    config.unlink()
    with pytest.raises(CheckpointError, match=r"is no adapter: it has no adapter_config\.json"):
        read_adapter("ada", directory)
