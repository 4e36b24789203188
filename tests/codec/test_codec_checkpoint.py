"""Checkpoints of the codec on disk: names, folding, what is read when, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from moss_tts.checkpoints.demo import codec_config
from moss_tts.codec import CodecConfig, MossAudioTokenizer
from moss_tts.errors import CheckpointError, ConfigError
from support.codec_tiny import Raw, mono, random_audio, random_codec, random_codes, random_weights, stereo

Weights = dict[str, mx.array]


def save(folder: Path, raw: Raw, weights: Weights, shards: int = 1) -> Path:
    (folder / "config.json").write_text(json.dumps(raw))
    if shards == 1:
        mx.save_safetensors(str(folder / "model.safetensors"), weights)
        return folder
    names, index = sorted(weights), {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = names[shard::shards]
        mx.save_safetensors(str(folder / file), {name: weights[name] for name in part})
        index |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    return folder


def outputs(codec: MossAudioTokenizer) -> tuple[np.ndarray, np.ndarray]:
    audio = codec.decode(random_codes(codec, 8)).audio
    samples = 25 * codec.config.downsample_rate // 2
    return np.array(audio), np.array(codec.encode(random_audio(codec, samples)).codes)


def assert_same(made: MossAudioTokenizer, wanted: MossAudioTokenizer) -> None:
    for left, right in zip(outputs(made), outputs(wanted), strict=True):
        np.testing.assert_allclose(left, right, atol=1e-5)


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("make", [mono, stereo])
def test_a_directory_is_its_weights(tmp_path: Path, make: Callable[[], Raw], shards: int) -> None:
    raw = make()
    folder = save(tmp_path, raw, random_weights(raw), shards)
    assert_same(MossAudioTokenizer.from_pretrained(folder), random_codec(raw))


def renamed(weights: Weights, *pairs: tuple[str, str]) -> Weights:
    for old, new in pairs:
        weights = {name.replace(old, new): weight for name, weight in weights.items()}
    return weights


def folded(weights: Weights) -> Weights:
    """Weight norm was computed when the file was saved."""
    marker = ".parametrizations.weight.original1"
    kept = {name: weight for name, weight in weights.items() if ".parametrizations." not in name}
    for name in [name for name in weights if name.endswith(marker)]:
        gain, rows = weights[name.replace("original1", "original0")], weights[name]
        kept[name.removesuffix(marker) + ".weight"] = gain * rows / mx.linalg.norm(rows, axis=1, keepdims=True)
    return kept


SPELLINGS: dict[str, Callable[[Weights], Weights]] = {
    "second generation": lambda weights: renamed(
        weights,
        (".in_projs.0.", ".in_proj."),
        (".out_projs.0.", ".out_proj."),
        (".linear1.", ".ffn.0."),
        (".linear2.", ".ffn.2."),
    ),
    "torch attention": lambda weights: renamed(
        weights, (".in_projs.0.weight", ".in_proj_weight"), (".out_projs.0.", ".out_proj.")
    ),
    "old weight norm": lambda weights: renamed(
        weights,
        ("parametrizations.weight.original0", "weight_g"),
        ("parametrizations.weight.original1", "weight_v"),
    ),
    "folded weight norm": folded,
    "folded, kernel axis in the middle": lambda weights: {
        name: weight.swapaxes(1, 2) if weight.ndim == 3 else weight for name, weight in folded(weights).items()
    },
    "folded, no kernel axis": lambda weights: {
        name: weight.squeeze(2) if weight.ndim == 3 else weight for name, weight in folded(weights).items()
    },
    "fused with a speech model": lambda weights: {f"codec_model.{name}": w for name, w in weights.items()},
}


@pytest.mark.parametrize("spelling", list(SPELLINGS))
def test_every_spelling_is_the_same_codec(spelling: str) -> None:
    weights = SPELLINGS[spelling](random_weights(mono()))
    assert_same(MossAudioTokenizer.from_weights(mono(), weights), random_codec(mono()))


@pytest.mark.parametrize("bits", [4, 8])
def test_a_quantised_codec_is_that_of_its_rounded_weights(bits: int) -> None:
    """As others store it: linear layers quantised, convolutions and norms not."""
    raw, settings = codec_config(), {"group_size": 32, "bits": bits}
    stored, rounded = {}, random_weights(raw)
    layers = [name for name, weight in rounded.items() if weight.ndim == 2 and weight.shape[1] % 32 == 0]
    layers = [name for name in layers if not name.startswith("quantizer.")]
    for name in layers:
        parts = mx.quantize(rounded[name], **settings)
        names = (name, name.replace("weight", "scales"), name.replace("weight", "biases"))
        stored |= dict(zip(names, parts, strict=True))
        rounded[name] = mx.dequantize(*parts, **settings)
    mx.eval(rounded, stored)
    codec = MossAudioTokenizer.from_weights(raw | {"quantization": settings}, rounded | stored)
    assert len(layers) > 10
    assert_same(codec, MossAudioTokenizer.from_weights(raw, rounded))
    with pytest.raises(CheckpointError, match=r"of the codec is not quantised as its config\.json says"):
        MossAudioTokenizer.from_weights(raw | {"quantization": {"bits": bits, "group_size": 64}}, rounded | stored)


def test_projections_follow_the_checkpoint_where_the_config_lost_its_generation() -> None:
    raw = mono()
    second = raw | {"number_channels": 1}
    codec = MossAudioTokenizer.from_weights(raw, random_weights(second))
    assert codec.config.version == 2
    assert_same(codec, random_codec(second))


def test_layer_scales_and_quantizer_projections_may_be_absent() -> None:
    raw = mono()
    raw["quantizer_kwargs"] |= {"rvq_dim": 12, "codebook_dim": 12}
    for block in raw["encoder_kwargs"] + raw["decoder_kwargs"]:
        if "layer_scale" in block:
            block["layer_scale"] = None
    weights = random_weights(raw)
    assert not [name for name in weights if "layer_scale" in name or name.startswith("quantizer.input")]
    codec = MossAudioTokenizer.from_weights(raw, weights)
    codes = codec.encode(random_audio(codec, 100)).codes
    assert codec.decode(codes).audio.shape == (1, 1, 96)


def without(name: str) -> Callable[[Weights], Weights]:
    return lambda weights: {key: weight for key, weight in weights.items() if key != name}


def having(name: str, *shape: int) -> Callable[[Weights], Weights]:
    return lambda weights: weights | {name: mx.zeros(shape)}


ATTENTION = "decoder.0.transformer.layers.1.self_attn.out_projs.0.weight"
GAIN = "quantizer.quantizers.2.in_proj.parametrizations.weight.original0"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without(ATTENTION), f"lacks {ATTENTION}"),
        (without(GAIN), f"lacks {GAIN}"),
        (without("encoder.1.transformer.layers.0.norm1.bias"), r"lacks encoder\.1\.transformer"),
        (having("decoder.9.weight", 3), r"does not know: decoder\.9\.weight"),
        (having("decoder.0.output_proj.weight", 16, 16), r"does not know: decoder\.0\.output_proj\.weight"),
        (having("decoder.0.transformer.layers.0.ffn.0.weight", 32, 16), "twice, under two spellings"),
        (
            lambda weights: weights | {ATTENTION: weights[ATTENTION].astype(mx.int8)},
            rf"has {ATTENTION} in whole numbers",
        ),
        (having(ATTENTION, 16, 17), rf"{ATTENTION} of shape \(16, 17\) where the config asks for \(16, 16\)"),
        (having(GAIN, 5, 1, 1), rf"{GAIN} of shape \(5, 1, 1\) where the config asks for \(4, 1, 1\)"),
        (lambda _: {}, r"lacks decoder.* and \d+ more"),
    ],
)
def test_weights_that_do_not_fit_are_named(change: Callable[[Weights], Weights], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        MossAudioTokenizer.from_weights(mono(), change(random_weights(mono())))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def cut_header(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:50])


def garble(file: Path) -> None:
    file.write_bytes(b"\x10\0\0\0\0\0\0\0" + b"not json at all " + file.read_bytes())


@pytest.mark.parametrize("damage", [cut, cut_header, garble, Path.unlink, lambda file: file.write_bytes(b"")])
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, damage: Callable[[Path], Any]) -> None:
    save(tmp_path, mono(), random_weights(mono()), shards=2)
    damage(tmp_path / "model-00002-of-00002.safetensors")
    with pytest.raises(CheckpointError, match="model-00002-of-00002"):
        MossAudioTokenizer.from_pretrained(tmp_path)


def test_a_directory_without_a_codec_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json"):
        MossAudioTokenizer.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "moss_tts_delay"}))
    with pytest.raises(ConfigError, match="not a codec of this family"):
        MossAudioTokenizer.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(mono()))
    with pytest.raises(CheckpointError, match="safetensors"):
        MossAudioTokenizer.from_pretrained(tmp_path)


def test_the_encoder_is_read_when_something_is_encoded_and_can_be_released(tmp_path: Path) -> None:
    raw = mono()
    for block in raw["encoder_kwargs"]:
        if block["module_type"] == "Transformer":
            block["dim_feedforward"] = 20_000
    folder = save(tmp_path, raw, random_weights(raw))
    encoder_bytes = 3 * 2 * 2 * 16 * 20_000 * 4
    mx.clear_cache()
    empty = mx.get_active_memory()
    codec = MossAudioTokenizer.from_pretrained(folder)
    codec.decode(random_codes(codec, 3))
    assert not codec.encoder_loaded
    assert mx.get_active_memory() - empty < encoder_bytes / 2
    first = outputs(codec)
    assert codec.encoder_loaded
    assert mx.get_active_memory() - empty > encoder_bytes / 2
    codec.release_encoder()
    assert not codec.encoder_loaded
    assert mx.get_active_memory() - empty < encoder_bytes / 2
    for left, right in zip(outputs(codec), first, strict=True):
        np.testing.assert_array_equal(left, right)


def test_only_float_dtypes_compute() -> None:
    weights = random_weights(mono())
    with pytest.raises(ValueError, match="float32, bfloat16 or float16"):
        MossAudioTokenizer(CodecConfig.from_dict(mono()), lambda: weights, mx.int8)
