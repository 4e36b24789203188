"""The context of a conversation, from one turn to the next: its rows, and their keys and values."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from moss_tts.context.batch_cache import Cache


class KeptContext:
    """Rows that follow each other over several turns.

    A turn takes the keys and values, adds its rows, and gives them back when it leaves its batch. What holds is the
    rows: keys and values of rows that do not count are left out, and those that were lost are computed again.

    Args:
        channels: 1 + Q, the width of a row.
    """

    def __init__(self, channels: int) -> None:
        self.rows = np.zeros((0, channels), dtype=np.int32)
        # The rows before the turn, and how many of all rows the keys and values are those of.
        self._before, self._valid = self.rows, 0
        self._caches: list[Cache] | None = None
        self._is_taken = self._is_closed = False

    def begin(self) -> None:
        """Begin a turn."""
        self._before, self._is_taken = self.rows, False

    def take(self, make: Callable[[], list[Cache]]) -> tuple[list[Cache], np.ndarray]:
        """Caches of the context's first rows for a turn, and the rows (N, 1 + Q) that they lack.

        Args:
            make: gives empty caches, for a context without any.
        """
        self.begin()
        caches, self._caches, self._is_taken = self._caches, None, True
        held = 0 if caches is None else min(self._valid, caches[0].size())
        if caches is None or not held:
            caches = make()
        for cache in caches:
            cache.trim(cache.size() - held)
        self._valid = len(self.rows)
        return caches, self.rows[held:]

    def give_back(self, caches: Sequence[Cache]) -> None:
        """Keep caches that hold the rows before the turn, and those that it added."""
        self._caches = None if self._is_closed else list(caches)

    def settle(self, made: np.ndarray, then: np.ndarray | None = None) -> None:
        """Say what of the turn belongs to the context; it may be said again, with fewer rows.

        Args:
            made: the first rows (N, 1 + Q) that the turn has read and made.
            then: rows (N, 1 + Q) that follow them, and that nothing has read yet.
        """
        if self._is_taken:
            self._valid = len(self._before) + len(made)
        self.rows = np.concatenate([self._before, made, *([] if then is None else [then])])

    def cancel(self) -> None:
        """Let the context be as if the turn had never been."""
        self.settle(self._before[:0])

    def close(self) -> None:
        """Forget all rows, and free their keys and values; none follow."""
        self._caches, self.rows, self._valid, self._is_closed = None, self.rows[:0], 0, True
