"""What callers hand to the codec, checked and brought to one shape. Nothing is repaired."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import mlx.core as mx
import numpy as np

from moss_tts.codec.config import CodecConfig
from moss_tts.errors import AudioError, RequestError

# numpy, mlx or nested lists.
Array: TypeAlias = Any


def as_codes(codes: Array, config: CodecConfig, num_quantizers: int | None = None, name: str = "codes") -> mx.array:
    """Codes (Q, F) or (Q, B, F) -> int32 (Q, B, F), cut to the first num_quantizers codebooks.

    Raises:
        RequestError: wrong shape, not integers, out of range, or more codebooks than there are.
    """
    matrix = np.asarray(codes)
    if matrix.dtype.kind not in "iu" or matrix.ndim not in (2, 3):
        raise RequestError(f"{name} must be integers of shape (Q, F) or (Q, B, F); got {matrix.dtype} {matrix.shape}.")
    batch = matrix[:, None] if matrix.ndim == 2 else matrix
    given = batch.shape[0]
    if not 1 <= given <= config.num_quantizers:
        raise RequestError(
            f"{name} of shape {matrix.shape} have {given} codebooks; this codec has {config.num_quantizers}."
        )
    batch = batch[: check_num_quantizers(num_quantizers, given)]
    if batch.size and (batch.min() < 0 or batch.max() > config.codebook_size):
        raise RequestError(
            f"{name} must lie in 0..{config.codebook_size - 1} ({config.codebook_size} for none); "
            f"got {batch.min()} to {batch.max()}."
        )
    return mx.array(batch.astype(np.int32))


def as_samples(audio: Array, config: CodecConfig, name: str = "audio", least_frames: int = 1) -> mx.array:
    """Audio (S,), (C, S) or (B, C, S) -> float32 (B, C, S).

    Raises:
        AudioError: wrong shape, not floats, not finite, or shorter than `least_frames` frames.
    """
    samples = audio if isinstance(audio, mx.array) else mx.array(np.asarray(audio))
    if not mx.issubdtype(samples.dtype, mx.floating):
        raise AudioError(f"{name} must be floats, full scale at 1; got {samples.dtype}.")
    channels, rank = config.channels, samples.ndim
    if rank not in (1, 2, 3) or (1 if rank == 1 else samples.shape[-2]) != channels:
        allowed = "(S,), (1, S) or (B, 1, S)" if channels == 1 else f"({channels}, S) or (B, {channels}, S)"
        raise AudioError(f"{name} must have shape {allowed} for this codec; got {samples.shape}.")
    if samples.shape[-1] < least_frames * config.downsample_rate:
        raise AudioError(
            f"{name} has {samples.shape[-1]} samples, fewer than the {config.downsample_rate} of one frame."
        )
    batch = samples.shape[0] if rank == 3 else 1
    samples = samples.astype(mx.float32).reshape(batch, channels, samples.shape[-1])
    if not mx.isfinite(samples).all().item():
        raise AudioError(f"{name} has samples that are not finite numbers.")
    return samples


def check_num_quantizers(asked: int | None, available: int) -> int:
    """How many codebooks to use: as asked, or all.

    Raises:
        RequestError: fewer than one, or more than are available.
    """
    if asked is None:
        return available
    if not 1 <= asked <= available:
        raise RequestError(f"num_quantizers must lie in 1..{available}, got {asked}.")
    return asked


def check_chunk(frames: int) -> None:
    """Refuse a chunk of no frames."""
    if frames < 1:
        raise RequestError(f"chunk_frames must be at least 1, got {frames}.")


def check_counts(counts: Sequence[int], batch: int, frames: int) -> None:
    """Refuse counts that do not give every one of `batch` rows between 0 and `frames` frames."""
    if len(counts) != batch or not all(0 <= count <= frames for count in counts):
        raise RequestError(f"counts must give each of the {batch} rows 0..{frames} frames; got {list(counts)}.")


def check_same_depth(rows: Sequence[mx.array]) -> None:
    """Refuse codes (Q, ...) of different Q: a batch has one number of codebooks."""
    depths = sorted({row.shape[0] for row in rows})
    if len(depths) > 1:
        raise RequestError(f"all codes must have the same number of codebooks, got {depths}; num_quantizers cuts them.")


def pad_rows(rows: Sequence[mx.array], value: float) -> mx.array:
    """Rows (..., n) of different lengths -> (B, ..., longest), filled up behind.

    Raises:
        RequestError: there are no rows.
    """
    if not rows:
        raise RequestError("a batch needs at least one item.")
    longest = max(row.shape[-1] for row in rows)
    return mx.stack(
        [mx.pad(row, [(0, 0)] * (row.ndim - 1) + [(0, longest - row.shape[-1])], constant_values=value) for row in rows]
    )
