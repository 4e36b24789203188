"""Noise becomes latents, step by step: guided velocities, added up (Euler)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from moss_tts.diffusion.schedule import Schedule
from moss_tts.diffusion.transformer import DiffusionTransformer, Text


@dataclass(frozen=True, eq=False)
class Guide:
    """The passes of a step, as one batch.

    Attributes:
        text: the descriptions of all passes.
        wanted: the pass that has each sound's description.
        unwanted: the pass that has what it is guided away from; None if no sound is guided.
        strength: how far it is guided; 1 is not at all.
    """

    text: Text
    wanted: list[int]
    unwanted: list[int] | None
    strength: float

    @staticmethod
    def of(network: DiffusionTransformer, described: Sequence[mx.array], negative: mx.array, strength: float) -> Guide:
        """The passes that some sounds need; equal texts need one pass each.

        Args:
            network: the transformer.
            described: hidden states (n, D) of each sound's description.
            negative: hidden states of what the sounds are guided away from; (0, D) if that is nothing.
            strength: guidance; at 1 there is nothing to guide away from.
        """
        hidden = list(described)
        guided = strength != 1 and any(not same(one, negative) for one in hidden)
        passes = hidden + [negative] * len(hidden) if guided else hidden
        order = sorted(range(len(passes)), key=lambda place: len(passes[place]) == 0)
        place = {old: new for new, old in enumerate(order)}
        count = len(hidden)
        wanted = [place[index] for index in range(count)]
        unwanted = [place[count + index] for index in range(count)] if guided else None
        return Guide(network.text([passes[old] for old in order]), wanted, unwanted, strength)

    @property
    def sounds(self) -> list[int]:
        """The sound of each pass."""
        passes = self.wanted + (self.unwanted or [])
        return [place % len(self.wanted) for place in np.argsort(passes).tolist()]

    def velocity(self, passes: mx.array) -> mx.array:
        """The velocity of each sound, from those of all passes."""
        wanted = passes[mx.array(self.wanted)]
        if self.unwanted is None:
            return wanted
        unwanted = passes[mx.array(self.unwanted)]
        return unwanted + self.strength * (wanted - unwanted)


def same(one: mx.array, other: mx.array) -> bool:
    """Whether two texts have the same hidden states."""
    return one.shape == other.shape and bool(mx.array_equal(one, other))


def denoise(network: DiffusionTransformer, guide: Guide, noise: mx.array, schedule: Schedule) -> Iterator[mx.array]:
    """The latents after each step, float32 (B, C, T), computed.

    Args:
        network: the transformer.
        guide: the passes of a step.
        noise: float32 (B, C, T).
        schedule: the times of the steps.
    """
    latents, sounds = noise, mx.array(guide.sounds)
    for time, change in zip(network.times(schedule.timesteps), schedule.changes.tolist(), strict=True):
        latents = latents + change * guide.velocity(network(latents[sounds], time, guide.text))
        mx.eval(latents)
        yield latents
