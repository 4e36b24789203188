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
        # The rows before the turn that is being spoken, and how many of all rows the keys and values are those of.
        self._before, self._valid = self.rows, 0
        self._caches: list[Cache] | None = None

    def take(self, make: Callable[[], list[Cache]]) -> tuple[list[Cache], np.ndarray]:
        """Begin a turn: caches of the context's first rows, and the rows (N, 1 + Q) that they lack.

        Args:
            make: gives empty caches, for a context without any.
        """
        caches, self._caches = self._caches, None
        held = 0 if caches is None else min(self._valid, caches[0].size())
        caches = caches if caches is not None and held else make()
        for cache in caches:
            cache.trim(cache.size() - held)
        self._before, self._valid = self.rows, len(self.rows)
        return caches, self.rows[held:]

    def give_back(self, caches: Sequence[Cache]) -> None:
        """Keep caches that hold the rows before the turn, and those that it added."""
        self._caches = list(caches)

    def settle(self, made: np.ndarray, then: np.ndarray | None = None) -> None:
        """Say what of the turn belongs to the context; it may be said again, with fewer rows.

        Args:
            made: the first rows (N, 1 + Q) that the turn read and made; none, and it has never been.
            then: rows (N, 1 + Q) that follow them, which the next turn reads.
        """
        self._valid = len(self._before) + len(made)
        self.rows = np.concatenate([self._before, made, *([] if then is None else [then])])

    def forget_caches(self) -> None:
        """Free the keys and values; the next turn computes them again."""
        self._caches = None
