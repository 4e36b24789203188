"""The thread that computes for a model: it loads the model and speaks all requests side by side.

Each model of a server has such a thread, so that one speaks while another is loaded. Whatever computes runs here,
between two rows of the batch. Other threads hand in work and drop it again; what became due goes to listeners, which
are called on this thread and must not wait for anything.
"""

from __future__ import annotations

import gc
import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from typing import Any, TypeVar

import mlx.core as mx

from moss_tts.device.memory import cache_limit, release_memory
from moss_tts.device.thread import join_wholly, own_device
from moss_tts.errors import GenerationError, RequestError
from moss_tts.model import Model
from moss_tts.server.abilities import warm_up_options
from moss_tts.speaking.engine import Run, SpeechJob
from moss_tts.speaking.listening import ListenedEngine, Listener

T = TypeVar("T")

# Free memory returns to the system after a pause, when clients have their answers, or after this many requests.
PAUSE_SECONDS = 0.5
REQUESTS_PER_RELEASE = 64
# The share of its memory that a model may leave behind: keys and values of the references that were spoken in last.
PREFIXES_SHARE = 0.05
# Ctrl-C while the model is loaded ends the process after this time at the latest.
SECONDS_BETWEEN_SIGNALS = 0.2

log = logging.getLogger("moss_tts.server")


class DeviceFailure(GenerationError):
    """What is computed together fails together; the requests were not at fault."""

    @classmethod
    def of(cls, error: BaseException) -> DeviceFailure:
        """The failure as clients are told of it: an error's own words may name files, and are for the log."""
        return cls(f"the device failed ({type(error).__name__}); the server's log has more")


