"""An engine for callers in any thread: its jobs are made, advanced and dropped in the device thread."""

from __future__ import annotations

import threading
from collections.abc import Callable

from moss_tts.device.thread import closing, on_device, release_on_device
from moss_tts.errors import GenerationError
from moss_tts.speaking.engine import Run, SpeechChunk, SpeechEngine, SpeechJob


class EngineOnDevice:
    """Speaks jobs like the engine that it wraps; any thread may call it, and several take turns.

    Args:
        make: returns the engine; called in the device thread.
    """

    def __init__(self, make: Callable[[], SpeechEngine]) -> None:
        self._engine = on_device(make)
        self._abandoned = threading.Event()

    def submit(self, job: SpeechJob) -> Run:
        """Queue a job."""
        return on_device(lambda: self._engine.submit(job))

    def step(self) -> list[tuple[Run, SpeechChunk | GenerationError]]:
        """The chunks that become due next; several rows may pass before.

        Raises:
            SystemExit: the process is about to exit; a thread ends with it without a word.
        """
        try:
            return on_device(self._steps)
        except BaseException:
            # Raised by the steps, or by Ctrl-C while this thread waits for them.
            self._abandoned.set()
            raise

    def _steps(self) -> list[tuple[Run, SpeechChunk | GenerationError]]:
        while not self._abandoned.is_set() and not self._engine.idle:
            if closing.is_set():
                raise SystemExit
            if due := self._engine.step():
                return due
        return []

    def drop(self, run: Run) -> None:
        """Remove a job, whatever its state is."""
        release_on_device(lambda: self._engine.drop(run))
