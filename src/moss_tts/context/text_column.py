"""Text that a network reads row by row while it speaks: it may still be growing."""

from __future__ import annotations

from collections.abc import Iterable


class TextColumn:
    """The ids that follow those of the prompt, one for each row that is made.

    Args:
        ids: ids that are known already.
        ended: whether no others follow.
    """

    def __init__(self, ids: Iterable[int] = (), *, ended: bool = True) -> None:
        self._ids = list(ids)
        self.ended = ended

    def __len__(self) -> int:
        return len(self._ids)

    def push(self, ids: Iterable[int]) -> None:
        """Add ids."""
        self._ids.extend(ids)

    def has(self, row: int) -> bool:
        """Whether it is known what stands on a row, be it that the text is over."""
        return self.ended or row < len(self._ids)

    def at(self, row: int, after: int) -> int:
        """The id of a row; `after` on rows behind the text."""
        return self._ids[row] if row < len(self._ids) else after
