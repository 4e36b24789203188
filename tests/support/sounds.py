"""Tiny sound models, and the published one's sizes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten, tree_map

from moss_tts.config.qwen3 import BackboneConfig
from moss_tts.diffusion.config import AutoencoderConfig, PipelineConfig, SoundConfig, TransformerConfig
from moss_tts.diffusion.decoder import SoundDecoder
from moss_tts.diffusion.transformer import DiffusionTransformer
from moss_tts.diffusion.weights import TransformerNames

GOLDEN = Path(__file__).parents[1] / "golden" / "sfx2"
TINY = TransformerConfig(channels=6, text_width=10, time_width=8, width=24, hidden=40, heads=2, layers=2, eps=1e-6)
TINY_DECODER = AutoencoderConfig(channels=6, width=16, strides=(3, 2), sample_rate=60)
PUBLISHED = TransformerConfig(
    channels=128, text_width=2048, time_width=256, width=1536, hidden=8960, heads=12, layers=30, eps=1e-6
)
PUBLISHED_DECODER = AutoencoderConfig(channels=128, width=2048, strides=(8, 5, 4, 3, 2), sample_rate=48000)

PUBLISHED_SOUND = SoundConfig(
    PipelineConfig(sample_rate=48000, max_seconds=30, quantization=None),
    PUBLISHED,
    BackboneConfig(2048, 28, 6144, 16, 8, 128, 151936),
    PUBLISHED_DECODER,
)


def with_random_weights(network, seed: int = 0, size: float = 0.2):
    """The network with other weights, biases and modulations than zeros and ones."""
    random = np.random.default_rng(seed)

    def draw(value: mx.array) -> mx.array:
        return mx.array(random.normal(0, size, value.shape).astype(np.float32)).astype(value.dtype)

    network.update(tree_map(draw, network.parameters()))
    return network


def tiny_transformer(seed: int = 0) -> DiffusionTransformer:
    return with_random_weights(DiffusionTransformer(TINY), seed)


def tiny_decoder(config: AutoencoderConfig = TINY_DECODER) -> SoundDecoder:
    return with_random_weights(SoundDecoder(config), 1, 0.2)


def random(*shape: int, seed: int = 2) -> mx.array:
    return mx.array(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def write_sound_model(directory: Path, width: int = 64, hidden: int = 96) -> Path:
    """The golden's sound model with another transformer, whose widths divide into groups of quantised weights."""
    shutil.copytree(GOLDEN, directory, ignore=shutil.ignore_patterns("*cases.json", "golden.safetensors"))
    path = directory / "transformer/config.json"
    raw = json.loads(path.read_text()) | {"dim": width, "ffn_dim": hidden, "num_heads": 2}
    path.write_text(json.dumps(raw))
    network = with_random_weights(DiffusionTransformer(TransformerConfig.from_dict(raw)), size=0.05)
    weights: list[tuple[str, mx.array]] = tree_flatten(network.parameters())
    for old in (directory / "transformer").glob("*.safetensors*"):
        old.unlink()
    named = {TransformerNames().upstream_name(name): weight for name, weight in weights}
    mx.save_safetensors(str(directory / "transformer/model.safetensors"), named)
    return directory