class Device:
    """A thread that computes for one model, whether the model is in memory or not.

    Args:
        load: gives the model; called on the device's thread.
        max_batch: requests spoken side by side.
        max_prompt: rows that the prompt of a job may have.

    Attributes:
        failed: whether its thread ended without being told to.
        on_end: called when its thread ends.
        memory: bytes that MLX took for the model when it was first loaded.
    """

    def __init__(self, load: Callable[[], Model], max_batch: int, max_prompt: int) -> None:
        self._load, self._max_batch, self._max_prompt = load, max_batch, max_prompt
        self._inbox: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = queue.SimpleQueue()
        self._model: Model | None = None
        self._engine: ListenedEngine | None = None
        self._prefixes: Any = None
        self._stopping = self._ended = False
        self.failed = False
        self.on_end: Callable[[], None] = lambda: None
        self.memory = 0
        self._ended_since_release = 0
        self._thread = threading.Thread(target=self._run, name="device", daemon=True)

    # --------------------------------------------------------------------------------- from any thread

    def start(self) -> Model:
        """Start the thread, and wait until the model is loaded.

        Raises:
            MossTTSError: the model cannot be loaded.
        """
        self._thread.start()
        loading = self.load()
        # A signal that comes right before a wait does not end it, so each wait is short.
        while not wait([loading], SECONDS_BETWEEN_SIGNALS).done:
            pass
        try:
            return loading.result()
        except BaseException:
            self.stop()
            raise

    def load(self) -> Future[Model]:
        """Load the model and speak a few frames, so that no client waits for what is made once.

        The model's configs and checks are for everybody; what computes must be called through `call`.
        """
        return self.call(self._load_model)

    def unload(self) -> Future[None]:
        """Give the model's memory back to the system. What was spoken often stays for when it is loaded again."""
        return self.call(self._unload_model)

    @property
    def alive(self) -> bool:
        """Whether it takes work."""
        return self._thread.is_alive() and not self._stopping

    @property
    def running(self) -> int:
        """The number of requests that it is speaking or will speak next."""
        return 0 if self._engine is None else self._engine.running

    def call(self, work: Callable[[], T]) -> Future[T]:
        """Call something between two rows; the future gets its result."""
        future: Future[T] = Future()
        self._inbox.put((work, future))
        if self._ended:
            self._refuse_inbox()
        return future

    def wake(self) -> None:
        """Let it look again at jobs that were not heard."""
        self.call(lambda: None)

    def submit(self, job: Callable[[], SpeechJob], listener: Listener) -> Future[Run]:
        """Make a job and speak it; its listener hears of every chunk, and of the error that ends it."""
        return self.call(lambda: self._submit(job(), listener))

    def drop(self, run: Future[Run]) -> None:
        """Remove a job before the next row, whatever its state is; its listener is called no more."""
        if not run.cancel():
            self.call(lambda: self._drop(run))

    def stop(self, seconds: float | None = None) -> bool:
        """Fail what is still being spoken, and end the thread; whether it has ended, if not waited for longer."""
        if self._thread.ident is None:
            return True
        self.call(self._stop)
        join_wholly(self._thread, seconds)
        return not self._thread.is_alive()

    # ----------------------------------------------------------------------------- on the device's thread

    def _run(self) -> None:
        try:
            with own_device(), cache_limit():
                while not self._stopping:
                    self._work()
        except Exception as error:
            log.exception("the device's thread ends")
            self._fail_all(DeviceFailure.of(error))
        finally:
            self.failed, self._stopping = not self._stopping, True
            self._fail_all(DeviceFailure("the server is stopping"))
            # Threads that hand in work from here on see it, and refuse the work themselves.
            self._ended = True
            self._refuse_inbox()
            self.on_end()

    def _load_model(self) -> Model:
        before = mx.get_active_memory()
        try:
            model = self._load()
            warm_up(model)
        except BaseException:
            # What was read of it is freed in the next pause.
            self._ended_since_release += 1
            raise
        self.memory = self.memory or max(0, mx.get_active_memory() - before)
        if self._prefixes is not None:
            model.restore_prefixes(self._prefixes)
        self._model, self._prefixes = model, None
        self._begin_batch()
        return model

    def _begin_batch(self) -> None:
        self._engine = None if self._model is None else ListenedEngine(self._model.new_engine(self._max_batch))

    def _unload_model(self) -> None:
        if self._model is None:
            return
        self._fail_all(DeviceFailure("the model was unloaded"))
        self._prefixes = self._model.kept_prefixes(round(PREFIXES_SHARE * self.memory))
        model, self._model, self._engine = self._model, None, None
        model.close()

    def _work(self) -> None:
        """Make a row, and then do all work that was handed in; wait for some if there is nothing else to do."""
        if self._engine is None or self._engine.idle:
            self._do(*self._next())
        elif not self._step(self._engine):
            # Nothing is known of a batch after that.
            self._begin_batch()
        while not self._stopping and not self._inbox.empty():
            self._do(*self._inbox.get())

    def _next(self) -> tuple[Callable[[], Any], Future[Any]]:
        try:
            return self._inbox.get(timeout=PAUSE_SECONDS)
        except queue.Empty:
            if self._model is not None:
                self._model.release_encoder()
            self._release()
            return self._inbox.get()

    def _do(self, work: Callable[[], Any], future: Future[Any]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            result = work()
        except BaseException as error:
            # It is raised where the result is asked for.
            future.set_exception(error)
            if not isinstance(error, Exception):
                raise
        else:
            future.set_result(result)

    def _step(self, engine: ListenedEngine) -> bool:
        """Make a row; whether that has succeeded."""
        try:
            self._ended_since_release += engine.step()
        except Exception as error:
            log.exception("a step of the batch failed")
            engine.fail_all(DeviceFailure.of(error))
            return False
        if self._ended_since_release >= REQUESTS_PER_RELEASE:
            self._release()
        return True

    def _submit(self, job: SpeechJob, listener: Listener) -> Run:
        if len(job.prompt) > self._max_prompt:
            raise RequestError(
                f"the prompt has {len(job.prompt)} rows: tokens of its texts and of the template around each message, "
                f"and frames of its recordings. {self._max_prompt} are the most here; send less at a time, and a long "
                "text with long_form"
            )
        if self._engine is None:
            raise DeviceFailure("the model is not in memory")
        return self._engine.submit(job, listener)

    def _drop(self, run: Future[Run]) -> None:
        if run.exception() is None and self._engine is not None:
            self._engine.drop(run.result())
        # If the job was over, what its client had not taken is freed only now.
        self._ended_since_release += 1

    def _fail_all(self, failure: DeviceFailure) -> None:
        if self._engine is not None:
            self._engine.fail_all(failure)

    def _stop(self) -> None:
        self._stopping = True

    def _release(self) -> None:
        if self._ended_since_release:
            self._ended_since_release = 0
            # What is left of connections refers to itself, and to what was sent over them.
            gc.collect()
            release_memory()

    def _refuse_inbox(self) -> None:
        with suppress(queue.Empty):
            while True:
                _, future = self._inbox.get_nowait()
                if future.set_running_or_notify_cancel():
                    future.set_exception(DeviceFailure("the server is stopping"))


def warm_up(model: Model) -> None:
    """Load the codec and make what is made once; the encoder waits for the first reference."""
    engine = model.new_engine(1)
    engine.submit(model.job(model.request(warm_up_options(model))))
    while not engine.idle:
        for _, chunk in engine.step():
            if isinstance(chunk, GenerationError):
                log.warning("nothing was heard of the warm-up: %s", chunk)
    release_memory()
