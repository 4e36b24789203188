"""`moss-tts serve`: load, listen, and stop in good order."""

from __future__ import annotations

import socket
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from moss_tts.errors import RequestError
from moss_tts.model import Model
from moss_tts.server.app import create_app
from moss_tts.server.device_thread import Device
from moss_tts.server.settings import Settings


def new_server(app: FastAPI, settings: Settings) -> uvicorn.Server:
    """A server of an application, to be run on a socket. One process and one event loop, for there is one device."""
    config = uvicorn.Config(
        app,
        ws="none",
        access_log=False,
        timeout_graceful_shutdown=round(settings.grace_s),
    )
    return uvicorn.Server(config)


def bound(host: str, port: int) -> socket.socket:
    """A place to listen at. Nobody is let in before the server runs.

    Raises:
        RequestError: it is taken, or not this machine's.
    """
    place = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        place.bind((host, port))
    except OSError as error:
        place.close()
        why = error.strerror or error
        raise RequestError(f"cannot listen on {host}, port {port}: {why}; choose another --host or --port") from error
    return place


def serve(load: Callable[[], Model], settings: Settings, place: socket.socket, tell: Callable[[str], None]) -> int:
    """Serve until a signal comes: then running requests are finished, but no new ones taken.

    Args:
        load: gives the model.
        settings: of the server.
        place: from `bound`.
        tell: told of the server's address once the model is there.

    Returns:
        The exit code: 1 if the device failed for good.

    Raises:
        MossTTSError: the model cannot be loaded.
    """
    device = Device(load, settings.max_batch)
    app = create_app(settings, device, device.start())
    server = new_server(app, settings)

    def stop() -> None:
        server.should_exit = True

    device.on_end = stop
    host, port = place.getsockname()[:2]
    tell(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")
    try:
        server.run(sockets=[place])
    except KeyboardInterrupt:
        pass  # uvicorn raises it again once all is done
    return 1 if device.failed else 0
