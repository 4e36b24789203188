"""16-bit samples: what is written to files as it is made, and kept of a reading; and the header of a WAV file."""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

Pcm = npt.NDArray[np.int16]
FULL_SCALE = 2**15
BYTES_PER_SAMPLE = 2
# Sizes in a WAV are 32 bits wide; this is also what stands there when the end is not known.
MAX_WAV_BYTES = 2**32 - 1
WAV_HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")


def as_pcm(audio: npt.ArrayLike) -> Pcm:
    """Floats (S,) or (S, C) in -1..1 as 16-bit samples; what lies beyond is clipped."""
    scaled = np.rint(np.asarray(audio, dtype=np.float32) * FULL_SCALE)
    return np.clip(scaled, -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)


def as_float(pcm: Pcm) -> npt.NDArray[np.float32]:
    """The floats that `as_pcm` turns into these samples again."""
    return pcm.astype(np.float32) / np.float32(FULL_SCALE)


def wav_header(sample_rate: int, channels: int, data_bytes: int) -> bytes:
    """The 44 bytes before that much PCM; MAX_WAV_BYTES and more stands for an unknown length."""
    frame = channels * BYTES_PER_SAMPLE
    riff = min(data_bytes + WAV_HEADER.size - 8, MAX_WAV_BYTES)
    data = min(data_bytes, MAX_WAV_BYTES)
    layout = (b"fmt ", 16, 1, channels, sample_rate, sample_rate * frame, frame, 8 * BYTES_PER_SAMPLE)
    return WAV_HEADER.pack(b"RIFF", riff, b"WAVE", *layout, b"data", data)
