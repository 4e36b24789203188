"""A kind of stage that the codec does not know yet costs a config and a network, and an entry for each."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from moss_tts.codec import CodecConfig, StreamingDecoder, network, stages, upstream_shapes
from moss_tts.codec.patch import PatchState
from moss_tts.codec.stages import Shapes, Surroundings
from moss_tts.errors import ConfigError
from support.codec_tiny import mono, random_audio, random_codec, random_codes

GAIN = {"module_type": "Gain", "gain": 3.0}


@dataclass(frozen=True)
class GainConfig:
    """Each value times a number, and each channel times a weight."""

    gain: float
    size: int = 1
    square_projections: tuple[str, ...] = ()

    def rate_after(self, rate: float) -> float:
        return rate

    def steps_after(self, steps: int) -> int:
        return steps

    def width_after(self, width: int) -> int | None:
        return width if width == 16 else None

    def shapes(self, _version: int, /) -> Shapes:
        return {"weight": (16,)}


class Gain(nn.Module):
    """In MLX, and for packed steps."""

    def __init__(self, config: GainConfig) -> None:
        super().__init__()
        self._config, self.weight = config, mx.ones(16)

    def empty_state(self, _batch: int) -> PatchState:
        return PatchState()

    def __call__(self, x: Any, state: PatchState, _counts: object) -> tuple[Any, PatchState]:
        weight = np.array(self.weight) if isinstance(x, np.ndarray) else self.weight
        return x * self._config.gain * weight, state

    def in_c(self, _library: ctypes.CDLL) -> Gain:
        return self


@pytest.fixture
def raw(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A codec's config.json with such a stage behind the first of its decoder."""

    def parse(block: Any, around: Surroundings) -> GainConfig:
        assert (around.rate, around.down) == (12.5, False)
        return GainConfig(block["gain"])

    monkeypatch.setattr(stages, "KINDS", stages.KINDS | {"Gain": parse})
    monkeypatch.setattr(network, "MODULES", network.MODULES | {GainConfig: lambda config, *_: Gain(config)})
    plain = mono()
    plain["decoder_kwargs"].insert(1, GAIN)
    return plain


def test_a_new_kind_of_stage_is_one_of_the_others(raw: dict[str, Any]) -> None:
    assert upstream_shapes(CodecConfig.from_dict(raw))["decoder.1.weight"] == (16,)
    codec = random_codec(raw)
    codes = random_codes(codec, 2, 9)
    whole = np.array(codec.decode(codes).audio)
    decoder = StreamingDecoder(codec, 2)
    pieces = [np.array(decoder.push(codes[:, :, part], counts)) for part, counts in PIECES]
    np.testing.assert_allclose(np.concatenate(pieces, axis=2), whole, atol=1e-5)
    codec.decoder._compiled = None
    np.testing.assert_allclose(np.array(codec.decode(codes).audio), whole, atol=1e-5)
    assert codec.encode(random_audio(codec, 100)).codes.shape == (4, 1, 6)


PIECES = [(slice(0, 4), None), (slice(4, 9), [5, 5])]


def test_its_widths_are_checked_as_those_of_others(raw: dict[str, Any]) -> None:
    raw["decoder_kwargs"][0]["output_dimension"] = 18
    with pytest.raises(ConfigError, match=r"decoder_kwargs\[1\] cannot take the width 18"):
        CodecConfig.from_dict(raw)
