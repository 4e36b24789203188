"""A queue from one thread to listeners in any thread or event loop."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class Outbox(Generic[T]):
    """Parts that wait for a listener. Nothing of it waits, but for the futures of `ready`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._parts: deque[T] = deque()
        self._waiting: list[Future[None]] = []
        self._closed = False

    def put(self, part: T) -> None:
        """Add a part."""
        with self._lock:
            self._parts.append(part)
        self._wake()

    def close(self) -> None:
        """Say that no part follows: nobody waits any more."""
        with self._lock:
            self._closed = True
        self._wake()

    def _wake(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for future in waiting:
            if future.set_running_or_notify_cancel():
                future.set_result(None)

    def clear(self) -> None:
        """Forget the parts that nobody has taken."""
        with self._lock:
            self._parts.clear()

    def take(self) -> T | None:
        """The next part; None if there is none yet."""
        with self._lock:
            return self._parts.popleft() if self._parts else None

    def ready(self) -> Future[None]:
        """Done as soon as there is a part, or none follows."""
        future: Future[None] = Future()
        with self._lock:
            if not self._parts and not self._closed:
                self._waiting = [one for one in self._waiting if not one.done()]
                self._waiting.append(future)
                return future
        future.set_result(None)
        return future
