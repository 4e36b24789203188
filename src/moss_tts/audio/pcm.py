"""16-bit samples: what is written to files as it is made, and kept of a reading."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Pcm = npt.NDArray[np.int16]
FULL_SCALE = 2**15


def as_pcm(audio: npt.ArrayLike) -> Pcm:
    """Floats (S,) or (S, C) in -1..1 as 16-bit samples; what lies beyond is clipped."""
    scaled = np.rint(np.asarray(audio, dtype=np.float32) * FULL_SCALE)
    return np.clip(scaled, -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)


def as_float(pcm: Pcm) -> npt.NDArray[np.float32]:
    """The floats that `as_pcm` turns into these samples again."""
    return pcm.astype(np.float32) / np.float32(FULL_SCALE)
