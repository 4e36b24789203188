"""How fast a large checkpoint can speak on a CPU, as it is and as converted: its memory decides that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn

from moss_tts.architectures import ARCHITECTURES
from moss_tts.checkpoints.footprint import WAYS
from moss_tts.checkpoints.loading import quantizable, quantize, unread_network
from moss_tts.config import MossConfig
from moss_tts.device import packed
from moss_tts.device.bandwidth import read_bandwidth
from moss_tts.device.kernels import on_cpu
from moss_tts.request import FRAME_RATE
from moss_tts.weights.layout import read_weights
from moss_tts.weights.quantisation import Recipe

# The share of the memory's speed that rows of one request reach (benchmarks/decode.py).
REACHED = 0.65
# Bytes a frame from which the memory decides; smaller networks wait for other things.
LARGE = 200 * 10**6
# The flags of convert that are worth a thought here; "" is the checkpoint as it is.
SHOWN = ("", "-q --q-bits 8", "-q --q-bits 4")


@dataclass(frozen=True)
class Pace:
    """An estimate of how fast one request is spoken, the codec not counted.

    Attributes:
        frame_bytes: bytes of weights that a frame reads.
        times_real_time: seconds of audio a second.
    """

    frame_bytes: int
    times_real_time: float


def paces(directory: Path, config: MossConfig) -> Mapping[str, Pace]:
    """Flags of convert -> the pace of such a copy, "" for the checkpoint itself; empty where memory does not decide.

    Raises:
        CheckpointError: weights that do not fit the config.
    """
    if not (on_cpu() and packed.state().in_use) or _frame_bytes(directory, config, None) < LARGE:
        return {}
    ways = SHOWN if config.quantization is None else SHOWN[:1]
    sizes = {way: _frame_bytes(directory, config, WAYS.get(way)) for way in ways}
    bandwidth = max(read_bandwidth(256, 3).values())
    return {way: Pace(size, REACHED * bandwidth / size / FRAME_RATE) for way, size in sizes.items()}


def copies_of(found: Mapping[str, Pace]) -> Mapping[str, Pace]:
    """The conversions alone."""
    return {way: pace for way, pace in found.items() if way}


def _frame_bytes(directory: Path, config: MossConfig, recipe: Recipe | None) -> int:
    """Bytes that a frame reads, of weights that nobody has read yet."""
    network, _ = unread_network(config, read_weights(directory))
    kind = ARCHITECTURES[type(config)]
    if recipe is not None:
        precision = recipe.low

        def wanted(path: str, module: nn.Module) -> bool:
            weight: mx.array = module["weight"]
            return quantizable(path, module, kind.protected) and precision.fits(weight.shape)

        quantize(network, precision.block, wanted)
    return kind(config, network).bytes_per_frame()
