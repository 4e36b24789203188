"""An engine that tells listeners of what became due, for jobs that many callers share a batch with."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Protocol, TypeAlias, TypeVar

from moss_tts.device.memory import cache_limit, release_memory
from moss_tts.device.thread import closing, later_on_device
from moss_tts.errors import GenerationError
from moss_tts.speaking.engine import Run, SpeechChunk, SpeechEngine, SpeechJob, is_last

T = TypeVar("T")
# Bytes of sound that may wait for a listener. Further frames wait as codes, which are fifty times smaller.
MOST_AHEAD = 2**20
Result: TypeAlias = SpeechChunk | GenerationError
# Called in the thread that computes, with a job's chunks or its error; it must not wait for anything.
Listener: TypeAlias = Callable[[Run, Result], None]


class Host(Protocol):
    """Speaks the jobs of many callers side by side, in a thread of its own. Any thread may call it."""

    def call(self, work: Callable[[], T]) -> Future[T]:
        """Call something between two rows; the future gets its result."""
        ...

    def submit(self, job: Callable[[], SpeechJob], listener: Listener) -> Future[Run]:
        """Make a job and speak it; its listener hears of every chunk, and of the error that ends it."""
        ...

    def drop(self, run: Future[Run]) -> None:
        """Remove a job before the next row, whatever its state is; its listener is called no more."""
        ...

    def wake(self) -> None:
        """Let it look again at jobs that were not heard."""
        ...


class ListenedEngine:
    """An engine for jobs that have listeners. Not for use from several threads.

    Args:
        engine: speaks the jobs.
    """

    def __init__(self, engine: SpeechEngine) -> None:
        self._engine = engine
        self._listeners: dict[Run, Listener] = {}

    @property
    def running(self) -> int:
        """The number of jobs that it is speaking or will speak next."""
        return len(self._listeners)

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do until a job is submitted, or is heard again."""
        return self._engine.idle

    def submit(self, job: SpeechJob, listener: Listener) -> Run:
        """Queue a job."""
        run = self._engine.submit(job)
        self._listeners[run] = listener
        return run

    def drop(self, run: Run) -> None:
        """Remove a job, whatever its state is."""
        if self._listeners.pop(run, None) is not None:
            self._engine.drop(run)

    def step(self) -> int:
        """Advance every job by a row, and tell of what became due; returns how many jobs have ended."""
        ended = 0
        for run, result in self._engine.step():
            last = is_last(result)
            listener = self._listeners.pop(run, None) if last else self._listeners.get(run)
            if listener is not None:
                listener(run, result)
            ended += last
        return ended

    def fail_all(self, failure: GenerationError) -> None:
        """End all jobs with an error. Nothing is known of a batch that failed, so that another engine must follow."""
        failed, self._listeners = self._listeners, {}
        for run, listener in failed.items():
            listener(run, failure)


class HostOnDevice:
    """A host in the device thread, where it takes turns with whatever else is computed there.

    Args:
        make: returns an engine; called in the device thread.
    """

    def __init__(self, make: Callable[[], SpeechEngine]) -> None:
        self._make = make
        self._engine: ListenedEngine | None = None
        self._is_scheduled = self._is_working = False
        self._limit = ExitStack()

    def call(self, work: Callable[[], T]) -> Future[T]:
        """Call something between two rows; the future gets its result."""
        return later_on_device(lambda: self._do(work))

    def submit(self, job: Callable[[], SpeechJob], listener: Listener) -> Future[Run]:
        """Make a job and speak it; its listener hears of every chunk, and of the error that ends it."""
        return self.call(lambda: self._started().submit(job(), listener))

    def drop(self, run: Future[Run]) -> None:
        """Remove a job before the next row, whatever its state is; its listener is called no more."""
        if not run.cancel():
            self.call(lambda: self._drop(run))

    def wake(self) -> None:
        """Let it look again at jobs that were not heard."""
        self.call(lambda: None)

    def stop(self, failure: GenerationError) -> None:
        """End all jobs with an error, and free the engine; the next job starts another one."""
        self.call(lambda: self._stop(failure))

    # ------------------------------------------------------------------------------- in the device thread

    def _do(self, work: Callable[[], T]) -> T:
        try:
            return work()
        finally:
            self._schedule()

    def _started(self) -> ListenedEngine:
        if self._engine is None:
            self._engine = ListenedEngine(self._make())
        return self._engine

    def _drop(self, run: Future[Run]) -> None:
        if self._engine is not None and run.exception() is None:
            self._engine.drop(run.result())

    def _schedule(self) -> None:
        """Have the next row made, after what waits already; at the end of the work, free what it took."""
        if self._is_scheduled or closing.is_set():
            return
        is_idle = self._engine is None or self._engine.idle
        if is_idle and self._is_working:
            self._limit.close()
        elif not is_idle and not self._is_working:
            self._limit.enter_context(cache_limit())
        self._is_working = self._is_scheduled = not is_idle
        if not is_idle:
            later_on_device(self._step)

    def _step(self) -> None:
        self._is_scheduled = False
        if closing.is_set() or self._engine is None:
            return
        try:
            self._engine.step()
        except Exception as error:  # noqa: BLE001 - it is raised where sound is asked for
            failure = GenerationError(f"a step of the batch failed: {error}")
            failure.__cause__ = error
            self._fail_all(failure)
        self._schedule()

    def _stop(self, failure: GenerationError) -> None:
        self._fail_all(failure)
        release_memory()

    def _fail_all(self, failure: GenerationError) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.fail_all(failure)
