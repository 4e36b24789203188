"""Matrices of audio codes: orientation, range, and the delay pattern.

Integers only; no audio, no text, no model. Letters: F frames, Q codebooks.
"""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from moss_tts.errors import RequestError

CodeMatrix: TypeAlias = npt.NDArray[np.int32]

# No codec of this family has more codebooks; a longer axis must be time.
MAX_CODEBOOKS = 64

# Files that hold one code matrix instead of audio.
CODE_SUFFIXES = (".npy", ".safetensors")


def apply_delay_pattern(codes: npt.ArrayLike, pad: int) -> CodeMatrix:
    """Shift codebook q down by q rows: codes (F, Q) -> rows (F + Q - 1, Q), pad where no code lies."""
    frames = np.asarray(codes, dtype=np.int32)
    n_frames, n_codebooks = frames.shape
    rows = np.full((n_frames + n_codebooks - 1, n_codebooks), pad, dtype=np.int32)
    for q in range(n_codebooks):
        rows[q : q + n_frames, q] = frames[:, q]
    return rows


def orient_codes(codes: object, n_vq: int) -> CodeMatrix:
    """An integer matrix (F, Q) or (Q, F), numpy or mlx -> (F, n_vq) int32, the first n_vq codebooks.

    The codebook axis is the one of n_vq..64 entries; where both axes qualify, the one of exactly n_vq;
    a square matrix is (F, Q).
    """
    matrix = _integer_matrix(codes)
    frames = matrix if _codebook_axis(matrix.shape, n_vq) == 1 else matrix.T
    if frames.shape[0] == 0:
        raise RequestError(f"a code matrix needs at least one frame; got shape {matrix.shape}")
    if frames.min() < 0 or frames.max() > np.iinfo(np.int32).max:
        raise RequestError(f"audio codes cannot be negative or above int32; got {frames.min()} to {frames.max()}")
    return np.ascontiguousarray(frames[:, :n_vq], dtype=np.int32)


def check_code_range(codes: CodeMatrix, audio_vocab_size: int) -> None:
    """Refuse codes (F, Q) outside 0..audio_vocab_size - 1; the pad code is not audio either."""
    if codes.size and (codes.min() < 0 or codes.max() >= audio_vocab_size):
        raise RequestError(f"audio codes must lie in 0..{audio_vocab_size - 1}; got {codes.min()} to {codes.max()}")


def is_code_matrix(value: object) -> bool:
    """Whether value is an array of integers: codes rather than a waveform. Booleans are neither."""
    return "int" in str(getattr(value, "dtype", "")) and hasattr(value, "shape")


def _integer_matrix(codes: object) -> npt.NDArray[np.integer]:
    if not is_code_matrix(codes):
        given = getattr(codes, "dtype", type(codes).__name__)
        raise TypeError(f"audio codes must be an integer array (F, Q) or (Q, F); got {given}{_shape_of(codes)}")
    matrix: npt.NDArray[np.integer] = np.asarray(codes)
    if matrix.ndim != 2:
        raise RequestError(f"audio codes must have two axes, (F, Q) or (Q, F); got shape {matrix.shape}")
    return matrix


def _shape_of(value: object) -> str:
    return f" of shape {tuple(value.shape)}" if hasattr(value, "shape") else ""


def _codebook_axis(shape: tuple[int, ...], n_vq: int) -> int:
    fitting = [axis for axis in (0, 1) if n_vq <= shape[axis] <= MAX_CODEBOOKS]
    if not fitting:
        raise RequestError(
            f"no axis of a code matrix of shape {shape} can hold the codebooks: "
            f"one must have {n_vq}..{MAX_CODEBOOKS} entries"
        )
    if len(fitting) == 1:
        return fitting[0]
    if shape[0] == shape[1] or shape[1] == n_vq:
        return 1
    if shape[0] == n_vq:
        return 0
    raise RequestError(
        f"a code matrix of shape {shape} may be (F, Q) or (Q, F) where {n_vq} codebooks are needed: "
        f"cut it to (F, {n_vq})"
    )
