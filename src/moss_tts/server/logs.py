"""The server's log: a line for each answered request, and one identifier on all lines of a request."""

from __future__ import annotations

import json
import logging
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = "X-Request-Id"
# An identifier that a client or a proxy may choose. Others could break the lines of a log.
HARMLESS = re.compile(r"[A-Za-z0-9._-]{1,64}")
# Probes ask for these paths every few seconds; their lines are for debugging.
PROBED = ("/health", "/metrics")
# Messages with which an answer begins; a WebSocket that is accepted has no status but this one.
STARTS = ("http.response.start", "websocket.http.response.start", "websocket.accept")
SWITCHING = 101
LOGGERS = ("moss_tts.server", "uvicorn")
TEXT = "%(asctime)s %(levelname)s %(request)s %(name)s: %(message)s"

log = logging.getLogger("moss_tts.server")
_request: ContextVar[str] = ContextVar("request", default="-")


class Logged:
    """Middleware that names each request, and writes a line when its answer ends."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on. The answer has its identifier in the header X-Request-Id."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(HEADER, "")
        name = given if HARMLESS.fullmatch(given) else uuid.uuid4().hex[:16]
        _request.set(name)
        start, status, size = time.monotonic(), 0, 0

        async def send_named(message: Message) -> None:
            nonlocal status, size
            if message["type"] in STARTS:
                status = message.get("status", SWITCHING)
                MutableHeaders(scope=message)[HEADER] = name
            size += len(message.get("body") or message.get("bytes") or (message.get("text") or "").encode())
            await send(message)

        try:
            await self._app(scope, receive, send_named)
        finally:
            level = logging.DEBUG if scope["path"] in PROBED else logging.INFO
            seconds = time.monotonic() - start
            method = scope.get("method", "WEBSOCKET")
            facts = {"method": method, "path": scope["path"], "status": status, "bytes": size}
            log.log(
                level,
                "%s %s: %s, %d bytes in %.3f s",
                facts["method"],
                # A path can hold anything, even the end of a line.
                json.dumps(facts["path"])[1:-1],
                status or "no answer",
                size,
                seconds,
                extra={"facts": facts | {"seconds": round(seconds, 3)}},
            )


class _JsonFormatter(logging.Formatter):
    """One JSON object on a line, for programs that collect logs."""

    def format(self, record: logging.LogRecord) -> str:
        """A record as JSON: time, level, logger, request and message; method, path, status, bytes and seconds too."""
        entry = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "request": _request.get(),
            "message": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


def _name_request(record: logging.LogRecord) -> bool:
    record.request = _request.get()
    return True


@contextmanager
def shown(as_json: bool) -> Iterator[None]:
    """Write the log of the server to standard error until this ends.

    Args:
        as_json: one JSON object on each line instead of text.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonFormatter() if as_json else logging.Formatter(TEXT))
    handler.addFilter(_name_request)
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(one.level, one.propagate) for one in loggers]
    for one in loggers:
        one.addHandler(handler)
        one.setLevel(logging.INFO)
        one.propagate = False
    try:
        yield
    finally:
        for one, (level, propagate) in zip(loggers, before, strict=True):
            one.removeHandler(handler)
            one.setLevel(level)
            one.propagate = propagate
