"""LoRA adapters with random values, as PEFT writes them, for tiny checkpoints."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx

LINEARS = re.compile(r"(?!.*norm).*(_proj|c_attn|fc_in|fc_out|lm_heads\.\d+|text_head|text_lm_head)")


def linears_of(weights: Mapping[str, mx.array]) -> dict[str, tuple[int, int]]:
    """Name -> (out, in) of the linear layers of a checkpoint's file, the heads that it stores among them."""
    found = {name.removesuffix(".weight"): weight.shape for name, weight in weights.items() if name.endswith(".weight")}
    return {name: shape for name, shape in found.items() if LINEARS.fullmatch(name)}


def write_adapter(
    directory: Path, layers: Mapping[str, tuple[int, int]], seed: int = 0, rank: int = 2, **settings: Any
) -> Path:
    """Write an adapter of such layers.

    Args:
        directory: the directory to create.
        layers: (out, in) of the layers by upstream's names.
        seed: the seed of the values.
        rank: the rank.
        settings: more of adapter_config.json.
    """
    directory.mkdir(parents=True)
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "bias": "none", "lora_dropout": 0.05, **settings}
    (directory / "adapter_config.json").write_text(json.dumps(config))
    mx.random.seed(seed)
    tensors = {}
    for name, (outputs, inputs) in layers.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = mx.random.normal((rank, inputs)) / inputs**0.5
        tensors[f"base_model.model.{name}.lora_B.weight"] = mx.random.normal((outputs, rank)) / 4
    mx.save_safetensors(str(directory / "adapter_model.safetensors"), tensors)
    return directory
