"""A model of a server: its name, its thread, and whether it is in memory."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from moss_tts.device.memory import size
from moss_tts.model import Model
from moss_tts.server.abilities import Abilities
from moss_tts.server.device_thread import Device
from moss_tts.server.settings import Settings

# Loading says no more than this of its progress before it is done: the time that it took before is only a guess.
MOST_OF_LOADING: Final = 0.99

State = Literal["unloaded", "loading", "loaded", "unloading"]

log = logging.getLogger("moss_tts.server")


@dataclass(frozen=True)
class ModelSource:
    """A model that a server has, as its operator names it.

    Attributes:
        name: what clients call it.
        load: gives the model; called each time that it comes into memory.
        adapters: weights, by name, of its adapters for requests that name none.
        mark: what files say of how they were made; None for nothing.
    """

    name: str
    load: Callable[[], Model]
    adapters: Mapping[str, float] = field(default_factory=dict)
    mark: str | None = None


class ServedModel:
    """A model of the server, in memory or not.

    Args:
        source: the model.
        settings: the settings of the server.

    Attributes:
        device: the thread that computes for it.
        state: where it is.
        abilities: known since it was first loaded.
        users: the leases that keep it in memory.
        loads: how often it was loaded.
        last_use: when its last lease was released, on the clock of time.monotonic.
    """

    def __init__(self, source: ModelSource, settings: Settings) -> None:
        self.source, self.name = source, source.name
        self.device = Device(source.load, settings.max_batch, settings.max_prompt)
        self.state: State = "unloaded"
        self.model: Model | None = None
        self.abilities: Abilities
        self.users = self.loads = 0
        self.last_use = time.monotonic()
        self._loading_since = self._usual_seconds = 0.0
        self.ready: asyncio.Future[None] | None = None
        # Requests that wait until it is this model's turn.
        self.waiting: list[asyncio.Future[None]] = []
        self.idle_timer: asyncio.TimerHandle | None = None

    @property
    def in_memory(self) -> bool:
        """Whether it takes memory."""
        return self.state != "unloaded"

    @property
    def is_idle(self) -> bool:
        """Whether it is in memory, and nobody needs it."""
        return self.state == "loaded" and not self.users

    @property
    def loading_seconds(self) -> float:
        """How long it has been loading."""
        return time.monotonic() - self._loading_since

    def note_loading(self) -> None:
        """Note that it is being loaded."""
        self.state, self._loading_since = "loading", time.monotonic()

    def note_loaded(self, model: Model) -> None:
        """Note that it is in memory."""
        self._usual_seconds = self.loading_seconds
        self.state, self.model, self.loads, self.last_use = "loaded", model, self.loads + 1, time.monotonic()
        log.info("model %r is loaded: %s in %.1f s", self.name, size(self.device.memory), self._usual_seconds)

    def described(self) -> dict[str, Any]:
        """Where it is, for people and programs; the progress of loading is a guess from the time before."""
        facts: dict[str, Any] = {"state": self.state, "memory_bytes": self.device.memory if self.in_memory else 0}
        if self.state == "loading":
            seconds = self.loading_seconds
            facts["loading_seconds"] = round(seconds, 1)
            if self._usual_seconds:
                facts["progress"] = round(min(MOST_OF_LOADING, seconds / self._usual_seconds), 2)
        return facts
