"""How long a turn's listener had to wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class TurnTimings:
    """What a listener of a turn had to wait for; in seconds from the turn's beginning.

    Attributes:
        first_text: when the first text came; None before it.
        first_sound: when the first sound was made; None before it.
        starved: seconds in which a listener would have heard a gap: all sound made until then was played.
        underruns: such gaps.
    """

    first_text: float | None = None
    first_sound: float | None = None
    starved: float = 0.0
    underruns: int = 0


class TurnClock:
    """Measures a turn.

    Args:
        now: the time in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now, self._began, self._told = now, now(), now()
        self._first_text: float | None = None
        self._first_sound: float | None = None
        # When the sound would be at its end, played as it is made.
        self._plays_until = 0.0
        self._starved, self._underruns = 0.0, 0

    @property
    def timings(self) -> TurnTimings:
        """What was measured so far."""
        return TurnTimings(self._first_text, self._first_sound, self._starved, self._underruns)

    def text(self) -> None:
        """Text has come."""
        if self._first_text is None:
            self._first_text = self._now() - self._began

    def sound(self, seconds: float) -> float:
        """Sound was made; returns the seconds since the sound before it, or since the beginning."""
        now, before = self._now(), self._told
        self._told = now
        if seconds:
            if self._first_sound is None:
                self._first_sound, self._plays_until = now - self._began, now
            gap = now - self._plays_until
            if gap > 0:
                self._starved, self._underruns = self._starved + gap, self._underruns + 1
            self._plays_until = max(now, self._plays_until) + seconds
        return now - before
