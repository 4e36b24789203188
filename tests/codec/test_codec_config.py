"""The codec's config: sizes of the published checkpoints, and what is refused."""

from __future__ import annotations

from math import prod
from typing import Any

import pytest

from moss_tts.codec import CodecConfig, upstream_shapes
from moss_tts.codec.stages import TransformerConfig
from moss_tts.errors import ConfigError
from support.codec_tiny import mono, stereo
from support.published_codecs import published_nano, published_v1, published_v2


def parameters(config: CodecConfig, part: str = "") -> int:
    return sum(prod(shape) for name, shape in upstream_shapes(config).items() if name.startswith(part))


def windows(stages: tuple[Any, ...]) -> list[int]:
    return [stage.window for stage in stages if isinstance(stage, TransformerConfig)]


def test_published_v1() -> None:
    config = CodecConfig.from_dict(published_v1())
    assert (config.sampling_rate, config.channels, config.downsample_rate, config.frame_rate) == (
        24000,
        1,
        1920,
        12.5,
    )
    assert (config.num_quantizers, config.codebook_size, config.version) == (32, 1024, 1)
    assert windows(config.encoder) == [1000, 500, 250, 125]
    assert windows(config.decoder) == [125, 250, 500, 1000]
    shapes = upstream_shapes(config)
    assert (len(shapes), parameters(config)) == (1600, 1_774_566_400)
    assert parameters(config, "encoder.") == parameters(config, "decoder.") == 886_609_920
    assert parameters(config, "quantizer.") == 1_346_560
    projections = {name: shape for name, shape in shapes.items() if "_proj.weight" in name and "coder" in name}
    assert projections == {
        "encoder.1.input_proj.weight": (768, 240),
        "encoder.1.output_proj.weight": (384, 768),
        "encoder.3.output_proj.weight": (384, 768),
        "encoder.5.output_proj.weight": (640, 768),
        "encoder.7.output_proj.weight": (768, 1280),
        "decoder.0.input_proj.weight": (1280, 768),
        "decoder.2.input_proj.weight": (768, 640),
        "decoder.4.input_proj.weight": (768, 384),
        "decoder.6.input_proj.weight": (768, 384),
        "decoder.6.output_proj.weight": (240, 768),
    }
    assert shapes["decoder.0.transformer.layers.31.self_attn.in_projs.0.weight"] == (3840, 1280)
    assert shapes["decoder.0.transformer.layers.31.linear2.weight"] == (1280, 5120)


def test_published_v2() -> None:
    config = CodecConfig.from_dict(published_v2())
    assert (config.sampling_rate, config.channels, config.downsample_rate, config.frame_rate) == (
        48000,
        2,
        3840,
        12.5,
    )
    assert config.version == 2
    assert windows(config.encoder) == [400, 400, 400, 400, 250, 125]
    assert windows(config.decoder) == [125, 250, 400, 400, 400, 400]
    shapes = upstream_shapes(config)
    assert (len(shapes), parameters(config)) == (2094, 2_123_701_248)
    assert parameters(config, "encoder.") == parameters(config, "decoder.") == 1_061_177_344
    assert shapes["decoder.0.output_proj.weight"] == (1280, 1280)
    assert shapes["encoder.3.input_proj.weight"] == (768, 768)
    assert shapes["decoder.10.transformer.layers.0.ffn.0.weight"] == (3072, 768)


def test_published_nano() -> None:
    config = CodecConfig.from_dict(published_nano())
    assert (config.sampling_rate, config.channels, config.num_quantizers) == (48000, 2, 16)
    assert (config.downsample_rate, config.frame_rate) == (3840, 12.5)
    assert config.version == 2
    assert windows(config.encoder) == [1600, 1200, 800, 500]
    assert windows(config.decoder) == [500, 800, 1200, 1600]
    shapes = upstream_shapes(config)
    assert (len(shapes), parameters(config)) == (374, 21_969_664)
    assert parameters(config, "encoder.") == parameters(config, "decoder.") == 10_450_944
    assert parameters(config, "quantizer.") == 1_067_776


