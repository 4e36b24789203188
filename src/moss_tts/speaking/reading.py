"""Prompts that are read beside the rows of running jobs: which one is read next, and how far.

The parts of a prompt depend on it alone, so what is said does not depend on when they are read. Short prompts come
first. Long ones take turns, and all of them together take no more time than the rows of the others.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from operator import itemgetter
from typing import Generic, Protocol, TypeVar

from moss_tts.context.reading import Reading
from moss_tts.rows import RowBatch

# Rows of a short prompt.
SHORT = 512
# Rows of short prompts after which a step reads no further part of them while other jobs run.
ROWS_PER_STEP = 256
# Long prompts that are read at a time; those after them wait, and short ones pass by.
LONG_AT_ONCE = 2


class Waiting(Protocol):
    """A job with a prompt that is to be read."""

    @property
    def prompt_rows(self) -> int:
        """Rows of its prompt."""
        ...

    @property
    def cancelled(self) -> bool:
        """Whether the job was cancelled."""
        ...

    @property
    def owner(self) -> Hashable | None:
        """The long text that it takes turns with; None if it has turns of its own."""
        ...


V = TypeVar("V", bound=Waiting)


def in_turn(waiting: Iterable[V], running: Iterable[V]) -> list[V]:
    """The jobs that wait: one of each owner that has none running, then a second of each, and so on."""
    taken = Counter(run.owner for run in running)
    turns = []
    for run in waiting:
        turns.append((0 if run.owner is None else taken[run.owner], run))
        taken[run.owner] += 1
    return [run for _, run in sorted(turns, key=itemgetter(0))]


def after(waiting: Iterable[V], started: V) -> deque[V]:
    """The jobs that still wait once one of them was started: all others come before those of its owner."""
    left = [run for run in waiting if run is not started]
    return deque(sorted(left, key=lambda run: run.owner is not None and run.owner == started.owner))


@dataclass(eq=False)
class _Started(Generic[V]):
    run: V
    reading: Reading[RowBatch]
    read: int = 0

    @property
    def left(self) -> int:
        return self.run.prompt_rows - self.read

    @property
    def is_short(self) -> bool:
        """Whether all of it is short: the last rows of a long prompt take as much time as many of a short one."""
        return self.run.prompt_rows <= SHORT

    def go_on(self) -> RowBatch | None:
        """Read the next part, and return the batch once all parts are read."""
        try:
            self.read = next(self.reading)
            while not self.left:
                next(self.reading)
        except StopIteration as end:
            batch: RowBatch = end.value
            return batch
        return None


class Readings(Generic[V]):
    """The prompts that are being read."""

    def __init__(self) -> None:
        self._started: deque[_Started[V]] = deque()
        # Seconds by which long prompts are ahead of the other jobs.
        self._owed = 0.0

    def __len__(self) -> int:
        return len(self._started)

    @property
    def runs(self) -> list[V]:
        """The jobs that they belong to."""
        return [started.run for started in self._started]

    def may_start(self, run: V) -> bool:
        """Whether a job may be started now."""
        long = sum(not started.is_short for started in self._started)
        return run.prompt_rows <= SHORT or long < LONG_AT_ONCE

    def start(self, run: V, reading: Reading[RowBatch]) -> None:
        """Begin to read."""
        self._started.append(_Started(run, reading))

    def drop(self, run: V) -> None:
        """Read no further for a job."""
        self._started = deque(started for started in self._started if started.run is not run)

    def others_took(self, seconds: float) -> None:
        """Note how long the rest of a step took."""
        self._owed = max(0.0, self._owed - seconds)

    def go_on(self, others_speak: bool) -> Iterator[tuple[V, RowBatch | None]]:
        """Read on, as far as a step may; the jobs that are done with it, without a batch if they were cancelled."""
        rows = 0
        while (short := self._shortest()) and (rows < ROWS_PER_STEP or not others_speak):
            left = short.left
            yield from self._read(short)
            rows += left - short.left
        if not others_speak or not self._owed:
            began = time.perf_counter()
            yield from self._read_long()
            self._owed = time.perf_counter() - began

    def _shortest(self) -> _Started[V] | None:
        short = (started for started in self._started if started.is_short)
        return min(short, key=lambda started: started.left, default=None)

    def _read_long(self) -> Iterator[tuple[V, RowBatch | None]]:
        for started in self._started:
            if not started.is_short:
                # The others have their turn before it comes again.
                self._started.remove(started)
                self._started.append(started)
                yield from self._read(started)
                return

    def _read(self, started: _Started[V]) -> Iterator[tuple[V, RowBatch | None]]:
        batch = None if started.run.cancelled else started.go_on()
        if batch is not None or started.run.cancelled:
            self._started.remove(started)
            yield started.run, batch
