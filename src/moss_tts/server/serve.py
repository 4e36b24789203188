"""`moss-tts serve`: load, listen, and stop in good order."""

from __future__ import annotations

from collections.abc import Callable

import uvicorn

from moss_tts.model import Model
from moss_tts.server.app import create_app
from moss_tts.server.device import Device
from moss_tts.server.settings import Settings


def serve(load: Callable[[], Model], settings: Settings, host: str, port: int) -> int:
    """Serve until a signal comes: then running requests are finished, but no new ones taken.

    Returns:
        The exit code: 1 if the device failed for good.

    Raises:
        MossTTSError: the model cannot be loaded.
    """
    device = Device(load, settings.max_batch)
    app = create_app(settings, device, device.start())
    config = uvicorn.Config(
        app, host=host, port=port, log_level="info", timeout_graceful_shutdown=round(settings.grace_s), access_log=False
    )
    server = uvicorn.Server(config)

    def stop() -> None:
        server.should_exit = True

    device.on_end = stop
    try:
        server.run()
    except KeyboardInterrupt:
        pass  # uvicorn raises it again once all is done
    return 1 if device.failed else 0
