"""The models of a server: which of them are in memory, and which request waits for which.

Each model has a thread of its own, so one is loaded while another speaks. All of this is decided on the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from contextvars import Context
from typing import Final

from moss_tts.errors import MossTTSError
from moss_tts.model import Model
from moss_tts.server.abilities import Abilities, abilities_of
from moss_tts.server.device_thread import Device
from moss_tts.server.errors import ApiError
from moss_tts.server.served_model import ModelSource, ServedModel
from moss_tts.server.settings import Settings

OPENAI_MODELS: Final = frozenset({"tts-1", "tts-1-hd", "gpt-4o-mini-tts", "gpt-4o-mini-tts-2025-12-15"})
log = logging.getLogger("moss_tts.server")


class Lease:
    """A request's hold on a model: from `ready` to `release` the model stays in memory. Made by Models.lease.

    Attributes:
        served: the model with its names and abilities.
    """

    def __init__(self, models: Models, served: ServedModel) -> None:
        self._models, self.served = models, served
        self._turn = models.line_up(served)
        self._released = False

    @property
    def device(self) -> Device:
        """The thread that computes for the model."""
        return self.served.device

    @property
    def abilities(self) -> Abilities:
        """The abilities of the model, even before it is in memory."""
        return self.served.abilities

    @property
    def model(self) -> Model:
        """The model in memory."""
        assert self.served.model is not None, "the lease is ready"
        return self.served.model

    @property
    def is_ready(self) -> bool:
        """Whether the model is in memory."""
        return self._turn.done() and self.served.state == "loaded"

    async def ready(self) -> None:
        """Wait until the model is in memory.

        Raises:
            ApiError: it cannot be loaded.
        """
        await asyncio.shield(self._turn)
        assert self.served.ready is not None
        await asyncio.shield(self.served.ready)

    def release(self) -> None:
        """Let the model go; the request is over, or was given up."""
        if not self._released:
            self._released = True
            self._models.leave(self.served, self._turn)


class Models:
    """The models of a server. The first one is for requests that name none.

    Args:
        sources: the models.
        settings: the settings of the server.
    """

    def __init__(self, sources: Sequence[ModelSource], settings: Settings) -> None:
        self._served = {source.name: ServedModel(source, settings) for source in sources}
        self._settings = settings
        # Models that requests wait for while others take the room, in the order in which they will have it.
        self._line: list[ServedModel] = []

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(self._served.values())

    def __getitem__(self, name: str) -> ServedModel:
        """The model of that name.

        Raises:
            ApiError: 404; there is none of that name.
        """
        if name not in self._served:
            known = " and ".join(repr(known) for known in self._served)
            message = f"model {name[:100]!r} is not here; this server has {known}"
            raise ApiError(404, message, "model", "model_not_found")
        return self._served[name]

    @property
    def first(self) -> ServedModel:
        """The model of requests that name none."""
        return next(iter(self))

    def named(self, name: str | None) -> ServedModel:
        """The model that a request names.

        Args:
            name: the name of a model; None or one of OpenAI's names stands for the first model.

        Raises:
            ApiError: 404; there is none of that name.
        """
        return self.first if not name or name in OPENAI_MODELS - self._served.keys() else self[name]

    # ------------------------------------------------------------------------------ start and end, from any thread

    def start(self, shown: Callable[[str], AbstractContextManager[None]] = lambda _: nullcontext()) -> None:
        """Load each model once, so that faults are known at the start; the first ones stay in memory.

        Args:
            shown: shows that a model is being loaded while its context is open.

        Raises:
            MossTTSError: a model cannot be loaded.
        """
        for served in reversed(list(self)):
            while not self._has_room(served):
                last = [other for other in self if other.in_memory][-1]
                last.device.unload().result()
                last.state, last.model = "unloaded", None
            served.note_loading()
            with shown(served.name):
                served.note_loaded(served.device.start())
            served.abilities = abilities_of(served.model, self._settings, served.source.adapters)  # type: ignore[arg-type]

    def stop(self, seconds: float | None = None) -> bool:
        """Fail what is still being spoken, and end all threads; whether they have ended, if not waited for longer."""
        deadline = None if seconds is None else time.monotonic() + seconds
        devices = [served.device for served in self]
        for device in devices:
            device.stop(0)
        return all([device.stop(deadline and max(0.0, deadline - time.monotonic())) for device in devices])

    @property
    def alive(self) -> bool:
        """Whether all of them take work."""
        return all(served.device.alive for served in self)

    @property
    def failed(self) -> bool:
        """Whether a thread ended without being told to."""
        return any(served.device.failed for served in self)

    def on_end(self, told: Callable[[], None]) -> None:
        """Have something called when a thread ends."""
        for served in self:
            served.device.on_end = told

    # ------------------------------------------------------------------------------------- on the event loop

    def begin(self) -> None:
        """Take requests: time runs for models that nobody uses."""
        for served in self:
            if served.state == "loaded":
                served.ready = asyncio.get_running_loop().create_future()
                served.ready.set_result(None)
                self._await_use(served)

    def lease(self, name: str | None) -> Lease:
        """A hold on a model, which is loaded if need be; wait for its `ready`, and release it in any case.

        Raises:
            ApiError: there is no model of that name.
        """
        return Lease(self, self.named(name))

    @asynccontextmanager
    async def use(self, name: str | None, seconds: float | None = None) -> AsyncIterator[Lease]:
        """Hold a model in memory while this is open; it is loaded first if need be.

        Args:
            name: see `named`.
            seconds: how long it may take until the model is in memory; None sets no limit.

        Raises:
            ApiError: there is no model of that name, it cannot be loaded, or it takes too long.
        """
        lease = self.lease(name)
        try:
            try:
                async with asyncio.timeout(seconds):
                    await lease.ready()
            except TimeoutError as error:
                why = f"model {lease.served.name!r} was not in memory after {seconds:g} s"
                raise ApiError(504, why, code="timeout") from error
            yield lease
        finally:
            lease.release()

    async def unload(self, served: ServedModel) -> None:
        """Take a model out of memory.

        Raises:
            ApiError: 409; requests use it or wait for it.
        """
        needed = served.users + len(served.waiting)
        if needed or served.state == "loading":
            count = f"{needed} requests need it" if needed != 1 else "a request needs it"
            raise ApiError(409, f"model {served.name!r} stays in memory, because {count}", "model", "model_in_use")
        if served.state == "loaded":
            self._unload(served, "it was told to")
        while served.state == "unloading":
            assert served.ready is not None
            await asyncio.shield(served.ready)

    def line_up(self, served: ServedModel) -> asyncio.Future[None]:
        """A request's place in the line; done when the model is in memory for it, or on its way."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        served.waiting.append(turn)
        if served not in self._line:
            self._line.append(served)
        self._advance()
        return turn

    def leave(self, served: ServedModel, turn: asyncio.Future[None]) -> None:
        """End what `line_up` began."""
        if not turn.done():
            served.waiting.remove(turn)
            turn.cancel()
        else:
            served.users -= 1
            served.last_use = time.monotonic()
            self._await_use(served)
        self._advance()

    # --------------------------------------------------------------------------------------------- inside

    def _advance(self) -> None:
        """Give turns to the models in the line, until one has to wait for room.

        All requests that wait for a model share its turn. A model behind one that waits for room waits as well, even
        if it is in memory: otherwise a busy model would keep others out for ever.
        """
        while self._line:
            served = self._line[0]
            if served.waiting and not self._brings(served):
                return
            self._line.pop(0)
            if served.idle_timer is not None:
                served.idle_timer.cancel()
            turns, served.waiting = served.waiting, []
            served.users += len(turns)
            for turn in turns:
                turn.set_result(None)

    def _brings(self, served: ServedModel) -> bool:
        """Whether a model is in memory or on its way; if not, room is made for it."""
        if served.state in ("loaded", "loading"):
            return True
        if any(other.state == "unloading" for other in self):
            return False
        if self._has_room(served):
            self._load(served)
            return True
        if idle := [other for other in self if other.is_idle]:
            self._unload(min(idle, key=lambda other: other.last_use), f"model {served.name!r} needs its room")
        return False

    def _has_room(self, served: ServedModel) -> bool:
        """Whether one more model may be in memory beside the others."""
        others = [other for other in self if other.in_memory]
        most = self._settings.max_memory
        # How much a model takes is known once it was loaded.
        fits = most is None or (0 < served.device.memory <= most - sum(other.device.memory for other in others))
        return not others or (len(others) < self._settings.max_loaded and fits)

    def _load(self, served: ServedModel) -> None:
        served.note_loading()
        served.ready = ready = asyncio.get_running_loop().create_future()

        def loaded(future: asyncio.Future[Model]) -> None:
            error = ApiError(503, "the server is stopping") if future.cancelled() else future.exception()
            if error is None:
                served.note_loaded(future.result())
                ready.set_result(None)
                self._await_use(served)
            else:
                known = isinstance(error, MossTTSError)
                log.error("model %r cannot be loaded: %s", served.name, error, exc_info=None if known else error)
                served.state, served.model = "unloaded", None
                why = f"model {served.name!r} cannot be loaded; the server's log says why"
                ready.set_exception(ApiError(503, why, "model", "model_not_loaded"))
                # Perhaps nobody waits for it any more.
                ready.exception()
            self._advance()

        asyncio.wrap_future(served.device.load()).add_done_callback(loaded)

    def _unload(self, served: ServedModel, why: str) -> None:
        served.state, served.model = "unloading", None
        served.ready = ready = asyncio.get_running_loop().create_future()

        def unloaded(future: asyncio.Future[None]) -> None:
            error = None if future.cancelled() else future.exception()
            if error is not None:
                log.error("model %r did not leave memory as it should", served.name, exc_info=error)
            served.state = "unloaded"
            log.info("model %r has left memory: %s", served.name, why)
            ready.set_result(None)
            self._advance()

        asyncio.wrap_future(served.device.unload()).add_done_callback(unloaded)

    def _await_use(self, served: ServedModel) -> None:
        """Have a model that nobody uses leave memory after the time that the operator chose."""
        if served.idle_timer is not None:
            served.idle_timer.cancel()
        seconds = self._settings.keep_alive_s
        if seconds is not None and served.is_idle:
            loop = asyncio.get_running_loop()
            # An empty context, because the log's lines about it belong to no request.
            served.idle_timer = loop.call_later(
                seconds, self._expire, served, f"nobody used it for {seconds:g} s", context=Context()
            )

    def _expire(self, served: ServedModel, why: str) -> None:
        if served.is_idle:
            self._unload(served, why)
