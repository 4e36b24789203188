"""The outline of a waveform, built while audio is made: bounded memory, however long it gets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Levels = npt.NDArray[np.float32]

MAX_BINS = 16_384
FIRST_WIDTH = 64


@dataclass(frozen=True, eq=False)
class Envelope:
    """Least and greatest sample of each stretch of a waveform.

    Attributes:
        low: (N,), N stretches.
        high: (N,).
        width: samples of a stretch; the last may be shorter.
        samples: length of the waveform.
        sample_rate: the sample rate, in Hz.
    """

    low: Levels
    high: Levels
    width: int
    samples: int
    sample_rate: int

    @property
    def seconds(self) -> float:
        """Length of the waveform."""
        return self.samples / self.sample_rate


class EnvelopeBuilder:
    """Takes audio chunk by chunk. When the stretches become too many, neighbours are joined.

    Args:
        sample_rate: the sample rate, in Hz.
        max_bins: most stretches an envelope has; even.
    """

    def __init__(self, sample_rate: int, max_bins: int = MAX_BINS) -> None:
        assert max_bins > 0
        assert max_bins % 2 == 0, "neighbours are joined in pairs"
        self._sample_rate = sample_rate
        self._max_bins = max_bins
        self._width = FIRST_WIDTH
        self._samples = 0
        self._low: Levels = np.zeros(0, np.float32)
        self._high: Levels = np.zeros(0, np.float32)
        # Samples of the stretch not yet full.
        self._rest: Levels = np.zeros(0, np.float32)

    def add(self, chunk: npt.ArrayLike) -> None:
        """Audio (S,) or (S, C) that follows; the channels are averaged."""
        audio: Levels = np.asarray(chunk, dtype=np.float32)
        mono = audio if audio.ndim == 1 else audio.mean(axis=1)
        self._samples += len(mono)
        self._rest = np.concatenate([self._rest, mono])
        while len(self._rest) >= self._width:
            self._take_full_stretches()
            if len(self._low) == self._max_bins:
                self._join_neighbours()

    def build(self) -> Envelope:
        """The envelope of all audio so far."""
        low, high = self._low, self._high
        if len(self._rest):
            low = np.append(low, self._rest.min())
            high = np.append(high, self._rest.max())
        return Envelope(low, high, self._width, self._samples, self._sample_rate)

    def _take_full_stretches(self) -> None:
        count = min(len(self._rest) // self._width, self._max_bins - len(self._low))
        taken = self._rest[: count * self._width].reshape(count, self._width)
        self._low = np.append(self._low, taken.min(axis=1))
        self._high = np.append(self._high, taken.max(axis=1))
        self._rest = self._rest[count * self._width :]

    def _join_neighbours(self) -> None:
        self._low = self._low.reshape(-1, 2).min(axis=1)
        self._high = self._high.reshape(-1, 2).max(axis=1)
        self._width *= 2
