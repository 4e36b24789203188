"""Adapters that the real PEFT wrote, held against what PEFT computes: skipped without it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from moss_tts.adapters.low_rank import Adaptable
from moss_tts.checkpoints.adapters import put_adapters, read_adapters
from moss_tts.checkpoints.loading import load_architecture, load_config
from moss_tts.errors import CheckpointError
from moss_tts.weights.layout import read_weights

peft = pytest.importorskip("peft", reason="needs PEFT and PyTorch: pip install peft==0.21.2")
torch = pytest.importorskip("torch", reason="needs PEFT and PyTorch: pip install peft==0.21.2")
SIZES: dict[str, Any] = {"r": 4, "lora_alpha": 8}
SOME = ["q_proj", "v_proj", "down_proj"]
EMBEDDINGS = re.compile(r".*(wte|embed_tokens|emb_ext|embedding_list|audio_embeddings)\b.*")
TIED = (("text_lm_head", "transformer.embed_tokens"), ("audio_lm_heads.", "audio_embeddings."))
HEADS = ["text_lm_head", *(f"audio_lm_heads.{index}" for index in range(4)), "c_attn", "c_proj", "fc_in", "fc_out"]


class Config(dict[str, Any]):
    """What PEFT asks of a model's config."""

    def to_dict(self) -> dict[str, Any]:
        return dict(self)


def twin(weights: dict[str, mx.array]) -> Any:
    """The linear layers and embeddings of a checkpoint as PyTorch modules with upstream's names."""
    matrices = {name.removesuffix(".weight"): weight for name, weight in weights.items() if weight.ndim == 2}
    heads = {copy + name.removeprefix(kept): name for copy, kept in TIED for name in matrices if name.startswith(kept)}
    root = torch.nn.Module()
    for name in [*matrices, *(heads if "transformer.embed_tokens" in matrices else ())]:
        *parents, key = name.split(".")
        owner = root
        for parent in parents:
            if parent not in dict(owner.named_children()):
                owner.add_module(parent, torch.nn.Module())
            owner = getattr(owner, parent)
        rows, width = matrices[heads.get(name, name)].shape
        kind = (
            torch.nn.Embedding(rows, width) if EMBEDDINGS.fullmatch(name) else torch.nn.Linear(width, rows, bias=False)
        )
        owner.add_module(key, kind)
    root.config = Config(model_type="moss_tts", tie_word_embeddings=False)
    return root


@pytest.fixture
def trained(checkpoints: dict[str, Path], tmp_path: Path) -> Callable[..., tuple[Any, Path, Path]]:
    """(PEFT's model with random adapters, the directory that it saved, the base)."""

    def made(base: str, part: str = "", half: Any = None, **settings: Any) -> tuple[Any, Path, Path]:
        torch.manual_seed(0)
        root = twin(read_weights(checkpoints[base]))
        inner = root.get_submodule(part)
        inner.config = root.config
        model = peft.PeftModel(inner, peft.LoraConfig(**SIZES | settings))
        for name, values in model.named_parameters():
            values.data = torch.randn_like(values) * 0.3 if "lora_" in name else values.data
            values.data = values.data.to(half).float() if half else values.data
        model.save_pretrained(tmp_path / "ada")
        if half:
            path = str(tmp_path / "ada" / "adapter_model.safetensors")
            stored = {name: value.astype(getattr(mx, str(half).split(".")[1])) for name, value in mx.load(path).items()}
            mx.eval(stored)
            mx.save_safetensors(path, stored)
        return model, tmp_path / "ada", checkpoints[base]

    return made


