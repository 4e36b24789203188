"""One request's audio on its way from the device's thread to the client that asked for it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future
from contextlib import closing
from dataclasses import replace

from moss_tts.errors import GenerationError, MossTTSError
from moss_tts.model import Model
from moss_tts.request import MossNormalizedRequest
from moss_tts.server.device_thread import Device, DeviceFailure
from moss_tts.speaking.engine import Run, SpeechChunk
from moss_tts.speaking.hosted_texts import HostedText
from moss_tts.speaking.listening import MOST_AHEAD

Part = SpeechChunk | Exception

log = logging.getLogger("moss_tts.server")


class ChunkStream:
    """Chunks of one request, for the event loop. Must be closed.

    Args:
        device: the device, which continues the work when the client has taken audio.

    Attributes:
        on_close: stops the work.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._loop = asyncio.get_running_loop()
        self._parts: asyncio.Queue[Part] = asyncio.Queue()
        self._changed = threading.Condition()
        # Bytes that are ready for the client and were not taken yet.
        self._ahead = 0
        self._closed = False
        self.on_close: Callable[[], None] = lambda: None

    def has_room(self) -> bool:
        """Whether the client has taken nearly all of its audio; for any thread."""
        return self._ahead < MOST_AHEAD

    def tell(self, part: Part) -> None:
        """Hand over chunks that became due; from any thread."""
        if not self._closed and not self._loop.is_closed():
            with self._changed:
                self._ahead += _size(part)
            self._loop.call_soon_threadsafe(self._parts.put_nowait, part)

    def wait_for_room(self) -> None:
        """Let a thread wait for the client.

        Raises:
            CancelledError: the client is gone.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self.has_room())
            if self._closed:
                raise CancelledError

    async def next(self) -> SpeechChunk:
        """The next chunk; the last one has a finish_reason.

        Raises:
            MossTTSError: the request failed.
        """
        part = await self._parts.get()
        with self._changed:
            had_room, self._ahead = self.has_room(), self._ahead - _size(part)
            self._changed.notify_all()
        if self.has_room() and not had_room:
            self._device.wake()
        if isinstance(part, Exception):
            raise part
        return part

    def close(self) -> None:
        """Stop the work, if there is any left."""
        if not self._closed:
            with self._changed:
                self._closed = True
                self._changed.notify_all()
            self.on_close()


def _size(part: Part) -> int:
    return part.audio.nbytes if isinstance(part, SpeechChunk) else 0


def stream_job(device: Device, model: Model, request: MossNormalizedRequest) -> ChunkStream:
    """Speak a request in one piece."""
    stream = ChunkStream(device)

    def listen(_: Run, result: SpeechChunk | GenerationError) -> None:
        stream.tell(result)

    def submitted(run: Future[Run]) -> None:
        if not run.cancelled() and (error := run.exception()) is not None:
            stream.tell(as_failure(error))

    run = device.submit(lambda: replace(model.job(request), is_heard=stream.has_room), listen)
    run.add_done_callback(submitted)
    stream.on_close = lambda: device.drop(run)
    return stream


def stream_long_text(device: Device, model: Model, request: MossNormalizedRequest, threads: Executor) -> ChunkStream:
    """Speak a long text in segments; a thread waits for them."""
    stream = ChunkStream(device)
    long_text = HostedText(device, model, request, stream.has_room)

    def narrate() -> None:
        try:
            with closing(long_text.chunks()) as chunks:
                for chunk in chunks:
                    stream.wait_for_room()
                    stream.tell(chunk)
        except CancelledError:
            return
        except Exception as error:  # noqa: BLE001 - it is raised where the next chunk is asked for
            stream.tell(as_failure(error))

    thread = threads.submit(narrate)

    def close() -> None:
        long_text.cancel()
        thread.cancel()

    stream.on_close = close
    return stream


def as_failure(error: BaseException) -> MossTTSError:
    """Errors of this package as they are; whatever else was raised is the device's."""
    if isinstance(error, MossTTSError):
        return error
    log.error("the device failed", exc_info=error)
    return DeviceFailure.of(error)
