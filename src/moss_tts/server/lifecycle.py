"""`moss-tts serve`: load, listen, and stop in good order."""

from __future__ import annotations

import asyncio
import logging
import math
import socket
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from types import FrameType

import uvicorn
from fastapi import FastAPI

from moss_tts.server.app import create_app
from moss_tts.server.connections import Connection, handle_error, look_after
from moss_tts.server.ending import SECONDS_TO_END, Deadline, leave, stopped
from moss_tts.server.listener import ACCEPTED_AT_ONCE, WAITING_TO_BE_ACCEPTED, address, most_connections
from moss_tts.server.logs import Logged
from moss_tts.server.models import Models
from moss_tts.server.served_model import ModelSource
from moss_tts.server.settings import Settings
from moss_tts.server.sockets.connection import SocketConnection

log = logging.getLogger("moss_tts.server")


class Server(uvicorn.Server):
    """A server of an application. One process and one event loop, for there is one device.

    Attributes:
        on_listening: called once clients can connect.
        on_shutdown: called when running requests are to be the last.
        deadline: ends the process after some time, once it was told to end.
    """

    def __init__(self, config: uvicorn.Config, settings: Settings) -> None:
        super().__init__(config)
        self._settings = settings
        self.deadline = Deadline()
        self.on_listening: Callable[[], None] = lambda: None
        self.on_shutdown: Callable[[], None] = lambda: None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        asyncio.get_running_loop().set_exception_handler(handle_error)
        for place in sockets or ():
            place.listen(WAITING_TO_BE_ACCEPTED)
        self.on_listening()

    async def on_tick(self, counter: int) -> bool:
        """Do the work of every 0.1 s; returns whether to stop."""
        look_after(self.server_state.connections, self._settings)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more connections, and let those that are there end."""
        self.on_shutdown()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Finish the running requests after the first signal; stop at once after the second."""
        if self.should_exit:
            leave(128 + sig)
        super().handle_exit(sig, frame)
        self.deadline.set(self._settings.grace_s + SECONDS_TO_END, 128 + sig)


def new_server(app: FastAPI, settings: Settings) -> Server:
    """A server of an application, to be run on a socket."""
    most, places = most_connections(), settings.max_batch + settings.max_waiting
    if most < places:
        log.warning(
            "the limit of open files (ulimit -n) allows %d connections, fewer than the %d requests of --max-batch and "
            "--max-waiting together",
            most,
            places,
        )
    config = uvicorn.Config(
        Logged(app),
        # The same protocol and loop whatever else is installed.
        http=partial(Connection, most=most),  # type: ignore[arg-type]
        loop="asyncio",
        ws=SocketConnection,
        # The rules for bodies; sound does not get smaller by deflate.
        ws_max_size=settings.max_body,
        ws_per_message_deflate=False,
        ws_ping_timeout=settings.reader_timeout_s,
        # server/logs.py writes the log, and a line for each request.
        log_config=None,
        access_log=False,
        backlog=ACCEPTED_AT_ONCE,
        timeout_keep_alive=math.ceil(settings.idle_s),
        timeout_graceful_shutdown=round(settings.grace_s),
    )
    server = Server(config, settings)
    if hasattr(app.state, "sockets"):
        server.on_shutdown = app.state.sockets.stop
    return server


def serve(
    sources: Sequence[ModelSource],
    settings: Settings,
    place: socket.socket,
    tell: Callable[[str], None],
    shown: Callable[[str], AbstractContextManager[None]] = lambda _: nullcontext(),
) -> int:
    """Serve until a signal comes: then running requests are finished, but no new ones taken. A second one ends it now.

    Args:
        sources: the models; the first one is for requests that name none.
        settings: the settings of the server.
        place: the socket of `bound`.
        tell: called with the server's address once clients can connect.
        shown: shows that a model is being loaded while its context is open.

    Returns:
        The exit code: 1 if the device failed for good.

    Raises:
        MossTTSError: the model cannot be loaded.
    """
    models = Models(sources, settings)
    with stopped(models):
        models.start(shown)
        return _serve(models, settings, place, tell)


def _serve(models: Models, settings: Settings, place: socket.socket, tell: Callable[[str], None]) -> int:
    server = new_server(create_app(settings, models), settings)

    def end() -> None:
        server.should_exit = True

    models.on_end(end)
    server.on_listening = lambda: tell(address(place))
    with suppress(KeyboardInterrupt):  # uvicorn raises it again once all is done
        server.run(sockets=[place])
    server.deadline.cancel()
    return 1 if models.failed else 0
