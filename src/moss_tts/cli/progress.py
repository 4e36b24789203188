"""The progress of a long task: a bar with percent and time left on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

# Takes the share that is done (None if it is unknown) and words about it.
Show = Callable[[float | None, str], None]

# The time left is estimated from the progress of the last seconds.
SPEED_MEMORY = 1800.0
# The least seconds between two lines of a log; a task with known shares has at most twenty lines.
SECONDS_BETWEEN_LINES = 60.0
SHARE_BETWEEN_LINES = 0.05


@contextmanager
def showing(console: Console, label: str, *, done: float = 0.0, quiet: bool = False) -> Iterator[Show]:
    """Show how far a task is.

    Args:
        console: the output; a bar is drawn only if it is a terminal.
        label: the name of the task.
        done: the share that was done before, which does not count for the speed.
        quiet: show nothing.
    """
    if quiet:
        yield lambda share, words: None  # noqa: ARG005
    elif console.is_terminal:
        with _bar(console) as bar:
            task = bar.add_task(label, total=None, words="")
            bar.update(task, completed=done)
            yield lambda share, words: bar.update(
                task, total=None if share is None else 1.0, completed=share, words=words
            )
    else:
        yield Lines(lambda line: console.print(line, markup=False), label, done).show


class _Time(TimeRemainingColumn):
    """The time left; where that is not known, the time taken."""

    def render(self, task: Task) -> Text:
        """The time, and which one it is."""
        if task.total is None:
            return TimeElapsedColumn().render(task)
        return super().render(task).append(" left")


def _bar(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(16),  # all columns fit into 80 characters
        TaskProgressColumn(),
        _Time(),
        TextColumn("{task.fields[words]}"),
        console=console,
        transient=True,
        speed_estimate_period=SPEED_MEMORY,
    )


class Lines:
    """Lines for a log.

    Args:
        put: takes a line.
        label: the name of the task.
        done: the share that was done before.
        clock: seconds.
    """

    def __init__(
        self, put: Callable[[str], None], label: str, done: float = 0.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._put, self._label, self._clock = put, label, clock
        self._first = self._last = done
        self._started = self._spoke = clock()

    def show(self, share: float | None, words: str) -> None:
        """Put a line if one is due."""
        now = self._clock()
        if now - self._spoke < SECONDS_BETWEEN_LINES:
            return
        if share is not None and (share - self._last < SHARE_BETWEEN_LINES or share >= 1):
            return
        self._spoke, self._last = now, share or self._last
        self._put(", ".join(filter(None, (f"{self._label}: {words}", self._how_far(share, now - self._started)))))

    def _how_far(self, share: float | None, elapsed: float) -> str:
        if share is None or share <= self._first:
            return ""
        left = elapsed * (1 - share) / (share - self._first)
        return f"{share:.0%} done, about {rough_duration(left)} left"


def duration(seconds: float) -> str:
    """A length for people: "9 h 20 min", "3 min 5 s", "12 s"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes_left} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def rough_duration(seconds: float) -> str:
    """An estimated length for people: "40 s", "12 min", "3 h 20 min"."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{round(seconds)} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
