"""The application: routes, page, health, metrics, and how errors are answered."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import mlx.core as mx
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from moss_tts._version import __version__
from moss_tts.errors import MossTTSError
from moss_tts.server.errors import ApiError, refused
from moss_tts.server.gate import Gate
from moss_tts.server.leaving import ClientGone
from moss_tts.server.models import Models
from moss_tts.server.openapi import describe
from moss_tts.server.paths import unknown_path, wrong_method
from moss_tts.server.responses import EXPOSED_HEADERS
from moss_tts.server.routes import new_router
from moss_tts.server.service import Service
from moss_tts.server.settings import Settings
from moss_tts.server.sockets.routes import Sockets, add_sockets

PAGE = Path(__file__).parent / "page"
# The page loads nothing but its own files, and plays what it was sent.
PAGE_POLICY = (
    "default-src 'self'; connect-src 'self' blob:; media-src 'self' blob:; img-src 'self' data:; "
    "frame-ancestors 'none'; form-action 'none'"
)
CLIENT_CLOSED_REQUEST = 499
HEALTH = {
    "status": "ok",
    "model": "MOSS-TTS",
    "models": {
        "MOSS-TTS": {"state": "loading", "memory_bytes": 17_100_000_000, "loading_seconds": 2.5, "progress": 0.4}
    },
}
HEALTHY: dict[str, Any] = {
    "description": "The server is ready for requests.",
    "content": {"application/json": {"example": HEALTH}},
}

log = logging.getLogger("moss_tts.server")


class PageFiles(StaticFiles):
    """Files of the page. Browsers ask for them each time, so that no page mixes files of two releases."""

    def file_response(self, *args: Any) -> Response:
        """A file, or the answer that the browser has it already."""
        response = super().file_response(*args)
        response.headers["Cache-Control"] = "no-cache"
        return response


def create_app(settings: Settings, models: Models) -> FastAPI:
    """The application of models that are started. When it shuts down, so do their threads."""
    service = Service(settings, models)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        models.begin()
        yield
        service.stop()

    app = FastAPI(
        title="moss-tts", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None, redirect_slashes=False
    )
    app.state.sockets = sockets = Sockets(service)
    router = new_router(service)
    add_sockets(router, sockets)
    app.include_router(router)
    _add_own(app, service, sockets)
    _add_page(app)
    _answer_errors(app, [route for route in (*router.routes, *app.routes) if isinstance(route, Route)])
    describe(app, settings, models.first.abilities)
    _guard(app, settings)
    return app


def _add_own(app: FastAPI, service: Service, sockets: Sockets) -> None:
    @app.get(
        "/health", tags=["Server"], responses={200: HEALTHY, 503: {"description": "The server takes no requests."}}
    )
    async def health() -> JSONResponse:
        """Whether requests are taken, and which models are in memory; a model that is being loaded says how far."""
        models = service.models
        ready = models.alive and service.admission.open
        content = {
            "status": "ok" if ready else "unavailable",
            "model": models.first.name,
            "models": {served.name: served.described() for served in models},
        }
        return JSONResponse(content, 200 if ready else 503)

    @app.get(
        "/metrics",
        tags=["Server"],
        response_class=PlainTextResponse,
        responses={200: {"description": "The counters in Prometheus's text format."}},
    )
    async def metrics() -> PlainTextResponse:
        """Counters in Prometheus' format."""
        admission = service.admission
        running = admission.inside - admission.waiting
        memory = mx.get_active_memory() + mx.get_cache_memory()
        text = service.metrics.text(running, admission.waiting, len(sockets), memory, service.models)
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_page(app: FastAPI) -> None:
    def page(name: str) -> Callable[[], Any]:
        content = (PAGE / name).read_text("utf-8")

        async def show() -> Response:
            return Response(content, media_type="text/html", headers={"Content-Security-Policy": PAGE_POLICY})

        return show

    app.get("/", include_in_schema=False)(page("index.html"))
    app.get("/docs", include_in_schema=False)(page("docs.html"))
    app.mount("/static", PageFiles(directory=PAGE))


def _answer_errors(app: FastAPI, routes: Sequence[Route]) -> None:
    @app.exception_handler(ApiError)
    async def refused_request(_: Request, error: ApiError) -> JSONResponse:
        if error.status == 500:
            log.error("a request failed: %s", error.message)
        return JSONResponse(error.body, error.status, error.headers)

    @app.exception_handler(MossTTSError)
    async def failed(request: Request, error: MossTTSError) -> JSONResponse:
        return await refused_request(request, refused(error, ()))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        path = request.scope["path"]
        match error.status_code:
            case 404:
                refusal = unknown_path(routes, path)
            case 405:
                refusal = wrong_method(routes, request.method, path)
            case status:
                refusal = ApiError(status, str(error.detail), headers=dict(error.headers or {}))
        return await refused_request(request, refusal)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return await refused_request(request, ApiError(400, first["msg"], str(first["loc"][-1]), "invalid_value"))

    @app.exception_handler(Exception)
    async def unexpected(request: Request, _: Exception) -> JSONResponse:
        # Starlette logs it; clients need not know the names of paths and libraries here.
        return await refused_request(request, ApiError(500, "the server made a mistake; its log has more"))

    @app.exception_handler(ClientGone)
    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, _error: Exception) -> Response:
        return Response(status_code=CLIENT_CLOSED_REQUEST)


def _guard(app: FastAPI, settings: Settings) -> None:
    """Add the middleware. The last one added comes first: CORS must answer browsers before they have a key."""
    gate: Callable[..., ASGIApp] = Gate
    app.add_middleware(gate, settings=settings)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=list(settings.cors_origins),
        allow_methods=["GET", "POST", "DELETE"],
        # OpenAI's client in a page sends headers of its own, X-Stainless-*, which differ between versions.
        allow_headers=["*"],
        expose_headers=list(EXPOSED_HEADERS),
    )
