"""Admission: a bound on the requests that run and wait. Only the event loop uses it, so there are no locks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from moss_tts.server.errors import ApiError

# Weight of the newest request in the average of how long one takes.
NEWEST = 0.1


class Admission:
    """Counts requests.

    Args:
        at_once: requests that run side by side.
        waiting: requests that may wait.
    """

    def __init__(self, at_once: int, waiting: int) -> None:
        self._at_once, self._most = at_once, at_once + waiting
        self.inside = 0
        self.open = True
        self._usual_seconds = 1.0

    @property
    def waiting(self) -> int:
        """The number of requests that wait to be spoken."""
        return max(0, self.inside - self._at_once)

    @contextmanager
    def place(self) -> Iterator[Callable[[], None]]:
        """What takes a place, for a request that is on its way; it is given back if the request fails here.

        Raises:
            ApiError: there is no place, now or when it is to be taken: 503, with the time after which to try again.
        """
        taken = 0

        def take() -> None:
            nonlocal taken
            self._check()
            self.inside += 1
            taken = 1

        self._check()
        try:
            yield take
        except BaseException:
            self.inside -= taken
            raise

    def _check(self) -> None:
        if not self.open:
            raise ApiError(503, "the server is stopping", code="stopping", headers={"Retry-After": "5"})
        if self.inside >= self._most:
            seconds = max(1, math.ceil(self._usual_seconds * (self.waiting + 1) / self._at_once))
            raise ApiError(
                503,
                f"{self.inside} requests are running or waiting, and no more may wait; try again in {seconds} s",
                code="overloaded",
                headers={"Retry-After": str(seconds)},
            )

    def leave(self, seconds: float | None = None) -> None:
        """Remove a request from the count; `seconds` are given only for spoken ones."""
        self.inside -= 1
        if seconds is not None:
            self._usual_seconds += NEWEST * (seconds - self._usual_seconds)