@pytest.mark.parametrize(
    ("base", "settings"),
    [
        ("delay", {"target_modules": SOME}),
        ("delay", {"target_modules": "all-linear"}),
        ("local", {"target_modules": "all-linear"}),
        ("nano", {"target_modules": "all-linear"}),
        ("local_v1_5", {"target_modules": HEADS}),
        ("delay", {"target_modules": r".*layers\.[01]\.(self_attn|mlp)\.(q_proj|up_proj)"}),
        ("delay", {"target_modules": SOME, "layers_to_transform": [1]}),
        ("delay", {"target_modules": SOME, "layers_to_transform": [0], "layers_pattern": "layers"}),
        ("delay", {"target_modules": SOME, "exclude_modules": r".*layers\.0.*"}),
        ("delay", {"target_modules": SOME, "exclude_modules": ["language_model.layers.0.mlp.down_proj"]}),
        ("delay", {"target_modules": SOME, "use_rslora": True}),
        ("delay", {"target_modules": SOME, "rank_pattern": {"q_proj": 2, r"layers\.(0|1)\.mlp\.down_proj": 7}}),
        ("delay", {"target_modules": SOME, "rank_pattern": {r"^language_model\.layers\.0\.self_attn\.q_proj": 2}}),
        ("delay", {"target_modules": SOME, "alpha_pattern": {r".*\.layers\.0\..*q_proj": 2, "v_proj": 32}}),
        ("local_v1_5", {"target_modules": ["c_attn"], "fan_in_fan_out": True}),
        ("delay", {"target_modules": SOME, "init_lora_weights": "gaussian", "lora_dropout": 0.5}),
        ("delay", {"target_modules": SOME, "init_lora_weights": "MiCA"}),
        ("delay", {"target_modules": SOME, "half": torch.float16}),
        ("delay", {"target_modules": SOME, "half": torch.bfloat16}),
        ("delay", {"target_modules": SOME, "part": "language_model"}),
        ("local", {"target_modules": SOME, "part": "model.language_model"}),
        ("local_v1_5", {"target_modules": SOME, "part": "transformer"}),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore")
def test_each_layer_computes_what_peft_computes(trained: Callable[..., Any], base: str, settings: Any) -> None:
    model, directory, checkpoint = trained(base, **settings)
    pairs = read_adapters({"ada": directory})[0].pairs
    layers = {
        name.removeprefix("base_model.model."): layer
        for name, layer in model.named_modules()
        if isinstance(layer, peft.tuners.lora.LoraLayer)
    }
    assert pairs.keys() == layers.keys()
    for name, layer in layers.items():
        x = torch.randn(3, layer.in_features)
        with torch.no_grad():
            wanted = layer.eval()(x) - layer.base_layer(x)
        pair = pairs[name]
        made = mx.array(x.numpy()) @ pair.down.astype(mx.float32).T @ pair.up.astype(mx.float32).T * pair.scale
        np.testing.assert_allclose(np.array(made), wanted.numpy(), atol=1e-4, rtol=0, err_msg=name)
    architecture = load_architecture(checkpoint, load_config(checkpoint), read_weights(checkpoint))
    put_adapters(architecture, read_adapters({"ada": directory}))
    assert isinstance(architecture.network, Adaptable)
    assert architecture.network.adapters.names == ("ada",)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"bias": "all"}, "trained biases are not supported"),
        ({"bias": "lora_only"}, "trained biases are not supported"),
        ({"modules_to_save": ["lm_heads.0"]}, "modules that were trained whole"),
        ({"trainable_token_indices": {"embed_tokens": [1, 2]}}, "trained embeddings"),
        ({"target_modules": ["embed_tokens", "q_proj"]}, "lora_embedding_A.*only lora_A and lora_B of linear layers"),
        ({"target_modules": [], "target_parameters": ["self_attn.q_proj.weight"]}, "parameters that are no linear"),
        ({"init_lora_weights": "pissa"}, "'pissa', which changes the weights of the base"),
        ({"init_lora_weights": "olora"}, "'olora', which changes the weights of the base"),
        ({"alora_invocation_tokens": [1, 2]}, "aLoRA"),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore")
def test_what_is_not_supported_is_named(trained: Callable[..., Any], settings: Any, message: str) -> None:
    _, directory, _ = trained("delay", **{"target_modules": SOME} | settings)
    with pytest.raises(CheckpointError, match=message):
        read_adapters({"ada": directory})
