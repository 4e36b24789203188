"""One request's audio on its way from the device's thread to the client that asked for it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future

from moss_tts.errors import GenerationError, MossTTSError
from moss_tts.model import Model
from moss_tts.request import MossNormalizedRequest
from moss_tts.server.device_thread import Device, DeviceFailure
from moss_tts.server.long_texts import Narration
from moss_tts.speaking.engine import SpeechChunk, Voice

# A long text is not spoken further than this ahead of a client that reads slowly.
CHUNKS_AHEAD = 64

Part = SpeechChunk | Exception

log = logging.getLogger("moss_tts.server")


class Hearing:
    """Chunks of one request, for the event loop. Must be closed."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._parts: asyncio.Queue[Part] = asyncio.Queue()
        self._ahead = threading.Semaphore(CHUNKS_AHEAD)
        self._closed = False
        self.on_close: Callable[[], None] = lambda: None

    def tell(self, part: Part) -> None:
        """Hand over what became due; from any thread."""
        if not self._closed and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._parts.put_nowait, part)

    def wait_for_reader(self) -> None:
        """Let a thread wait until its client has read nearly all it was told."""
        self._ahead.acquire()

    async def next(self) -> SpeechChunk:
        """The next chunk; the last one has a finish_reason.

        Raises:
            MossTTSError: the request failed.
        """
        part = await self._parts.get()
        self._ahead.release()
        if isinstance(part, Exception):
            raise part
        return part

    def close(self) -> None:
        """Stop the work, if there is any left."""
        if not self._closed:
            self._closed = True
            self._ahead.release()
            self.on_close()


def hear_job(device: Device, model: Model, request: MossNormalizedRequest) -> Hearing:
    """Have a request spoken in one piece."""
    hearing = Hearing()

    def listen(_: Voice, result: SpeechChunk | GenerationError) -> None:
        hearing.tell(result)

    def submitted(voice: Future[Voice]) -> None:
        if not voice.cancelled() and (error := voice.exception()) is not None:
            hearing.tell(as_failure(error))

    voice = device.submit(lambda: model.job(request), listen)
    voice.add_done_callback(submitted)
    hearing.on_close = lambda: device.drop(voice)
    return hearing


def hear_narration(device: Device, model: Model, request: MossNormalizedRequest, threads: Executor) -> Hearing:
    """Have a long text spoken in segments; a thread waits for them."""
    hearing = Hearing()
    narration = Narration(device, model, request)

    def narrate() -> None:
        try:
            for chunk in narration.chunks():
                hearing.wait_for_reader()
                hearing.tell(chunk)
        except CancelledError:
            return
        except Exception as error:  # noqa: BLE001 - it is raised where the next chunk is asked for
            hearing.tell(as_failure(error))

    thread = threads.submit(narrate)

    def close() -> None:
        narration.cancel()
        thread.cancel()

    hearing.on_close = close
    return hearing


def as_failure(error: BaseException) -> MossTTSError:
    """Errors of this package as they are; whatever else was raised is the device's."""
    if isinstance(error, MossTTSError):
        return error
    log.error("the device failed", exc_info=error)
    return DeviceFailure.of(error)
