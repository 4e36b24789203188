"""The thread that owns the device: it loads the model and speaks all requests side by side.

Whatever computes runs here, between two rows of the batch. Other threads hand in work and drop it again; what
became due goes to listeners, which are called on this thread and must not wait for anything.
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

from moss_tts.device.memory import cache_limit, release_memory
from moss_tts.device.thread import own_device
from moss_tts.errors import GenerationError, RequestError
from moss_tts.model import Model
from moss_tts.server.abilities import warm_up_options
from moss_tts.speaking.engine import Run, SpeechJob, speak_one
from moss_tts.speaking.listening import ListenedEngine, Listener

T = TypeVar("T")

# Free memory returns to the system after a pause, when clients have their answers, or after this many requests.
PAUSE_SECONDS = 0.5
REQUESTS_PER_RELEASE = 64
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
    """Owns a model from loading it to the end of the process.

    Args:
        load: gives the model; called on the device's thread.
        max_batch: requests spoken side by side.
        max_prompt: rows that the prompt of a job may have.

    Attributes:
        failed: whether its thread ended without being told to.
        on_end: called when its thread ends.
    """

    def __init__(self, load: Callable[[], Model], max_batch: int, max_prompt: int) -> None:
        self._load, self._max_batch, self._max_prompt = load, max_batch, max_prompt
        self._inbox: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = queue.SimpleQueue()
        self._ready: Future[Model] = Future()
        self._engine: ListenedEngine | None = None
        self._stopping = self._ended = False
        self.failed = False
        self.on_end: Callable[[], None] = lambda: None
        self._ended_since_release = 0
        self._thread = threading.Thread(target=self._run, name="device", daemon=True)

    # --------------------------------------------------------------------------------- from any thread

    def start(self) -> Model:
        """Load the model and speak a few frames, so that the first client does not wait for what is made once.

        The model's configs and checks are for everybody; what computes must be called through `call`.

        Raises:
            MossTTSError: the model cannot be loaded.
        """
        self._thread.start()
        # A signal that comes right before a wait does not end it, so each wait is short.
        while not wait([self._ready], SECONDS_BETWEEN_SIGNALS).done:
            pass
        return self._ready.result()

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
        self.call(self._stop)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    # ----------------------------------------------------------------------------- on the device's thread

    def _run(self) -> None:
        try:
            with own_device(), cache_limit():
                self._speak_until_stopped(self._loaded())
        except Exception as error:
            if self._ready.done():
                log.exception("the device's thread ends")
            else:
                self._ready.set_exception(error)
        finally:
            self.failed, self._stopping = not self._stopping, True
            if not self._ready.done():
                self._ready.set_exception(DeviceFailure("loading ended without a result"))
            if self._engine is not None:
                self._engine.fail_all(DeviceFailure("the server is stopping"))
            # Threads that hand in work from here on see it, and refuse the work themselves.
            self._ended = True
            self._refuse_inbox()
            self.on_end()

    def _loaded(self) -> Model:
        model = self._load()
        warm_up(model)
        return model

    def _speak_until_stopped(self, model: Model) -> None:
        self._release_encoder = model.release_encoder
        self._ready.set_result(model)
        while not self._stopping:
            self._engine = ListenedEngine(model.new_engine(self._max_batch))
            self._speak_with(self._engine)

    def _speak_with(self, engine: ListenedEngine) -> None:
        """Speak until told to stop, or until a step has failed: nothing is known of a batch after that."""
        while not self._stopping:
            self._work(engine)
            if not self._stopping and not engine.idle and not self._step(engine):
                return

    def _work(self, engine: ListenedEngine) -> None:
        """All work that was handed in; waits for some if there is nothing else to do."""
        if engine.idle:
            self._do(*self._next())
        while not self._stopping and not self._inbox.empty():
            self._do(*self._inbox.get())

    def _next(self) -> tuple[Callable[[], Any], Future[Any]]:
        try:
            return self._inbox.get(timeout=PAUSE_SECONDS)
        except queue.Empty:
            self._release_encoder()
            self._release()
            return self._inbox.get()

    def _do(self, work: Callable[[], Any], future: Future[Any]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            result = work()
        except Exception as error:  # noqa: BLE001 - it is raised where the result is asked for
            future.set_exception(error)
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
        assert self._engine is not None
        return self._engine.submit(job, listener)

    def _drop(self, run: Future[Run]) -> None:
        if run.exception() is None and self._engine is not None and self._engine.drop(run.result()):
            self._ended_since_release += 1

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
    try:
        for _ in speak_one(model.new_engine(1), model.job(model.request(warm_up_options(model)))):
            pass
    except GenerationError as error:
        log.warning("nothing was heard of the warm-up: %s", error)
    release_memory()
