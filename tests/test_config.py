"""config.json: which architecture it is, what is read from where, and what is refused."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest

from moss_tts.config import (
    BackboneConfig,
    DelayConfig,
    LocalConfig,
    LocalV15Config,
    NanoConfig,
    RealtimeConfig,
    config_class,
    parse_config,
)
from moss_tts.errors import ConfigError
from moss_tts.strict import HARMLESS_KEYS
from support.small_configs import GEN, raw_config

GOLDEN = Path(__file__).parent / "golden"
KINDS = {
    "delay": DelayConfig,
    "local": LocalConfig,
    "local_v1_5": LocalV15Config,
    "nano": NanoConfig,
    "realtime": RealtimeConfig,
}


def golden_config(name: str) -> dict[str, Any]:
    return json.loads((GOLDEN / name / "config.json").read_text())


def nested(raw: dict[str, Any], block: str, **changes: Any) -> dict[str, Any]:
    return raw | {block: raw[block] | changes}


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_upstreams_own_configs_parse(name, kind):
    config = parse_config(golden_config(name))
    assert type(config) is kind
    assert (config.n_vq, config.audio_vocab_size, config.audio_pad_code) == (4, 24, 24)
    assert config.vocab_size == {"nano": 400, "realtime": 428}.get(name, 220)


def test_local_and_delay_share_a_model_type():
    assert golden_config("delay")["model_type"] == golden_config("local")["model_type"]
    assert config_class({"model_type": "moss_tts_delay", "local_num_layers": None}) is DelayConfig
    assert config_class({"model_type": "moss_tts_delay", "local_num_layers": 4}) is LocalConfig


def test_nano_is_told_by_its_type_though_it_has_a_gpt2_config():
    assert config_class({"model_type": "moss_tts_nano", "gpt2_config": {}}) is NanoConfig


@pytest.mark.parametrize("raw", [{"model_type": "moss_tts_local"}, {"gpt2_config": {}}])
def test_local_v1_5_is_told_by_its_type_or_its_depth_decoder(raw):
    assert config_class(raw) is LocalV15Config


@pytest.mark.parametrize("kind", [None, "qwen3", "moss_tts_unheard_of"])
def test_other_models_are_refused_with_the_supported_ones(kind):
    with pytest.raises(ConfigError, match=rf"{kind!r}.*moss_tts_delay.*moss_tts_local"):
        parse_config({"model_type": kind})


def test_a_codec_is_told_to_be_one():
    with pytest.raises(ConfigError, match="codec"):
        parse_config(golden_config("codec_v1"))


# ------------------------------------------------------------------------------------------------- defaults


def test_ids_default_to_upstreams():
    raw = raw_config(2)
    bare = {key: value for key, value in raw.items() if not key.endswith("_token_id")}
    bare = nested(bare, "language_config", vocab_size=155_648)
    config = parse_config(bare)
    assert isinstance(config, DelayConfig)
    assert (config.pad_token_id, config.im_start_token_id, config.im_end_token_id) == (151643, 151644, 151645)
    assert (config.audio_start_token_id, config.audio_end_token_id) == (151652, 151653)
    assert config.audio_user_slot_token_id == 151654
    assert config.audio_assistant_gen_slot_token_id == 151656
    assert config.audio_assistant_delay_slot_token_id == 151662


def test_a_bare_delay_config_has_upstreams_sizes():
    raw = {"model_type": "moss_tts_delay", "language_config": raw_config(2)["language_config"] | {"vocab_size": 155648}}
    config = parse_config(raw)
    assert (config.n_vq, config.audio_vocab_size, config.audio_pad_code) == (32, 1024, 1024)
    assert config.sampling_rate == 24000
    assert config.audio_tokenizer_name_or_path is None


def test_a_bare_local_v1_5_config_has_upstreams_sizes():
    raw = golden_config("local_v1_5")
    dropped = "n_vq audio_vocab_size audio_pad_code audio_pad_token_id audio_codebook_sizes sampling_rate".split()
    raw = {key: value for key, value in raw.items() if key not in dropped}
    config = parse_config(raw)
    assert (config.n_vq, config.audio_vocab_size, config.audio_pad_code) == (12, 1024, 1024)
    assert config.sampling_rate == 48000


def test_voice_generator_names_the_gen_slot_otherwise():
    raw = raw_config(2)
    del raw["audio_assistant_gen_slot_token_id"]
    assert parse_config(raw | {"gen_token_id": GEN}).audio_assistant_gen_slot_token_id == GEN


def test_v1_5_has_other_names_for_slot_and_pad():
    raw = golden_config("local_v1_5")
    del raw["audio_assistant_gen_slot_token_id"], raw["audio_pad_code"]
    config = parse_config(raw)
    assert (config.audio_assistant_gen_slot_token_id, config.audio_pad_code) == (213, 24)


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_theta": 5e5},
        {"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}},
        {"rope_scaling": {"rope_theta": 5e5, "type": "default"}},
    ],
)
def test_rope_theta_is_found_where_transformers_puts_it(rope):
    assert BackboneConfig.from_dict(raw_config(2)["language_config"] | rope).rope_theta == 5e5


def test_rope_theta_defaults_to_qwen3s():
    assert BackboneConfig.from_dict(raw_config(2)["language_config"] | {"rope_scaling": None}).rope_theta == 1e6


def test_the_depth_transformer_has_the_backbones_heads():
    config = parse_config(golden_config("local"))
    assert isinstance(config, LocalConfig)
    assert (config.depth.hidden_size, config.depth.num_hidden_layers, config.depth.intermediate_size) == (32, 2, 64)
    assert config.depth.num_attention_heads == config.backbone.num_attention_heads
    assert config.depth.head_dim == config.backbone.head_dim


def test_local_transformer_layers_beats_n_layer():
    raw = nested(golden_config("local_v1_5"), "gpt2_config", n_layer=12)
    assert parse_config(raw | {"local_transformer_layers": 3}).depth.num_hidden_layers == 3
    assert parse_config(raw | {"local_transformer_layers": None}).depth.num_hidden_layers == 12


# ----------------------------------------------------------------------------------------------- strictness


@pytest.mark.parametrize("name", KINDS)
def test_an_unknown_key_is_named(name):
    with pytest.raises(ConfigError, match=r"config\.json has unknown keys: new_upstream_option"):
        parse_config(golden_config(name) | {"new_upstream_option": 1})


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("delay", "language_config"),
        ("local_v1_5", "qwen3_config"),
        ("local_v1_5", "gpt2_config"),
        ("nano", "gpt2_config"),
    ],
)
def test_an_unknown_key_of_a_block_is_named_with_it(name, block):
    with pytest.raises(ConfigError, match="has unknown keys: mixture_of_experts"):
        parse_config(nested(golden_config(name), block, mixture_of_experts=8))


@pytest.mark.parametrize("key", sorted(HARMLESS_KEYS - {"model_type"}))
def test_harmless_keys_change_nothing(key):
    raw = raw_config(2)
    assert parse_config(raw | {key: "anything"}) == parse_config(raw)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"attention_bias": True}, "attention_bias"),
        ({"hidden_act": "gelu"}, "hidden_act.*'silu'"),
        ({"use_sliding_window": True}, "use_sliding_window"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "layer_types"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "rope_type 'yarn'"),
        ({"num_attention_heads": 6, "num_key_value_heads": 4}, "6 attention heads.*4"),
        ({"rms_norm_eps": 0}, "rms_norm_eps must be a number in 1e-12"),
        ({"num_hidden_layers": 0}, "num_hidden_layers.*at least 1"),
        ({"vocab_size": "18"}, "vocab_size.*'18'"),
        ({"head_dim": True}, "head_dim.*True"),
    ],
)
def test_features_the_family_does_not_use_are_refused(change, words):
    with pytest.raises(ConfigError, match=words):
        parse_config(nested(raw_config(2), "language_config", **change))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"n_vq": 0}, "n_vq.*at least 1.*0"),
        ({"n_vq": 2.0}, r"n_vq.*2\.0"),
        ({"audio_pad_code": 3}, "audio_pad_code must be audio_vocab_size"),
        ({"audio_start_token_id": 4000}, "audio_start_token_id = 4000.*vocabulary of 18"),
        ({"hidden_size": 9}, "hidden_size"),
        ({"vocab_size": 19}, "vocab_size"),
        ({"language_config": None}, "language_config must be an object"),
        ({"sampling_rate": -1}, "sampling_rate"),
        ({"audio_tokenizer_name_or_path": 7}, "audio_tokenizer_name_or_path must be a name, got 7"),
        ({"codec_config": "codec"}, "codec_config must be an object, got 'codec'"),
        ({"quantization": 4}, "quantization must be an object, got 4"),
    ],
)
def test_contradictions_are_named(change, words):
    with pytest.raises(ConfigError, match=words):
        parse_config(raw_config(2) | change)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"activation_function": "relu"}, "activation_function"),
        ({"position_embedding_type": "alibi"}, "position_embedding_type"),
        ({"n_head": 7}, "n_embd 64 does not divide among 7"),
        ({"n_embd": 32}, "n_embd 32 must equal the backbone's width 64"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
    ],
)
def test_depth_decoders_of_another_kind_are_refused(change, words):
    with pytest.raises(ConfigError, match=words):
        parse_config(nested(golden_config("local_v1_5"), "gpt2_config", **change))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"local_text_head_mode": "ternary"}, "'ternary'"),
        ({"audio_codebook_sizes": [24, 24, 24, 12]}, "audio_codebook_sizes"),
        ({"gpt2_config": None}, "gpt2_config must be an object"),
        ({"local_transformer_layers": -1}, "local_transformer_layers must be an integer of at least 1"),
    ],
)
def test_v1_5_contradictions_are_named(change, words):
    with pytest.raises(ConfigError, match=words):
        parse_config(golden_config("local_v1_5") | change)


def test_a_bare_nano_config_has_upstreams_sizes():
    raw = golden_config("nano")
    dropped = "n_vq audio_vocab_size audio_pad_token_id audio_codebook_sizes audio_tokenizer_sample_rate"
    raw = {key: value for key, value in raw.items() if key not in [*dropped.split(), "local_transformer_layers"]}
    config = parse_config(raw)
    assert isinstance(config, NanoConfig)
    assert (config.n_vq, config.audio_vocab_size, config.audio_pad_code) == (8, 1024, 1024)
    assert (config.sampling_rate, config.depth.num_hidden_layers) == (48000, 4)
    assert config.codec_name == "OpenMOSS-Team/MOSS-Audio-Tokenizer-Nano"


def test_nanos_decoders_are_of_the_same_blocks():
    config = parse_config(golden_config("nano"))
    assert isinstance(config, NanoConfig)
    assert replace(config.backbone, num_hidden_layers=1, positions=1 + config.n_vq) == config.depth
    assert (config.backbone.activation, config.backbone.rotary, config.backbone.head_dim) == ("gelu_new", True, 16)


@pytest.mark.parametrize("key", [key for key in golden_config("nano") if key.endswith("_token_id")])
def test_nanos_ids_have_no_defaults(key):
    """Upstream's own defaults are ids of another tokenizer."""
    raw = golden_config("nano")
    if key != "audio_pad_token_id":
        del raw[key]
        with pytest.raises(ConfigError, match="_token_id must be an integer of at least 0, got None"):
            parse_config(raw)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"position_embedding_type": "absolute"}, "position_embedding_type = 'absolute'.*'rope'"),
        ({"vocab_size": None}, "is outside the vocabulary of 0"),
        ({"n_head": 5}, "n_embd 48 does not divide among 5"),
    ],
)
def test_nanos_of_another_kind_are_refused(change, words):
    with pytest.raises(ConfigError, match=words):
        parse_config(nested(golden_config("nano"), "gpt2_config", **change) | {"vocab_size": None})


@pytest.mark.parametrize("name", ["local_num_layers", "local_hidden_size", "additional_mlp_ffn_hidden_size"])
def test_local_sizes_have_no_defaults(name):
    raw = golden_config("local")
    raw[name] = 0
    with pytest.raises(ConfigError, match=rf"{name} must be an integer of at least 1"):
        parse_config(raw)


@pytest.mark.parametrize("name", KINDS)
def test_configs_are_frozen(name):
    config = parse_config(golden_config(name))
    with pytest.raises(FrozenInstanceError):
        config.n_vq = 1
