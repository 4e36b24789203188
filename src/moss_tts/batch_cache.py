"""Keys and values of a batch whose requests leave and join while it runs."""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
from mlx_lm.models.cache import BatchKVCache, KVCache

# Slots before everybody's first row that are put up with: each costs every row its part of attention, taking them away
# copies the batch.
MOST_SURPLUS = 48


class BatchCache(BatchKVCache):
    """mlx-lm's, made for a server: nothing here waits for the device, and who takes a place copies only its own rows.

    mlx-lm asks the device for the padding whenever a request leaves, once a layer, which lets it run dry.

    Args:
        padding: slots before the first row of each request.
    """

    keys: mx.array
    values: mx.array
    _idx: int

    def __init__(self, padding: Sequence[int]) -> None:
        super().__init__(list(padding))
        self._padding = list(padding)

    @classmethod
    def of(cls, cache: KVCache) -> BatchCache:
        """A batch of the one request of another cache."""
        batch = cls([0])
        batch.keys, batch.values, batch._idx = cache.keys, cache.values, cache.offset
        batch._place_rows()
        return batch

    def filter(self, rows: Sequence[int]) -> None:
        """Keep these requests, in this order, and no padding that all of them have."""
        self._padding = [self._padding[row] for row in rows]
        self._drop_surplus()
        kept = mx.array(list(rows))
        self.keys, self.values = self.keys[kept], self.values[kept]
        self._place_rows()

    def extend(self, other: BatchCache) -> None:
        """Let the requests of another batch join."""
        end, size = max(self._idx, other._idx), max(self.keys.shape[2], other.keys.shape[2])
        self._pad(end, size)
        other._pad(end, size)
        self.keys = mx.concatenate([self.keys, other.keys])
        self.values = mx.concatenate([self.values, other.values])
        self._padding += other._padding
        self._place_rows()

    def replace(self, row: int, other: BatchCache) -> None:
        """Let the one request of another batch have the place of one of these."""
        count = other._idx
        if count > self._idx:
            self._pad(count, self.keys.shape[2])
        start = self._idx - count
        self.keys[row : row + 1, :, start : self._idx] = other.keys[:, :, :count]
        self.values[row : row + 1, :, start : self._idx] = other.values[:, :, :count]
        self._padding[row] = start
        if min(self._padding) > MOST_SURPLUS:
            self._drop_surplus()
        self._place_rows()

    def _drop_surplus(self) -> None:
        """Take away the padding that all requests have."""
        surplus = min(self._padding)
        self.keys, self.values = self.keys[:, :, surplus:], self.values[:, :, surplus:]
        self._padding = [count - surplus for count in self._padding]
        self._idx -= surplus

    def _pad(self, end: int, size: int) -> None:
        """Move all rows so that the last one lies before slot `end`, of at least `size`."""
        left = end - self._idx
        right = max(size, end) - self.keys.shape[2] - left
        if left == right == 0:
            return
        held = slice(None) if right >= 0 else slice(None, right)
        widths = [(0, 0), (0, 0), (left, max(right, 0)), (0, 0)]
        self.keys, self.values = mx.pad(self.keys[:, :, held], widths), mx.pad(self.values[:, :, held], widths)
        self._padding = [count + left for count in self._padding]
        self._idx = end

    def _place_rows(self) -> None:
        self.left_padding = mx.array(self._padding)
        self.offset = mx.array([self._idx - count for count in self._padding])
