"""How a prompt is read: in parts, between which others can have their turn."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from moss_tts.device.kernels import on_cpu

T = TypeVar("T")
# Yields after each part how many rows are read by now, and returns what is wanted of the prompt.
Reading: TypeAlias = Generator[int, None, T]


@dataclass(frozen=True)
class PartSizes:
    """How much of a prompt is read at a time. Attention takes memory and time for each row and each row before it.

    Attributes:
        rows: at most.
        products: rows times the rows that they see, at most.
    """

    rows: int
    products: int


# On a CPU, others wait for a part as long as for a few of their rows; more rows at a time would not be faster. A GPU is
# fast with many, and its kernels take no memory for attention.
ON_CPU, ON_GPU = PartSizes(64, 2**16), PartSizes(512, 2**21)


def parts(start: int, end: int, requests: int = 1) -> Iterator[tuple[int, int]]:
    """Where to cut the rows from `start` up to `end`."""
    sizes = ON_CPU if on_cpu() else ON_GPU
    while start < end:
        count = max(1, min(sizes.rows, sizes.products // (requests * (start + sizes.rows))))
        yield start, min(start + count, end)
        start += count


def whole(reading: Reading[T]) -> T:
    """What a reading returns, all parts read at once."""
    while True:
        try:
            next(reading)
        except StopIteration as end:
            result: T = end.value
            return result
