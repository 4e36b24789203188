"""How long a step of MOSS-SoundEffect v2 takes, with random weights of the published shapes.

It is compared with what the machine's products of matrices reach, at the shapes of the feed-forward layers. Both take
turns, and medians are compared, because a machine's speed changes. Blocks are alike, so some of them are timed and
the step is told from that: on two cores a whole one takes half a minute.

    python benchmarks/diffusion.py [--blocks 2] [--rounds 7] [--sounds 1] [--guidance 4]
"""

from __future__ import annotations

import moss_tts  # isort: skip  # noqa: F401 - OpenBLAS comes before mlx

import argparse
import time
from collections.abc import Callable
from dataclasses import replace

import mlx.core as mx
import numpy as np
from mlx.utils import tree_map

from moss_tts.diffusion.config import TransformerConfig
from moss_tts.diffusion.sampler import Guide
from moss_tts.diffusion.transformer import DiffusionTransformer

PUBLISHED = TransformerConfig(
    channels=128, text_width=2048, time_width=256, width=1536, hidden=8960, heads=12, layers=30, eps=1e-6
)
LATENTS, TOKENS = 1500, 20


def products(config: TransformerConfig, passes: int, described: int) -> float:
    """Multiplications and additions of a block, in pairs: what is left of upstream's."""
    rows, width = LATENTS, config.width
    alone = 4 * rows * width**2 + 2 * rows**2 * width + 2 * rows * width * config.hidden
    from_text = 2 * rows * width**2 + 2 * rows * (TOKENS + 1) * width
    return passes * alone + described * from_text


def seconds(work: Callable[[], mx.array]) -> float:
    """How long one run takes."""
    started = time.perf_counter()
    mx.eval(work())
    return time.perf_counter() - started


def in_turns(rounds: int, *works: Callable[[], mx.array]) -> list[float]:
    """The median of some runs of each, after one that does not count."""
    for work in works:
        mx.eval(work())
    taken = [[seconds(work) for work in works] for _ in range(rounds)]
    print("seconds of each run:", "  ".join(", ".join(f"{one:.3f}" for one in row) for row in zip(*taken, strict=True)))
    return [float(median) for median in np.median(taken, axis=0)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--sounds", type=int, default=1)
    parser.add_argument("--guidance", type=float, default=4.0)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    asked = parser.parse_args()
    network = DiffusionTransformer(replace(PUBLISHED, layers=asked.blocks))
    network.update(tree_map(lambda value: 0.02 * mx.random.normal(value.shape), network.parameters()))
    if asked.dtype == "bfloat16":
        for block in network.blocks:
            block.set_dtype(mx.bfloat16, lambda kind: kind == mx.float32)
    mx.eval(network.parameters())
    hidden = [mx.random.normal((TOKENS, PUBLISHED.text_width)) for _ in range(asked.sounds)]
    guide = Guide.of(network, hidden, mx.zeros((0, PUBLISHED.text_width)), asked.guidance)
    passes = len(guide.sounds)
    latents = mx.random.normal((passes, PUBLISHED.channels, LATENTS))
    [moment] = network.times(np.array([700.0]))
    x = mx.random.normal((passes * LATENTS, PUBLISHED.width))
    w = mx.random.normal((PUBLISHED.hidden, PUBLISHED.width))
    mx.eval(x, w)
    product, whole = in_turns(asked.rounds, lambda: x @ w.T, lambda: network(latents, moment, guide.text))
    best = x.shape[0] * w.size / product
    pairs = products(PUBLISHED, passes, asked.sounds)
    per_block = whole / asked.blocks
    print(f"products of matrices: {best / 1e9:.0f} G pairs/s")
    print(f"a block: {per_block:.3f} s for {pairs / 1e9:.0f} G pairs, {pairs / per_block / best:.0%} of the peak")
    print(f"a step of {PUBLISHED.layers} blocks: {PUBLISHED.layers * per_block:.1f} s")


if __name__ == "__main__":
    main()
