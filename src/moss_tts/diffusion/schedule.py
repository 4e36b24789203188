"""The times of the steps from noise to sound."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TIMES = 1000


@dataclass(frozen=True, eq=False)
class Schedule:
    """How much noise is left at each step.

    Attributes:
        sigmas: float32 (steps,), the share of noise before each step; after the last it is 0.
        timesteps: float32 (steps,), the times that the transformer is told, 0..1000.
    """

    sigmas: np.ndarray
    timesteps: np.ndarray

    @classmethod
    def of(cls, steps: int, shift: float) -> Schedule:
        """The schedule of a number of steps; a shift above 1 spends more of them on the beginning.

        A sigma comes from its step and not from its timestep: for shifts so large that timesteps coincide, upstream
        finds the wrong one.
        """
        # Upstream counts in steps of float32, from the nearer end.
        index, step = np.arange(steps), float(np.float32(1 / steps))
        even = np.where(index < (steps + 1) // 2, 1 - step * index, step * (steps - index)).astype(np.float32)
        sigmas = np.float32(shift) * even / (1 + np.float32(shift - 1) * even)
        return cls(sigmas, sigmas * np.float32(TIMES))

    @property
    def changes(self) -> np.ndarray:
        """How far each step goes: float32 (steps,), all below 0."""
        return np.diff(self.sigmas, append=np.float32(0))
