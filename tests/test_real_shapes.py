"""The released checkpoints' sizes without their weights: networks built lazily, compared name by name.

What upstream stores is written out here by hand from the published sizes; nothing is evaluated.
"""

from __future__ import annotations

from math import prod
from typing import Any

import mlx.core as mx
import pytest

from moss_tts.architectures import ARCHITECTURES
from moss_tts.config import parse_config
from moss_tts.weights.layout import Shapes, parameter_shapes

Raw = dict[str, Any]
CODEBOOK = 1024
DELAY_VOCABULARY = 155_648
V15_VOCABULARY = 151_936


def qwen3(width: int, layers: int, heads: int, ffn: int, vocabulary: int) -> Raw:
    """A backbone's config: 8 key/value heads of 128, as in all Qwen3 sizes used."""
    return {
        "model_type": "qwen3",
        "hidden_size": width,
        "num_hidden_layers": layers,
        "intermediate_size": ffn,
        "num_attention_heads": heads,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": vocabulary,
        "rope_theta": 1e6,
    }


QWEN3_8B = qwen3(4096, 36, 32, 12288, DELAY_VOCABULARY)
QWEN3_1_7B = qwen3(2048, 28, 16, 6144, DELAY_VOCABULARY)
QWEN3_4B = qwen3(2560, 36, 32, 9728, V15_VOCABULARY)
DEPTH = {
    "local_num_layers": 4,
    "local_hidden_size": 1536,
    "local_ffn_hidden_size": 8960,
    "additional_mlp_ffn_hidden_size": 2048,
}
GPT2 = {
    "n_embd": 2560,
    "n_head": 32,
    "n_inner": 9728,
    "n_layer": 1,
    "activation_function": "silu",
    "layer_norm_epsilon": 1e-6,
    "position_embedding_type": "rope",
    "rope_base": 1e6,
}


def delay(backbone: Raw, n_vq: int) -> Raw:
    return {"model_type": "moss_tts_delay", "language_config": backbone, "n_vq": n_vq}


LOCAL = delay(QWEN3_1_7B, 32) | DEPTH
LOCAL_V1_5 = {
    "model_type": "moss_tts_local",
    "qwen3_config": QWEN3_4B,
    "gpt2_config": GPT2,
    "n_vq": 12,
    "local_text_head_mode": "binary",
}
NANO_IDS = ("pad", "im_start", "im_end", "audio_start", "audio_end", "audio_user_slot", "audio_assistant_slot")
NANO = {
    "model_type": "moss_tts_nano",
    "n_vq": 16,
    "local_transformer_layers": 1,
    "gpt2_config": {
        "n_embd": 768,
        "n_head": 12,
        "n_inner": 3072,
        "n_layer": 12,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "position_embedding_type": "rope",
        "rope_base": 10000.0,
        "vocab_size": 16384,
    },
    **{f"{name}_token_id": 3 + index for index, name in enumerate(NANO_IDS)},
}


# ------------------------------------------------------------------------------- what upstream stores, by hand


def blocks(prefix: str, width: int, backbone: Raw, layers: int, ffn: int) -> Shapes:
    """Qwen3 decoder layers and the final norm."""
    queries, keys = backbone["num_attention_heads"] * 128, 8 * 128
    shapes: Shapes = {f"{prefix}norm.weight": (width,)}
    for index in range(layers):
        layer = f"{prefix}layers.{index}."
        shapes |= {
            f"{layer}input_layernorm.weight": (width,),
            f"{layer}self_attn.q_proj.weight": (queries, width),
            f"{layer}self_attn.k_proj.weight": (keys, width),
            f"{layer}self_attn.v_proj.weight": (keys, width),
            f"{layer}self_attn.o_proj.weight": (width, queries),
            f"{layer}self_attn.q_norm.weight": (128,),
            f"{layer}self_attn.k_norm.weight": (128,),
            f"{layer}post_attention_layernorm.weight": (width,),
        } | gated(f"{layer}mlp.", width, ffn, width)
    return shapes


def gated(prefix: str, width: int, ffn: int, out: int) -> Shapes:
    return {
        f"{prefix}gate_proj.weight": (ffn, width),
        f"{prefix}up_proj.weight": (ffn, width),
        f"{prefix}down_proj.weight": (out, ffn),
    }


