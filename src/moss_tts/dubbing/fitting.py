"""Speech to the time of its cue: silence at its ends taken away, its tempo changed within bounds, its end cut off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from moss_tts.audio.tempo import FASTEST, SLOWEST, Tempo
from moss_tts.errors import RequestError
from moss_tts.speaking.runaway import QUIET_BELOW_LOUDEST, QUIET_LEVEL
from moss_tts.strict import is_number

# Seconds of a step in which the level is measured, and of silence that stays before and after the words.
_STEP: Final = 0.01
_KEPT_BEFORE, _KEPT_AFTER = 0.01, 0.03
# Seconds in which speech that is cut off becomes silent.
_FADE: Final = 0.02
# What nobody hears: speech may end so much later than its cue.
_TOLERANCE: Final = 0.02


@dataclass(frozen=True)
class Bounds:
    """How far the tempo of speech may be changed.

    Attributes:
        slowest: the slowest tempo, at most 1.
        fastest: the fastest tempo, at least 1.
    """

    slowest: float = 0.8
    fastest: float = 1.5

    def check(self) -> None:
        """Refuse bounds that cannot be.

        Raises:
            RequestError: not within what the tempo filter can do, or 1 is not between them.
        """
        if not is_number(self.slowest) or not SLOWEST <= self.slowest <= 1:
            raise RequestError(f"--slowest must be a number in {SLOWEST:g}..1, got {self.slowest:g}.")
        if not is_number(self.fastest) or not 1 <= self.fastest <= FASTEST:
            raise RequestError(f"--fastest must be a number in 1..{FASTEST:g}, got {self.fastest:g}.")

    def tempo(self, spoken: float, wanted: float) -> float:
        """The tempo at which so many seconds of speech come nearest to those that are wanted.

        Speech that would not fill its time even at the slowest tempo keeps its own: it would drag for nothing.
        """
        if spoken > wanted:
            return min(spoken / wanted, self.fastest) if wanted > 0 else self.fastest
        return spoken / wanted if spoken >= self.slowest * wanted else 1.0


@dataclass(frozen=True)
class Room:
    """The time that a cue has in a film, in seconds.

    Attributes:
        start: when its words begin.
        end: when it goes.
        limit: when the next one begins; infinite for the last.
    """

    start: float
    end: float
    limit: float

    @property
    def seconds(self) -> float:
        """The time that its words should take."""
        return min(self.end, self.limit) - self.start


@dataclass(frozen=True)
class Fit:
    """How speech came to fit its room.

    Attributes:
        room: the time of its cue.
        spoken: seconds that the model spoke, without silence at the ends.
        tempo: the tempo that it was given.
        placed: seconds that it has in the track.
    """

    room: Room
    spoken: float
    tempo: float
    placed: float

    @property
    def late(self) -> float:
        """Seconds by which it ends after its cue."""
        return max(0.0, self.room.start + self.placed - self.room.end)

    @property
    def lost(self) -> float:
        """Seconds that were cut off at its end, because the next cue begins."""
        return max(0.0, self.spoken / self.tempo - self.placed)

    @property
    def needed(self) -> float:
        """The tempo at which all of it would end with its cue."""
        return self.spoken / self.room.seconds

    @property
    def is_fit(self) -> bool:
        """Whether it ends with its cue or before, whole."""
        return self.late <= _TOLERANCE and self.lost <= _TOLERANCE


def rooms_of(times: Sequence[tuple[float, float]]) -> list[Room]:
    """The time that cues have with these starts and ends, in the order of time; no two starts are equal.

    A cue that goes when it appears, or before, has the time until the next one.
    """
    limits = [*(following[0] for _, following in pairwise(times)), np.inf]
    rooms = []
    for (start, end), limit in zip(times, limits, strict=True):
        rooms.append(Room(start, end if end > start else limit, limit))
    return rooms


def fitted(audio: np.ndarray, sample_rate: int, room: Room, bounds: Bounds) -> tuple[np.ndarray, Fit]:
    """Speech as it is placed in its room, and how it fits.

    Args:
        audio: float32 (S,) or (S, C), as the model spoke it.
        sample_rate: its sample rate, in Hz.
        room: the time of its cue.
        bounds: how far the tempo may be changed.

    Raises:
        AudioError: PyAV, which changes the tempo, is not installed.
    """
    words = trimmed(audio, sample_rate)
    spoken = len(words) / sample_rate
    tempo = bounds.tempo(spoken, room.seconds)
    if tempo != 1:
        words = Tempo(tempo, sample_rate, 1 if words.ndim == 1 else words.shape[1]).feed(words, is_last=True)
    if np.isfinite(room.limit):
        # As the track counts: the next one may begin at any sample.
        most = round(room.limit * sample_rate) - round(room.start * sample_rate)
        if len(words) > most:
            words = _faded(words[:most], round(_FADE * sample_rate))
    return words, Fit(room, spoken, tempo, len(words) / sample_rate)


def trimmed(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """Speech without the silence at its ends; audio that is silent throughout stays as it is."""
    step = max(1, round(_STEP * sample_rate))
    mono = audio if audio.ndim == 1 else audio.mean(axis=1)
    padded = np.pad(mono.astype(np.float64), (0, -len(mono) % step))
    levels = np.sqrt(np.mean(np.square(padded.reshape(-1, step)), axis=1))
    loud = np.flatnonzero(levels >= max(QUIET_LEVEL, QUIET_BELOW_LOUDEST * levels.max(initial=0.0)))
    if not len(loud):
        return audio
    first = loud[0] * step - round(_KEPT_BEFORE * sample_rate)
    last = (loud[-1] + 1) * step + round(_KEPT_AFTER * sample_rate)
    return audio[max(0, first) : last]


def _faded(audio: np.ndarray, fade: int) -> np.ndarray:
    """The audio with its end made silent."""
    width = min(fade, len(audio))
    down = np.linspace(1, 0, width, dtype=audio.dtype).reshape((width,) + (1,) * (audio.ndim - 1))
    return np.concatenate([audio[: len(audio) - width], audio[len(audio) - width :] * down])
