"""The README's table of models: memory and Macs, counted from the shapes of the released checkpoints.

A Mac is large enough if it can hold the weights, the codec with an 8-bit decoder, the codec's encoder (float32, while a
recording is read; not of models that take none) and a minute of context. macOS lets the GPU have two thirds of up to
32 GB, and three quarters of more.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from moss_tts.checkpoints.footprint import CodecBytes, memory_facts, model_footprint
from moss_tts.checkpoints.loading import load_config
from moss_tts.checkpoints.names import PUBLISHED
from moss_tts.codec import CodecConfig, upstream_shapes
from support.hollow import hollow_checkpoint
from support.published_codecs import published_nano, published_v1, published_v2
from test_real_shapes import RELEASED, qwen3

README = (Path(__file__).parents[1] / "README.md").read_text()
WAYS = (None, "-q --q-bits 8", "-q --q-bits 4")
MACS = (8, 16, 24, 32, 64)
TAKE_NO_RECORDING = ("MOSS-VoiceGenerator", "MOSS-SoundEffect")
REALTIME = {
    "model_type": "moss_tts_realtime",
    "audio_pad_token": 1024,
    "audio_vocab_size": 1027,
    "rvq": 16,
    "reference_audio_pad": 151654,
    "text_pad": 151655,
    "language_config": qwen3(2048, 28, 16, 6144, 151_936),
    "local_config": {
        "model_type": "moss_tts_realtime_local_transformer",
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "num_hidden_layers": 4,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "rvq": 16,
        "audio_vocab_size": 1027,
        "audio_pad_token": 1024,
    },
}
CODECS = {48000: published_v2, 24000: published_v1}


def usable(gigabytes: int) -> float:
    """Bytes that the GPU of a Mac with so much memory may use."""
    return gigabytes * 2**30 * (2 / 3 if gigabytes <= 32 else 3 / 4)


def codec_bytes(raw: dict[str, Any]) -> CodecBytes:
    config = CodecConfig.from_dict(raw)
    return CodecBytes.of(config, {name: mx.zeros(shape) for name, shape in upstream_shapes(config).items()})


def cells(name: str, directory: Path) -> tuple[str, str]:
    """GB of weights, and the smallest Mac, at 16, 8 and 4 bit."""
    known = {one: raw for one, (raw, *_) in RELEASED.items()} | {"MOSS-TTS-Realtime": REALTIME}
    raw = known[name.removesuffix("-100M").replace("MOSS-TTS-v1.5", "MOSS-TTS")]
    config = load_config(hollow_checkpoint(directory / "model", raw))
    codec = codec_bytes(published_nano() if "Nano" in name else CODECS[config.sampling_rate]())
    dtype, nbytes = model_footprint(directory / "model", config, "bfloat16")
    facts = memory_facts(directory / "model", config, dtype, nbytes, codec, "8bit")
    while_reading = 0 if name in TAKE_NO_RECORDING else facts.codec_encoder_bytes
    weights = [nbytes if way is None else facts.smaller[way] for way in WAYS]
    digits = 1 if nbytes > 1e9 else 2
    macs = [next(mac for mac in MACS if facts.needed_with(way) + while_reading <= usable(mac)) for way in WAYS]
    return " / ".join(f"{size / 1e9:.{digits}f}" for size in weights), " / ".join(map(str, macs))


@pytest.mark.parametrize("name", [one.name for one in PUBLISHED if one.kind == "speech model"])
def test_memory_and_macs_are_counted_from_shapes(name, tmp_path):
    row = re.search(rf"^\| `OpenMOSS-Team/{re.escape(name)}` \|.*$", README, flags=re.MULTILINE)
    assert row is not None, f"the table has no row of {name}"
    weights, macs = cells(name, tmp_path)
    assert row[0].endswith(f"| {weights} | {macs} |"), f"{name}: | {weights} | {macs} |"