def backbone_blocks(prefix: str, backbone: Raw) -> Shapes:
    return blocks(
        prefix, backbone["hidden_size"], backbone, backbone["num_hidden_layers"], backbone["intermediate_size"]
    )


def stored_delay(raw: Raw) -> Shapes:
    backbone, n_vq = raw["language_config"], raw["n_vq"]
    width, vocabulary = backbone["hidden_size"], backbone["vocab_size"]
    shapes = backbone_blocks("language_model.", backbone)
    shapes |= {"language_model.embed_tokens.weight": (vocabulary, width), "lm_heads.0.weight": (vocabulary, width)}
    for q in range(n_vq):
        shapes |= {f"emb_ext.{q}.weight": (CODEBOOK + 1, width), f"lm_heads.{q + 1}.weight": (CODEBOOK + 1, width)}
    return shapes


def stored_local(raw: Raw) -> Shapes:
    """All that is used: the backbone's own embed_tokens is not."""
    backbone, channels = raw["language_config"], 1 + raw["n_vq"]
    width, depth = backbone["hidden_size"], raw["local_hidden_size"]
    adapter = raw["additional_mlp_ffn_hidden_size"]
    shapes = backbone_blocks("model.language_model.", backbone)
    shapes |= blocks("local_transformer.", depth, backbone, raw["local_num_layers"], raw["local_ffn_hidden_size"])
    shapes |= gated("speech_embedding_to_local_mlp.", width, adapter, depth)
    for channel in range(channels):
        rows = backbone["vocab_size"] if channel == 0 else CODEBOOK + 1
        shapes |= gated(f"local_to_speech_embedding_mlps.{channel}.", depth, adapter, width)
        shapes |= {
            f"layer_norm_before_lm_heads.{channel}.weight": (width,),
            f"model.embedding_list.{channel}.weight": (rows, width),
            f"lm_heads.{channel}.weight": (rows, width),
        }
    return shapes


def stored_local_v1_5(raw: Raw) -> Shapes:
    """One copy of what is tied, as transformers 5 saves it."""
    backbone, width = raw["qwen3_config"], raw["qwen3_config"]["hidden_size"]
    shapes = backbone_blocks("transformer.", backbone)
    shapes |= {"transformer.embed_tokens.weight": (backbone["vocab_size"], width)}
    shapes |= {f"audio_embeddings.{q}.weight": (CODEBOOK, width) for q in range(raw["n_vq"])}
    shapes |= {"local_text_lm_head.weight": (2, width)}
    return shapes | gpt2_blocks("local_transformer.", raw["gpt2_config"], 1)


def gpt2_blocks(prefix: str, gpt2: Raw, layers: int) -> Shapes:
    """GPT-2 decoder layers, linear ones as (out, in), and the final norm."""
    width, inner = gpt2["n_embd"], gpt2["n_inner"]
    norms = [f"{prefix}ln_f", *(f"{prefix}h.{index}.{norm}" for index in range(layers) for norm in ("ln_1", "ln_2"))]
    shapes: Shapes = {f"{norm}.{kind}": (width,) for norm in norms for kind in ("weight", "bias")}
    linear = {
        "attn.c_attn": (3 * width, width),
        "attn.c_proj": (width, width),
        "mlp.fc_in": (inner, width),
        "mlp.fc_out": (width, inner),
    }
    for index in range(layers):
        for name, shape in linear.items():
            shapes |= {f"{prefix}h.{index}.{name}.weight": shape, f"{prefix}h.{index}.{name}.bias": shape[:1]}
    return shapes


def stored_nano(raw: Raw) -> Shapes:
    """One copy of what is tied, as transformers saves it."""
    gpt2 = raw["gpt2_config"]
    shapes = gpt2_blocks("transformer.", gpt2, gpt2["n_layer"]) | gpt2_blocks("local_transformer.", gpt2, 1)
    shapes |= {"transformer.wte.weight": (gpt2["vocab_size"], gpt2["n_embd"])}
    return shapes | {f"audio_embeddings.{q}.weight": (CODEBOOK, gpt2["n_embd"]) for q in range(raw["n_vq"])}


