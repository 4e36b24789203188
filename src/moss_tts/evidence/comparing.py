"""Comparisons that say in a sentence how much differs, and where.

A check calls them; the first that does not hold ends the check.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import mlx.core as mx
import numpy as np

from moss_tts.errors import CheckFailedError

Array = np.ndarray | mx.array
TOLERANCE = 1e-4

_shares: ContextVar[list[float] | None] = ContextVar("shares", default=None)


@contextmanager
def measured() -> Iterator[list[float]]:
    """Collect the largest difference of each `close` inside, as a share of the difference that is allowed."""
    shares: list[float] = []
    token = _shares.set(shares)
    try:
        yield shares
    finally:
        _shares.reset(token)


def close(made: Array, wanted: Array, name: str, allowed: float | np.ndarray = TOLERANCE) -> None:
    """Compare numbers.

    Args:
        made: the numbers that were computed here.
        wanted: numbers of the same shape.
        name: what the numbers are, for the error.
        allowed: the largest difference that passes, for all numbers or for each.

    Raises:
        CheckFailedError: the shapes differ, or a difference is larger.
    """
    ours, theirs = _of_one_shape(made, wanted, name)
    difference = np.abs(ours.astype(np.float64) - theirs.astype(np.float64))
    if (shares := _shares.get()) is not None and difference.size:
        shares.append(float((difference / allowed).max()))
    # Not a number is never close.
    if (too_far := ~(difference <= allowed)).any():
        most = float(np.broadcast_to(allowed, difference.shape)[too_far].min())
        raise CheckFailedError(
            f"{name}: {too_far.sum()} of {difference.size} numbers differ by more than {most:g}; the largest "
            f"difference is {difference.max():g}."
        )


def same(made: Array, wanted: Array, name: str) -> None:
    """Compare whole numbers, or floats bit for bit.

    Args:
        made: the values that were computed here.
        wanted: values of the same shape.
        name: what the values are, for the error.

    Raises:
        CheckFailedError: the shapes or the values differ.
    """
    ours, theirs = _of_one_shape(made, wanted, name)
    if (differs := ours != theirs).any():
        place = tuple(int(index) for index in np.argwhere(differs)[0])
        raise CheckFailedError(
            f"{name}: {differs.sum()} of {differs.size} values differ; the first, at {place}, is {ours[place]} instead "
            f"of {theirs[place]}."
        )


def require(holds: bool, sentence: str) -> None:
    """Fail with a sentence that says what was found, unless something holds.

    Raises:
        CheckFailedError: it does not.
    """
    if not holds:
        raise CheckFailedError(sentence)


def _of_one_shape(made: Array, wanted: Array, name: str) -> tuple[np.ndarray, np.ndarray]:
    ours, theirs = np.array(made), np.array(wanted)
    require(ours.shape == theirs.shape, f"{name}: the shape is {ours.shape} instead of {theirs.shape}.")
    return ours, theirs
