"""Seams between segments of audio: how each sounds, in numbers, and optional treatment of them.

Waveforms are float arrays, (S,) or (S, C) with C channels.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

Waveform: TypeAlias = npt.NDArray[np.floating]
BoundaryNote = Literal["segment-start", "seam-clean", "discontinuity-flagged"]

# What is listened to on each side of a seam.
SEAM_SECONDS = 0.02
MAX_NORMALIZED_JUMP = 1.5
MAX_ENERGY_RATIO = 3.0
# RMS of full scale, -60 dB: below room noise in a quiet recording.
SILENCE_LEVEL = 1e-3
# What trimming leaves on each side of a seam: with less, words run together.
KEPT_SILENCE_SECONDS = 0.15
_EPSILON = 1e-8


@dataclass(frozen=True)
class BoundaryMetrics:
    """One seam between two segments.

    Attributes:
        normalized_jump: step from the last sample to the first, by the RMS of the louder side.
        energy_ratio: RMS of the louder side by that of the quieter.
        is_pause: one side is silent, so neither figure means a discontinuity.
    """

    normalized_jump: float
    energy_ratio: float
    is_pause: bool

    @property
    def jump_flagged(self) -> bool:
        """A click."""
        return not self.is_pause and self.normalized_jump > MAX_NORMALIZED_JUMP

    @property
    def energy_flagged(self) -> bool:
        """A sudden change of level."""
        return not self.is_pause and self.energy_ratio > MAX_ENERGY_RATIO

    @property
    def note(self) -> BoundaryNote:
        """The verdict, as the metrics of the segment behind the seam carry it."""
        return "discontinuity-flagged" if self.jump_flagged or self.energy_flagged else "seam-clean"


def evaluate_segment_boundary(left: Waveform, right: Waveform, sample_rate: int) -> BoundaryMetrics:
    """Measure the seam from left to right, (S,) or (S, C) each; an empty side is silent."""
    width = round(SEAM_SECONDS * sample_rate)
    before, after = _mono(left[-width:]), _mono(right[:width])
    quieter, louder = sorted((_rms(before), _rms(after)))
    last, first = (before[-1] if len(before) else 0.0), (after[0] if len(after) else 0.0)
    return BoundaryMetrics(
        normalized_jump=float(abs(last - first)) / max(louder, _EPSILON),
        energy_ratio=(louder + _EPSILON) / (quieter + _EPSILON),
        is_pause=quieter < SILENCE_LEVEL,
    )


def _mono(audio: Waveform) -> npt.NDArray[np.float64]:
    """(S,) or (S, C) -> (S,), the mean of the channels."""
    wide: npt.NDArray[np.float64] = np.asarray(audio, dtype=np.float64)
    return wide if wide.ndim == 1 else wide.mean(axis=1)


def _rms(mono: npt.NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(np.square(mono)))) if len(mono) else 0.0


@dataclass(frozen=True, eq=False)
class SegmentAudio:
    """A segment's audio (S,) or (S, C), and what tells the voices at its ends apart from others."""

    audio: Waveform
    first_voice: Hashable = None
    last_voice: Hashable = None


def join_segments(
    segments: Iterable[SegmentAudio],
    sample_rate: int,
    *,
    crossfade_ms: float = 0.0,
    trim_silence: bool = False,
) -> Iterator[Waveform]:
    """The audio of all segments in order, one array for each, its seams treated as asked for.

    A seam where the voice changes is left as it is. Holds one segment at a time. With neither treatment
    the arrays are those given.
    """
    treatment = _Treatment(round(crossfade_ms * sample_rate / 1000), sample_rate if trim_silence else 0)
    left: SegmentAudio | None = None
    for right in segments:
        if left is not None:
            if left.last_voice == right.first_voice:
                ended, right = treatment.apply(left, right)
            else:
                ended = left.audio
            yield ended
        left = right
    if left is not None:
        yield left.audio


@dataclass(frozen=True)
class _Treatment:
    """Crossfade in samples, 0 for none; the rate at which silence is trimmed, 0 for not."""

    fade: int
    trim_rate: int

    def apply(self, left: SegmentAudio, right: SegmentAudio) -> tuple[Waveform, SegmentAudio]:
        """The final audio of left, and right with its beginning treated."""
        before, after = left.audio, right.audio
        if self.trim_rate:
            kept = round(KEPT_SILENCE_SECONDS * self.trim_rate)
            before = before[: len(before) - _silent_samples(before[::-1], self.trim_rate, kept)]
            after = after[_silent_samples(after, self.trim_rate, kept) :]
        # Half of each at most: the other half may take part in the next seam.
        overlap = min(self.fade, len(before) // 2, len(after) // 2)
        if overlap:
            after = np.concatenate([_crossfade(before[-overlap:], after[:overlap]), after[overlap:]])
            before = before[:-overlap]
        return before, SegmentAudio(after, right.first_voice, right.last_voice)


def _silent_samples(audio: Waveform, sample_rate: int, kept: int) -> int:
    """Samples at the start that trimming takes away; none of a segment that is silent throughout."""
    width = max(1, round(SEAM_SECONDS * sample_rate))
    mono = _mono(audio)
    for start in range(0, len(mono), width):
        if _rms(mono[start : start + width]) >= SILENCE_LEVEL:
            return max(0, start - kept)
    return 0


def _crossfade(left: Waveform, right: Waveform) -> Waveform:
    """Two stretches of equal length, (S,) or (S, C), faded into each other.

    Linear, so the result is never louder than the louder of both and cannot clip.
    """
    shape = (len(left),) + (1,) * (left.ndim - 1)
    up = ((np.arange(len(left)) + 0.5) / len(left)).reshape(shape).astype(left.dtype)
    faded: Waveform = left * (1 - up) + right * up
    return faded
