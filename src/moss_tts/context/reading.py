"""How a prompt is read: in parts, so that other requests can take a step between them."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from moss_tts.device.kernels import on_cpu

T = TypeVar("T")
# Yields the number of rows read so far after each part; returns the result of the whole prompt.
Reading: TypeAlias = Generator[int, None, T]


@dataclass(frozen=True)
class PartSizes:
    """How much of a prompt is read at a time. Attention takes memory and time for each row and each row before it.

    Attributes:
        rows: the most rows of a part.
        products: the most products of rows and the rows that they see.
    """

    rows: int
    products: int


# On a CPU a part takes as long as a few rows of other requests, which wait for it; smaller parts take more time in
# all. A GPU is fast with many rows, and its kernels take no memory for attention.
ON_CPU, ON_GPU = PartSizes(256, 2**16), PartSizes(512, 2**21)


def parts(start: int, end: int, requests: int = 1) -> Iterator[tuple[int, int]]:
    """The places to cut the rows from `start` to `end`."""
    sizes = ON_CPU if on_cpu() else ON_GPU
    while start < end:
        count = max(1, min(sizes.rows, sizes.products // (requests * (start + sizes.rows))))
        yield start, min(start + count, end)
        start += count


def whole(reading: Reading[T]) -> T:
    """The result of a reading, with all parts read at once."""
    while True:
        try:
            next(reading)
        except StopIteration as end:
            result: T = end.value
            return result
