"""Keys and values of a batch; requests come and go while it runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import mlx.core as mx

from moss_tts.device.mlx_lm import KVCache, create_causal_mask

# mlx-lm's caches share an interface but no public base class: update_and_fetch, make_mask, offset.
Cache: TypeAlias = Any

# The number of slots that a buffer grows by.
SLOTS = 256

# Keys and values of one request, each (1, G, N, d).
Context: TypeAlias = list[mx.array]


class BatchCache:
    """A cache with mlx-lm's interface that copies only requests that join or change their place.

    mlx-lm's cache copies the whole batch whenever a request joins or leaves, and first asks the device for the padding,
    once a layer, so that the device has nothing to do. This cache has room for more requests and more rows than there
    are, and attention skips the slots before the first row of all requests.

    Args:
        padding: the number of slots before the first row of each request.
    """

    def __init__(self, padding: Sequence[int]) -> None:
        # The rows of a request are in the slots from its start to the common end; slots before `first` are empty.
        self._starts = list(padding)
        self._first = self._end = 0
        # Keys and values (places, G, slots, d); None before the first rows.
        self._buffers: list[mx.array] = []

    @classmethod
    def of(cls, cache: KVCache) -> BatchCache:
        """A batch of the one request of another cache."""
        batch = cls([0])
        batch._buffers, batch._end = [cache.keys, cache.values], cache.offset
        return batch

    @property
    def offset(self) -> mx.array:
        """Position of the next row of each request."""
        return mx.array([self._end - start for start in self._starts])

    def size(self) -> int:
        """Rows of the longest request."""
        return self._end - self._first

    def trim(self, count: int) -> None:
        """Remove the last rows, those of every request."""
        self._end -= count

    def part(self, row: int) -> BatchCache:
        """A copy of one request, as a batch of its own."""
        part = BatchCache([0])
        part._buffers = [mx.contiguous(buffer) for buffer in self._context(row)]
        part._end = self._end - self._starts[row]
        return part

    def make_mask(self, count: int, return_array: bool, window_size: int | None) -> mx.array:  # noqa: ARG002
        """The slots that the next rows see: bool (B, 1, count, N), always as an array."""
        padding = mx.array([start - self._first for start in self._starts])
        behind = self._end - self._first
        return create_causal_mask(count, offset=behind, window_size=window_size, left_padding=padding)

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Add rows (B, G, T, d) of keys and of values, and return all rows of both, (B, G, N, d)."""
        if not self._buffers:
            self._buffers = [keys[:, :, :0], values[:, :, :0]]
        requests, _, count, _ = keys.shape
        self._make_room(requests, 0, count)
        end = self._end + count
        for buffer, rows in zip(self._buffers, (keys, values), strict=True):
            buffer[:requests, :, self._end : end] = rows
        self._end = end
        held_keys, held_values = (buffer[:requests, :, self._first : end] for buffer in self._buffers)
        return held_keys, held_values

    def open_row(self) -> tuple[mx.array, mx.array, Sequence[int], int]:
        """Add a row of each request, which the caller writes where it lies: no other array holds these slots.

        Returns:
            Keys and values (places, G, slots, d), the first slot of each request, and the slot of the row.
        """
        self._make_room(len(self._starts), 0, 1)
        self._end += 1
        keys, values = self._buffers
        return keys, values, self._starts, self._end - 1

    def moving(self, rows: Sequence[int]) -> list[Context]:
        """Copies of the requests that change their place when `rows` are kept.

        Once they are computed, the cache alone holds its buffers, and can be written in place.
        """
        return [[mx.contiguous(part) for part in self._context(row)] for _, row in _moves(rows)]

    def keep(self, rows: Sequence[int], moving: Sequence[Context]) -> None:
        """Keep these requests, in this order."""
        self._starts = [self._starts[row] for row in rows]
        for (place, _), context in zip(_moves(rows), moving, strict=True):
            self._put(place, context)
        self._first = min(self._starts)
        if len(self._buffers[0]) > 2 * _with_spare(len(rows)):
            self._move(_with_spare(len(rows)), 0, SLOTS)

    def extend(self, other: BatchCache) -> None:
        """Add the requests of another batch."""
        for row, start in enumerate(other._starts):
            count, place = other._end - start, len(self._starts)
            self._make_room(place + 1, count, 0)
            self._starts.append(self._end - count)
            self._put(place, other._context(row))
        self._first = min(self._starts)

    def _context(self, row: int) -> Context:
        return [buffer[row : row + 1, :, self._starts[row] : self._end] for buffer in self._buffers]

    def _put(self, place: int, context: Context) -> None:
        for buffer, part in zip(self._buffers, context, strict=True):
            buffer[place : place + 1, :, self._starts[place] : self._end] = part

    def _make_room(self, places: int, before: int, behind: int) -> None:
        """Make room for this many places, and for slots before the common end and after it."""
        had, _, slots, _ = self._buffers[0].shape
        if places > had or before > self._end or self._end + behind > slots:
            before = max(0, before - (self._end - self._first))
            self._move(had if places <= had else _with_spare(places), before, max(SLOTS, behind))

    def _move(self, places: int, before: int, behind: int) -> None:
        """Move into buffers with this many places, and this many slots before and after those in use."""
        requests = len(self._starts)
        widths = [(0, places - requests), (0, 0), (before, behind), (0, 0)]
        self._buffers = [mx.pad(buffer[:requests, :, self._first : self._end], widths) for buffer in self._buffers]
        moved = before - self._first
        self._starts = [start + moved for start in self._starts]
        self._first, self._end = before, self._end + moved


def _with_spare(requests: int) -> int:
    """The number of places for some requests: a quarter more, so that a joining request rarely moves the others."""
    return requests + requests // 4


def _moves(rows: Sequence[int]) -> list[tuple[int, int]]:
    """(place, request) of the requests that change their place when `rows` are kept."""
    return [(place, row) for place, row in enumerate(rows) if place != row]
