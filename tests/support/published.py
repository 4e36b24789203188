"""What the goldens say of the published checkpoints: sizes and lengths, for which no device is needed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from moss_tts.codec import CodecConfig, upstream_shapes
from moss_tts.config import parse_config
from moss_tts.diffusion.request import samples_of, seconds_of
from moss_tts.evidence.goldens import cases
from support.sounds import PUBLISHED_SOUND


def check_published_codec(folder: Path) -> None:
    """config.json of the release, where it is beside the golden, describes 21,969,664 parameters in 374 tensors."""
    published = folder / "published_config.json"
    if published.exists():
        shapes = upstream_shapes(CodecConfig.from_dict(json.loads(published.read_text())))
        assert (len(shapes), sum(int(np.prod(shape)) for shape in shapes.values())) == (374, 21_969_664)


def check_published_nano(folder: Path) -> None:
    """The config.json of the release, where it is beside the golden, is read."""
    published = folder / "published_config.json"
    if published.exists():
        config = parse_config(json.loads(published.read_text()))
        assert (config.n_vq, config.vocab_size, config.backbone.num_hidden_layers) == (16, 16384, 12)


def check_sound_lengths(folder: Path) -> None:
    """Samples at 48 kHz: upstream's, and the one that it loses of some durations."""
    for asked, rounded, samples in cases(folder)["crop_48k"]:
        seconds = seconds_of({"seconds": asked}, 30)
        assert seconds == rounded
        assert samples_of(seconds, PUBLISHED_SOUND) == round(rounded * 48000)
        assert round(rounded * 48000) - samples in (0, 1)


PUBLISHED_CHECKS: dict[str, list[Callable[[Path], None]]] = {
    "moss_tts_nano": [check_published_nano],
    "moss-audio-tokenizer": [check_published_codec],
    "MossSoundEffectPipeline": [check_sound_lengths],
}