def test_v1_cuts_its_windows_and_v2_rounds_them() -> None:
    raw = mono() | {"causal_transformer_context_duration": 0.39}
    assert windows(CodecConfig.from_dict(raw).encoder) == [19, 9, 4]
    assert windows(CodecConfig.from_dict(raw | {"number_channels": 1}).encoder) == [20, 10, 5]


def test_a_stage_of_v2_without_a_context_takes_the_smallest_of_the_encoder() -> None:
    raw = published_nano()
    for key, index in (("encoder_kwargs", 3), ("decoder_kwargs", 1)):
        del raw[key][index]["context_duration"]
    config = CodecConfig.from_dict(raw)
    assert windows(config.encoder) == [1600, 4 * 200, 800, 500]
    assert windows(config.decoder) == [4 * 50, 800, 1200, 1600]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sampling_rate": None}, "sampling_rate must be an integer of at least 1, got None"),
        ({"downsample_rate": 15}, "multiply to 16, but a frame is 15 samples of 1 channels = 15"),
        ({"downsample_rate": True}, "downsample_rate must be an integer of at least 1"),
        ({"loudness_norm": True}, "unknown keys: loudness_norm"),
        ({"model_type": "encodec"}, "'encodec' is not a codec of this family"),
        ({"encoder_kwargs": None}, "encoder_kwargs must be a list of objects"),
        ({"quantizer_kwargs": None}, "quantizer_kwargs must be an object"),
        ({"causal_transformer_context_duration": 0.01}, "shorter than one step at 50 Hz"),
        (
            {"causal_transformer_context_duration": "10"},
            "context_duration must be a number in 1e-12..600, got '10'",
        ),
        ({"number_channels": 2, "enable_channel_interleave": False}, "enable_channel_interleave = False"),
    ],
)
def test_a_config_that_is_wrong_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CodecConfig.from_dict(mono() | change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gating": "silu"}, r"decoder_kwargs\[0\]: gating = 'silu' is not supported; allowed: 'none'"),
        ({"causal": False}, "causal = False"),
        ({"norm": "rms_norm"}, "norm = 'rms_norm'"),
        ({"positional_embedding": "sin"}, "positional_embedding = 'sin'"),
        ({"num_heads": 3}, "does not divide into 3 heads"),
        ({"num_heads": 16}, "heads of even width"),
        ({"num_layers": 0}, "num_layers must be an integer of at least 1"),
        ({"qk_norm": True}, "unknown keys: qk_norm"),
        ({"module_type": "Conv"}, "'Conv' is neither"),
        ({"input_dimension": 13}, r"decoder_kwargs\[0\] cannot take the width 12"),
        ({"output_dimension": 18}, r"decoder_kwargs\[2\] cannot take the width 9"),
        ({"output_dimension": 17}, r"decoder_kwargs\[1\] cannot take the width 17"),
    ],
)
def test_a_stage_that_is_wrong_is_refused(change: dict[str, Any], message: str) -> None:
    raw = mono()
    raw["decoder_kwargs"][0] |= change
    with pytest.raises(ConfigError, match=message):
        CodecConfig.from_dict(raw)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"quantizer_type": "rvq"}, "quantizer_type = 'rvq'"),
        ({"codebook_dim": 0}, "codebook_dim must be an integer of at least 1"),
        ({"commitment": 1}, "unknown keys: commitment"),
        ({"input_dim": 11}, "encoder_kwargs ends at width 12, but 11 is needed"),
    ],
)
def test_a_quantizer_that_is_wrong_is_refused(change: dict[str, Any], message: str) -> None:
    raw = mono()
    raw["quantizer_kwargs"] |= change
    with pytest.raises(ConfigError, match=message):
        CodecConfig.from_dict(raw)


def test_other_names_of_the_same() -> None:
    raw = mono()
    raw["sample_rate"] = raw.pop("sampling_rate")
    assert CodecConfig.from_dict(raw) == CodecConfig.from_dict(mono())
    raw = stereo()
    raw["channels_numbers"] = raw.pop("number_channels")
    assert CodecConfig.from_dict(raw) == CodecConfig.from_dict(stereo())
