"""Keys and values in 8 or 4 bit, for contexts that take less memory.

mlx-lm has such a cache for one request only. Here the packed values, the scales and the biases each have an ordinary
cache for one request or many, so that rows join, leave and are padded as in any cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx

from moss_tts.device.mlx_lm import KVCache
from moss_tts.errors import RequestError

BITS = (8, 4)
GROUP_SIZES = (64, 32)


class QuantisedCache:
    """A cache with mlx-lm's interface; `bits` tells attention that keys and values are packed.

    Args:
        bits: 8 or 4.
        group_size: how many values of a head share a scale.
        parts: caches of packed values, scales and biases.
    """

    def __init__(self, bits: int, group_size: int, parts: Sequence[Any]) -> None:
        self.bits, self.group_size, self.parts = bits, group_size, parts

    @classmethod
    def empty(cls, bits: int, head_dim: int, make: Callable[[], Any]) -> QuantisedCache:
        """A cache made of three empty ones.

        Raises:
            RequestError: the width of the heads is no multiple of a group.
        """
        return cls(bits, group_size_for(head_dim), [make() for _ in range(3)])

    @property
    def offset(self) -> Any:
        """Position of the next row."""
        return self.parts[0].offset

    def size(self) -> int:
        """Rows of the longest request."""
        return int(self.parts[0].size())

    def trim(self, count: int) -> None:
        """Remove the last rows, those of every request."""
        for part in self.parts:
            part.trim(count)

    def part(self, row: int) -> QuantisedCache:
        """A copy of one request, as a batch of its own."""
        return QuantisedCache(self.bits, self.group_size, [part.part(row) for part in self.parts])

    def make_mask(self, count: int, return_array: bool, window_size: int | None) -> Any:
        """The mask of the next rows."""
        return self.parts[0].make_mask(count, return_array=return_array, window_size=window_size)

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[tuple[mx.array, ...], tuple[mx.array, ...]]:
        """Add rows (B, G, T, d) of keys and of values; return (packed, scales, biases) of all rows of both."""
        packed = [mx.quantize(rows, self.group_size, self.bits) for rows in (keys, values)]
        held = [part.update_and_fetch(*rows) for part, rows in zip(self.parts, zip(*packed, strict=True), strict=True)]
        keys_held, values_held = zip(*held, strict=True)
        return keys_held, values_held

    def batched(self, batch: Callable[[Sequence[Any]], list[Any]]) -> QuantisedCache:
        """The same cache, with its parts in a form that requests can join and leave."""
        return QuantisedCache(self.bits, self.group_size, batch(self.parts))

    def moving(self, rows: Sequence[int]) -> list[Any]:
        """Copies of the requests that change their place when `rows` are kept."""
        return [part.moving(rows) for part in self.parts]

    def keep(self, rows: Sequence[int], moving: Sequence[Any]) -> None:
        """Keep these requests, in this order."""
        for part, contexts in zip(self.parts, moving, strict=True):
            part.keep(rows, contexts)

    def extend(self, other: QuantisedCache) -> None:
        """Add the requests of another cache."""
        for part, joining in zip(self.parts, other.parts, strict=True):
            part.extend(joining)


def group_size_for(head_dim: int) -> int:
    """The largest group that divides a head.

    Raises:
        RequestError: none does.
    """
    for size in GROUP_SIZES:
        if head_dim % size == 0:
            return size
    raise RequestError(f"kv_bits needs heads of a multiple of {GROUP_SIZES[-1]} values; this model's have {head_dim}.")


def check_kv_bits(bits: int | None) -> None:
    """Refuse a width of keys and values that is not stored.

    Raises:
        RequestError: neither None nor what can be packed.
    """
    if bits is not None and bits not in BITS:
        raise RequestError(f"kv_bits must be 8 or 4, got {bits!r}.")


def row_bytes(head_dim: int, dtype: mx.Dtype, bits: int | None) -> int:
    """Bytes of one key or value of one head."""
    if bits is None:
        return head_dim * dtype.size
    return head_dim * bits // 8 + 2 * dtype.size * (head_dim // group_size_for(head_dim))


def held_parts(caches: Sequence[Any]) -> list[KVCache] | None:
    """The caches of single requests, unpadded, in which all rows lie; None if there are others."""
    parts = [part for cache in caches for part in getattr(cache, "parts", [cache])]
    return parts if all(isinstance(part, KVCache) for part in parts) else None
