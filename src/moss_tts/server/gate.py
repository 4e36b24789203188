"""Checks of every request before it is read: key, origin, name of the server, size and speed of its body."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
from contextlib import suppress
from urllib.parse import SplitResult, urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from moss_tts.server.errors import ApiError
from moss_tts.server.settings import Settings

# Bodies of the largest size that may be here before they are whole, all clients' together.
BODIES_ARRIVING = 16
# Paths that need no key: the page asks for the key, and probes have none.
OPEN_PATHS = ("/", "/health", "/docs", "/openapi.json", "/static/")
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
# Endings of names that do not exist on the internet; names without a dot do not exist there either.
PRIVATE_NAMES = (".localhost", ".local", ".internal", ".lan", ".home.arpa")


class Gate:
    """Middleware that refuses."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app, self._settings = app, settings
        # Bodies that are not whole yet, in the order of their first bytes, and how much of them is here.
        self._arriving: dict[_LimitedBody, int] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request or a WebSocket through, or answer it."""
        if scope["type"] == "http":
            await self._request(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse before there is a WebSocket. Browsers let any page open one, so its origin is always looked at."""
        headers = Headers(scope=scope)
        try:
            self._check_host(headers)
            check_origin(headers, self._settings.cors_origins)
            self._check_key(headers.get("authorization", ""))
        except ApiError as error:
            await JSONResponse(error.body, error.status, error.headers)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = _LimitedBody(receive, self._settings, self._arriving)
        try:
            self._check(scope, Headers(scope=scope))
            # Every path that takes GET takes HEAD: uvicorn sends the answer without its body.
            scope = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
            await self._app(scope, body.receive, send)
        except ApiError as error:
            await JSONResponse(error.body, error.status, error.headers)(scope, receive, send)
        finally:
            self._arriving.pop(body, None)

    def _check(self, scope: Scope, headers: Headers) -> None:
        self._check_host(headers)
        if scope["method"] not in SAFE_METHODS:
            check_origin(headers, self._settings.cors_origins)
        if not _is_open(scope["path"]):
            self._check_key(headers.get("authorization", ""))
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._settings.max_body:
            raise too_large(self._settings.max_body)

    def _check_host(self, headers: Headers) -> None:
        if self._settings.api_key is None:
            check_host(headers.get("host", ""), self._settings.hosts)

    def _check_key(self, authorization: str) -> None:
        key = self._settings.api_key
        scheme, _, given = authorization.partition(" ")
        # Headers are bytes that were read as Latin-1.
        given_bytes = given.encode("latin-1")
        right = key is None or (scheme.lower() == "bearer" and hmac.compare_digest(given_bytes, key.encode()))
        if not right:
            raise ApiError(
                401,
                "the API key is missing or wrong; send the header Authorization: Bearer KEY",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )


class _LimitedBody:
    """Counts what comes in, for bodies that do not say how long they are, and does not wait for one for ever.

    Args:
        receive: gives the next part of the request.
        settings: the settings of the server.
        arriving: the bytes that are here of each body on its way; those that began first are given up if all of them
            together are too many.
    """

    def __init__(self, receive: Receive, settings: Settings, arriving: dict[_LimitedBody, int]) -> None:
        self._receive, self._most, self._seconds = receive, settings.max_body, settings.body_timeout_s
        self._arriving = arriving
        self._read = 0
        self._is_given_up = False
        self._deadline: float | None = asyncio.get_running_loop().time() + self._seconds
        self._waiting = asyncio.timeout_at(self._deadline)

    async def receive(self) -> Message:
        try:
            async with asyncio.timeout_at(self._deadline) as self._waiting:
                message = await self._receive()
        except TimeoutError as error:
            if not self._is_given_up:
                raise too_slow(self._seconds) from error
        if self._is_given_up:
            raise _too_many()
        self._read += len(message.get("body", b""))
        if self._read > self._most:
            raise too_large(self._most)
        if message.get("more_body", False):
            self._count()
        else:
            # What comes after the body is the client's leaving, which may take as long as the answer does.
            self._deadline = None
            self._arriving.pop(self, None)
        return message

    def _count(self) -> None:
        self._arriving[self] = self._read
        while sum(self._arriving.values()) > BODIES_ARRIVING * self._most:
            first = next(iter(self._arriving))
            del self._arriving[first]
            first._give_up()

    def _give_up(self) -> None:
        self._is_given_up, self._deadline = True, 0.0
        # One that is being counted waits for nothing.
        with suppress(RuntimeError):
            self._waiting.reschedule(0.0)


def _too_many() -> ApiError:
    return ApiError(
        503,
        "too many bodies are on their way, and this one was not fast enough; try again in 5 s",
        code="overloaded",
        headers={"Connection": "close", "Retry-After": "5"},
    )


def too_large(most: int) -> ApiError:
    """The answer to a body beyond the limit."""
    return ApiError(
        413,
        f"the body is too large; at most {most} bytes are allowed",
        code="too_large",
        headers={"Connection": "close"},
    )


def too_slow(seconds: float) -> ApiError:
    """The answer to a body that does not arrive."""
    return ApiError(
        408,
        f"the body arrived too slowly; it must be complete within {seconds:g} s",
        code="too_slow",
        headers={"Connection": "close"},
    )


def _is_open(path: str) -> bool:
    return any(
        path == known or (known != "/" and known.endswith("/") and path.startswith(known)) for known in OPEN_PATHS
    )


def check_host(host: str, allowed: tuple[str, ...]) -> None:
    """Refuse a public name that was not declared as a name of this server.

    A page may let its own name point to this machine once it is loaded. To the browser the server is then part of
    that page, which could read and delete voices; but requests still carry the name. With an API key it is harmless.

    Raises:
        ApiError: 403, or 400 where it is no name at all.
    """
    name = (_parsed("Host", f"//{host}").hostname or "").rstrip(".")
    if {"*", name} & {*allowed} or "." not in name or name.endswith(PRIVATE_NAMES) or _is_address(name):
        return
    raise ApiError(403, f"{name!r} is not a name of this server; start it with --allow-host or an API key", code="host")


def _parsed(header: str, address: str) -> SplitResult:
    """An address that consists of a server alone, perhaps with its scheme and port."""
    try:
        parts = urlsplit(address)
        if parts.netloc == address.rpartition("//")[2]:
            return parts
        why = "it must consist of a name and perhaps a port"
    except ValueError as error:
        why = str(error)
    raise ApiError(400, f"the header {header} is not the address of a server: {why}", code="invalid_value")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def check_origin(headers: Headers, allowed: tuple[str, ...]) -> None:
    """Refuse requests that a page of another site makes a browser send.

    A form needs no permission to be posted anywhere, so without this any page could add voices or keep the device
    busy. Programs send no Origin.

    Raises:
        ApiError: 403, or 400 where it is no origin at all.
    """
    origin = headers.get("origin")
    if origin is None or origin in allowed or "*" in allowed:
        return
    # Browsers say null for pages of no site, such as files.
    if origin == "null" or _parsed("Origin", origin).netloc != headers.get("host"):
        raise ApiError(
            403,
            f"pages of {origin!r} may not use this server; start it with --cors-origin to allow them",
            code="origin",
        )