# name -> config, what upstream stores, parameters in billions as published
RELEASED = {
    "MOSS-TTS": (delay(QWEN3_8B, 32), stored_delay, 8.49),
    "MOSS-TTSD-v1.0": (delay(QWEN3_8B, 16), stored_delay, 8.36),
    "MOSS-SoundEffect": (delay(QWEN3_8B, 16), stored_delay, 8.36),
    "MOSS-VoiceGenerator": (delay(QWEN3_1_7B, 16), stored_delay, 2.11),
    "MOSS-TTS-Local-Transformer": (LOCAL, stored_local, 2.74),
    "MOSS-TTS-Local-Transformer-v1.5": (LOCAL_V1_5, stored_local_v1_5, 4.13),
    "MOSS-TTS-Nano": (NANO, stored_nano, 0.12),
}


@pytest.mark.parametrize("name", RELEASED)
def test_names_and_shapes_are_those_of_the_release(name):
    raw, stored, billions = RELEASED[name]
    before = mx.get_active_memory()
    config = parse_config(raw)
    architecture = ARCHITECTURES[type(config)]
    network = architecture.network_class(config)
    shapes = architecture.layout.upstream_shapes(network, config.n_vq)
    expected = stored(raw)
    assert sorted(set(shapes) ^ set(expected)) == []
    assert {key: shape for key, shape in shapes.items() if shape != expected[key]} == {}
    live = sum(map(prod, parameter_shapes(network).values()))
    assert live == sum(map(prod, expected.values()))
    assert round(live / 1e9, 2) == billions
    assert mx.get_active_memory() - before < 2**24


def lazily(shapes: Shapes) -> dict[str, mx.array]:
    return {name: mx.zeros(shape) for name, shape in shapes.items()}


@pytest.mark.parametrize("name", RELEASED)
def test_the_release_fits_the_network(name):
    """What upstream stores becomes exactly the network's parameters."""
    raw, stored, _ = RELEASED[name]
    config = parse_config(raw)
    architecture = ARCHITECTURES[type(config)]
    before = mx.get_active_memory()
    ours = architecture.layout.sanitize(lazily(stored(raw)), config.n_vq)
    expected = parameter_shapes(architecture.network_class(config))
    assert {key: tuple(value.shape) for key, value in ours.items()} == expected
    assert mx.get_active_memory() - before < 2**24


def test_local_v1_0_drops_319_million_parameters_that_it_never_reads():
    config = parse_config(LOCAL)
    layout = ARCHITECTURES[type(config)].layout
    unused = {"model.language_model.embed_tokens.weight": (DELAY_VOCABULARY, 2048)}
    assert round(prod(*unused.values()) / 1e6) == 319
    stored = stored_local(LOCAL)
    assert set(layout.sanitize(lazily(stored | unused), 32)) == set(layout.sanitize(lazily(stored), 32))


def test_local_v1_5_keeps_one_copy_of_what_is_tied():
    """4.55 billion values in the released file, 4.13 billion of them different."""
    config = parse_config(LOCAL_V1_5)
    layout = ARCHITECTURES[type(config)].layout
    stored = stored_local_v1_5(LOCAL_V1_5)
    tied = {"text_lm_head.weight": (V15_VOCABULARY, 2560)}
    tied |= {f"audio_lm_heads.{q}.weight": (CODEBOOK, 2560) for q in range(12)}
    assert round(sum(map(prod, (stored | tied).values())) / 1e9, 2) == 4.55
    assert set(layout.sanitize(lazily(stored | tied), 12)) == set(layout.sanitize(lazily(stored), 12))


def test_nano_keeps_one_copy_of_what_is_tied():
    """194 tensors in upstream's own file, 177 in those that transformers saved; one may be there unread."""
    config = parse_config(NANO)
    layout = ARCHITECTURES[type(config)].layout
    stored = stored_nano(NANO)
    tied = {"text_lm_head.weight": (16384, 768)}
    tied |= {f"audio_lm_heads.{q}.weight": (CODEBOOK, 768) for q in range(16)}
    assert (len(stored), len(stored | tied)) == (177, 194)
    assert sum(map(prod, stored.values())) == 117_311_232
    assert sum(map(prod, (stored | tied).values())) == 142_477_056
    unused = {"local_transformer.wte.weight": (16384, 768)}
    kept = set(layout.sanitize(lazily(stored), 16))
    assert set(layout.sanitize(lazily(stored | tied | unused), 16)) == kept
