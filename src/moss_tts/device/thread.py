"""The device thread: one thread of the process computes, whichever thread asks.

MLX ties an array that is not computed yet to the thread that made it, and keeps a stream for each thread that ever
computed. So models are loaded and run in one thread. Callers wait for it, and work from several of them is done in
turn. A thread with a loop of its own over the device, such as the server's, declares itself with `own_device`.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar
from weakref import WeakSet

from moss_tts.errors import GenerationError

T = TypeVar("T")

# Set when the process ends: running work stops at its next row.
closing = threading.Event()
# The longest wait for work that does not look at `closing`, such as loading.
SECONDS_TO_END = 20.0
# The longest wait for the system to end a thread, where it tells that it has and where it does not.
SECONDS_OF_ENDING = 5.0 if sys.platform == "linux" else 0.1

_END: Any = object()
_open: WeakSet[Generator[Any, None, None]] = WeakSet()
_here = threading.local()


class Worker(threading.Thread):
    """A thread that does its work in order.

    It is a daemon that never ends before the process: MLX aborts a process that exits while a thread that computed
    is ending. At exit it is waited for until it is idle.

    Args:
        name: the name of the thread.
        niceness: how far it yields to the process's other threads, on Linux.
        prepare_exit: called in the thread as its last work before the process exits.

    Attributes:
        process: the process that has this thread; a fork of it does not have it.
    """

    def __init__(self, name: str, niceness: int = 0, prepare_exit: Callable[[], None] = lambda: None) -> None:
        super().__init__(name=name, daemon=True)
        self._niceness, self._prepare_exit = niceness, prepare_exit
        self._inbox: SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = SimpleQueue()
        self.process = os.getpid()
        atexit.register(self._await_idle)
        self.start()

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Queue work from any thread."""
        future: Future[T] = Future()
        self._inbox.put((work, future))
        return future

    def run(self) -> None:
        """Work until the process ends."""
        _here.computes = True
        if self._niceness and sys.platform == "linux":
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), self._niceness)
        while True:
            _do(*self._inbox.get())

    def _await_idle(self) -> None:
        if os.getpid() != self.process:
            return
        closing.set()
        for generator in list(_open):
            with suppress(ValueError):  # raised by one that a daemon thread is in, which sees `closing`
                generator.close()
        wait([self.submit(self._prepare_exit)], timeout=SECONDS_TO_END)


def _do(work: Callable[[], Any], future: Future[Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(work())
    except BaseException as error:  # noqa: BLE001 - it is raised where the result is asked for
        future.set_exception(error)
    finally:
        # The error's traceback holds this frame, which would hold them in turn.
        del work, future


@cache
def _device_thread() -> Worker:
    return Worker("device", prepare_exit=_finish_arrays)


def join_wholly(thread: threading.Thread, seconds: float | None = None) -> None:
    """Wait for the end of a thread that computed, so that the process may exit.

    Before Python 3.13 `join` returns while the system is still ending the thread, and MLX aborts a process that exits
    meanwhile. Linux tells when the thread is gone; elsewhere a moment is waited.
    """
    thread.join(seconds)
    if thread.is_alive() or thread.native_id is None or sys.version_info >= (3, 13):
        return
    task, last = Path(f"/proc/self/task/{thread.native_id}"), time.monotonic() + SECONDS_OF_ENDING
    while (task.exists() or sys.platform != "linux") and time.monotonic() < last:
        time.sleep(0.001)


def refuse_fork() -> None:
    """Refuse to compute in a fork of a process that has used a model: MLX would wait there for ever.

    Raises:
        GenerationError: this is such a process.
    """
    if _device_thread().process != os.getpid():
        raise GenerationError(
            "this process was forked from one that had used a model already, which MLX does not survive; start it with "
            'multiprocessing.get_context("spawn"), or load the model only after the fork.'
        )


def _finish_arrays() -> None:
    """Wait for arrays that are still being computed, such as the next row of an abandoned generator."""
    import mlx.core as mx

    mx.synchronize()


@contextmanager
def own_device() -> Iterator[None]:
    """Let the current thread compute by itself while this is open."""
    before, _here.computes = _computes_here(), True
    try:
        yield
    finally:
        _here.computes = before


def _computes_here() -> bool:
    return getattr(_here, "computes", False)


def on_device(work: Callable[[], T]) -> T:
    """Do work in the device thread, and wait for it.

    Arrays in the result should be computed already: only the device thread can compute them.

    Raises:
        GenerationError: see refuse_fork.
    """
    if _computes_here():
        return work()
    refuse_fork()
    return _device_thread().submit(work).result()


def later_on_device(work: Callable[[], T]) -> Future[T]:
    """Do work in the device thread, after the work that other threads have for it; the future gets its result.

    Raises:
        GenerationError: see refuse_fork.
    """
    refuse_fork()
    return _device_thread().submit(work)


def release_on_device(work: Callable[[], object]) -> None:
    """Free something in the device thread, whichever thread the garbage collector runs in.

    A thread that computes does not wait for another one, and at exit there is nothing left to free.
    """
    if closing.is_set() or os.getpid() != _device_thread().process:
        return
    if threading.current_thread() is _device_thread() or not _computes_here():
        on_device(work)
    else:
        _device_thread().submit(work)


def closed_at_exit(generator: Generator[T, None, None]) -> Generator[T, None, None]:
    """The generator, closed before the process exits: its clean-up needs modules that are removed later."""
    _open.add(generator)
    return generator


async def items_from_device(
    items: Generator[T | None, None, None], stop: Callable[[], None]
) -> AsyncGenerator[T, None]:
    """The items of a generator that runs in the device thread, while the event loop goes on.

    Args:
        items: the generator. When it yields None, other work has a turn. It is closed together with this one.
        stop: ends its current item early if the task is cancelled.
    """
    thread = _device_thread()
    try:
        while (item := await asyncio.wrap_future(thread.submit(lambda: next(items, _END)))) is not _END:
            if item is not None:
                yield item
    finally:
        stop()
        await asyncio.wrap_future(thread.submit(items.close))
