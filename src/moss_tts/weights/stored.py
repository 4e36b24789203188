"""A tensor in a file: where it begins, its type and shape, its rows; and files that are not weight files."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path

import mlx.core as mx
import numpy as np

from moss_tts.atomic import open_regular
from moss_tts.errors import CheckpointError

# Types by their size alone, for moving bytes.
RAW = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
# The beginning of a file that git-lfs leaves instead of a large one.
LFS_POINTER = b"version https://git-lfs.github.com/spec/"


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file.

    Attributes:
        file: the file.
        start: its first byte there.
        dtype: its type.
        shape: its shape.
        strides: values from one index to the next, per axis; None if the last axis counts fastest, without gaps.
        is_double: whether the file has 64-bit floats; they are read as float32.
    """

    file: Path
    start: int
    dtype: mx.Dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None = None
    is_double: bool = False

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor once it is read."""
        return prod(self.shape) * self.dtype.size

    def rows(self, first: int, last: int) -> mx.array:
        """Rows first..last - 1 of the first axis, read now.

        Raises:
            CheckpointError: the file ends before them.
        """
        shape = (last - first, *self.shape[1:])
        if self.strides is None:
            per_row = prod(self.shape[1:])
            return self._array(self._values(first * per_row, prod(shape)).reshape(shape))
        span = 1 + sum((count - 1) * step for count, step in zip(shape, self.strides, strict=True))
        values = self._values(first * self.strides[0], span if prod(shape) else 0)
        steps = [step * values.itemsize for step in self.strides]
        return self._array(np.lib.stride_tricks.as_strided(values, shape, steps, writeable=False))

    def whole(self) -> mx.array:
        """The whole tensor, read now."""
        return self.rows(0, self.shape[0] if self.shape else 1).reshape(self.shape)

    def _values(self, first: int, count: int) -> np.ndarray:
        """Neighbouring values of the file, counted from the tensor's first."""
        raw = np.float64 if self.is_double else RAW[self.dtype.size]
        values = np.fromfile(self.file, raw, count=count, offset=self.start + first * np.dtype(raw).itemsize)
        if len(values) != count:
            raise CheckpointError(f"{self.file} has become shorter since it was opened; copy it again.")
        return values

    def _array(self, values: np.ndarray) -> mx.array:
        if self.is_double:
            return mx.array(values.astype(np.float32))
        return mx.array(values).view(self.dtype)


def check_content(path: Path) -> None:
    """Refuse a file that cannot be read, or that git-lfs left instead of a large file.

    Raises:
        CheckpointError: it is such a file, does not exist, or is a pipe or a device.
    """
    try:
        with open_regular(path) as file:
            begin = file.read(len(LFS_POINTER))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist.") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from error
    if begin == LFS_POINTER:
        raise CheckpointError(
            f"{path} is a git-lfs pointer: a few lines in place of the file. Run `git lfs pull` in {path.parent}, "
            "or download the file itself."
        )
