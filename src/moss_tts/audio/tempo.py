"""Audio played faster or slower at the same pitch, by FFmpeg's filter atempo through PyAV.

The filter carries its state, so the result does not depend on how the audio was cut into chunks.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Final

import numpy as np

from moss_tts.errors import AudioError

SLOWEST: Final = 0.25
FASTEST: Final = 4.0
# Beyond these factors one filter drops samples, or does not exist; several follow each other then.
_LEAST_FACTOR, _MOST_FACTOR = 0.5, 2.0
# Seconds of silence behind the audio: the filter keeps its last window back until more follows.
_SILENCE = 0.5
# Seconds that the filter is given at a time, always as many: it gives as much back, and keeps what is not full.
_SLICE = 0.01
_LAYOUTS = {1: "mono", 2: "stereo"}


def require_tempo() -> Any:
    """PyAV, which changes the speed.

    Raises:
        AudioError: it is not installed.
    """
    try:
        return importlib.import_module("av")
    except ImportError as error:
        raise AudioError("speed is changed with PyAV: pip install 'moss-tts-mlx[av]'.") from error


class Tempo:
    """One stream of audio at another speed. N samples become round(N / speed).

    Args:
        speed: how many seconds of audio are played in one second, SLOWEST to FASTEST.
        sample_rate: the sample rate, in Hz.
        channels: the channels of the audio, 1 or 2.

    Raises:
        AudioError: PyAV is not installed.
    """

    def __init__(self, speed: float, sample_rate: int, channels: int) -> None:
        self._av = require_tempo()
        self._speed, self._rate, self._layout = speed, sample_rate, _LAYOUTS[channels]
        self._taken = self._given = 0
        self._slice = max(1, round(_SLICE * sample_rate))
        self._waiting: list[np.ndarray] = []
        # The filters do not keep their graph alive.
        self._graph = graph = self._av.filter.Graph()
        self._source = graph.add_abuffer(
            sample_rate=sample_rate, format="flt", layout=self._layout, time_base=Fraction(1, sample_rate)
        )
        self._sink = graph.add("abuffersink")
        graph.link_nodes(
            self._source, *(graph.add("atempo", f"{factor:.9f}") for factor in _factors(speed)), self._sink
        )
        graph.configure()

    def feed(self, audio: np.ndarray, is_last: bool) -> np.ndarray:
        """What the next samples, float32 (S,) or (S, C), complete; the last ones complete all."""
        rest = [np.zeros((round(_SILENCE * self._rate), *audio.shape[1:]), np.float32)] if is_last else []
        waiting = np.concatenate([*self._waiting, audio, *rest])
        whole = len(waiting) - len(waiting) % self._slice
        self._waiting = [waiting[whole:]]
        self._taken += len(audio)
        made = np.concatenate([audio[:0], *self._through(waiting[:whole])])
        if is_last:
            made = made[: max(0, round(self._taken / self._speed) - self._given)]
        self._given += len(made)
        return made

    def _through(self, audio: np.ndarray) -> Iterator[np.ndarray]:
        """What the filter gives after these whole slices."""
        for start in range(0, len(audio), self._slice):
            samples = np.ascontiguousarray(audio[start : start + self._slice], dtype=np.float32).reshape(1, -1)
            frame = self._av.AudioFrame.from_ndarray(samples, format="flt", layout=self._layout)
            frame.sample_rate = self._rate
            self._source.push(frame)
            yield from self._pulled(audio.shape[1:])

    def _pulled(self, channels: tuple[int, ...]) -> Iterator[np.ndarray]:
        while True:
            try:
                made = self._sink.pull()
            except self._av.error.BlockingIOError:
                return
            yield made.to_ndarray().reshape(-1, *channels)


def _factors(speed: float) -> list[float]:
    """Equal factors of a speed, few and each within the filter's bounds."""
    count = max(1, math.ceil(max(math.log(speed, _MOST_FACTOR), math.log(speed, _LEAST_FACTOR))))
    return [speed ** (1 / count)] * count
