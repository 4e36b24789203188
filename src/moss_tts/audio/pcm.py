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
# The name and the size of the samples, at its end.
_DATA_BYTES = 8


def as_pcm(audio: npt.ArrayLike) -> Pcm:
    """Floats (S,) or (S, C) in -1..1 as 16-bit samples; what lies beyond is clipped."""
    scaled = np.rint(np.asarray(audio, dtype=np.float32) * FULL_SCALE)
    return np.clip(scaled, -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)


def as_float(pcm: Pcm) -> npt.NDArray[np.float32]:
    """The floats that `as_pcm` turns into these samples again."""
    return pcm.astype(np.float32) / np.float32(FULL_SCALE)


def wav_header(sample_rate: int, channels: int, data_bytes: int, mark: str | None = None) -> bytes:
    """The bytes before that much PCM, 44 without a mark; MAX_WAV_BYTES and more stands for an unknown length."""
    frame = channels * BYTES_PER_SAMPLE
    info = b"" if mark is None else _info(mark.encode())
    riff = min(data_bytes + WAV_HEADER.size + len(info) - 8, MAX_WAV_BYTES)
    data = min(data_bytes, MAX_WAV_BYTES)
    layout = (b"fmt ", 16, 1, channels, sample_rate, sample_rate * frame, frame, 8 * BYTES_PER_SAMPLE)
    header = WAV_HEADER.pack(b"RIFF", riff, b"WAVE", *layout, b"data", data)
    return header[:-_DATA_BYTES] + info + header[-_DATA_BYTES:]


def _info(comment: bytes) -> bytes:
    """A chunk with a comment, which ends with a zero and has an even length."""
    ended = comment + b"\0" * (2 - len(comment) % 2)
    chunk = struct.pack("<4s4sI", b"INFO", b"ICMT", len(ended)) + ended
    return struct.pack("<4sI", b"LIST", len(chunk)) + chunk
