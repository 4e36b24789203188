"""`moss-tts serve`: load, listen, and stop in good order."""

from __future__ import annotations

from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from moss_tts.model import Model
from moss_tts.server.app import create_app
from moss_tts.server.device import Device
from moss_tts.server.settings import Settings


def new_server(app: FastAPI, settings: Settings, host: str, port: int) -> uvicorn.Server:
    """A server of an application. One process and one event loop, for there is one device."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        ws="none",
        access_log=False,
        timeout_graceful_shutdown=round(settings.grace_s),
    )
    return uvicorn.Server(config)


def serve(load: Callable[[], Model], settings: Settings, host: str, port: int) -> int:
    """Serve until a signal comes: then running requests are finished, but no new ones taken.

    Returns:
        The exit code: 1 if the device failed for good.

    Raises:
        MossTTSError: the model cannot be loaded.
    """
    device = Device(load, settings.max_batch)
    app = create_app(settings, device, device.start())
    server = new_server(app, settings, host, port)

    def stop() -> None:
        server.should_exit = True

    device.on_end = stop
    try:
        server.run()
    except KeyboardInterrupt:
        pass  # uvicorn raises it again once all is done
    return 1 if device.failed else 0
