"""Samples that a client has, as a file in another format: what the page downloads."""

from __future__ import annotations

from typing import Annotated, Final

import anyio
import anyio.to_thread
import numpy as np
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from moss_tts.audio.pcm import BYTES_PER_SAMPLE, as_float
from moss_tts.server.errors import ApiError
from moss_tts.server.examples import ENCODE_COMMANDS
from moss_tts.server.formats import FORMATS, new_encoder
from moss_tts.server.openapi import commands, errors
from moss_tts.server.schema import ResponseFormat
from moss_tts.server.sending import Sent, one_by_one
from moss_tts.server.service import Service

# Each may hold a body, its floats and a file in memory.
MOST_AT_ONCE: Final = 2
SAMPLES_AT_ONCE: Final = 2**18

Rate = Annotated[int, Query(ge=8000, le=192_000, description="The number of samples per second.")]
Channels = Annotated[
    int, Query(ge=1, le=2, description="The number of channels. Their samples are interleaved in the body.")
]
Wanted = Annotated[ResponseFormat, Query(description="The format of the file.")]
Speaker = Annotated[str | None, Query(max_length=200, description="The model that spoke, for the file's mark.")]
PCM = {
    "requestBody": {
        "required": True,
        "description": "The samples, 16-bit and little-endian, as response_format pcm gives them.",
        "content": {"audio/pcm": {"schema": {"type": "string", "format": "binary"}}},
    }
}


def add_encode(router: APIRouter, service: Service) -> None:
    """The route that turns samples into a file."""
    places = anyio.CapacityLimiter(MOST_AT_ONCE)

    @router.post(
        "/audio/encode",
        tags=["Speech"],
        openapi_extra=PCM | commands(ENCODE_COMMANDS),
        responses={
            200: {"description": "The audio file.", "content": {known.media_type: {} for known in FORMATS.values()}},
            **errors(400, 403, 404, 408, 413, 415, 503),
        },
        response_class=Response,
    )
    async def encode(
        request: Request,
        sample_rate: Rate,
        channels: Channels = 1,
        response_format: Wanted = "mp3",
        model: Speaker = None,
    ) -> Response:
        """Make a file of samples: speech that was streamed as pcm, to be kept as mp3 for instance."""
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "audio/pcm":
            raise ApiError(415, "the content-type must be audio/pcm")
        mark = service.models.named(model).source.mark
        with service.admission.place() as take_place:
            # A body takes no place before all of it is here: a slow client keeps nobody out.
            pcm = samples(await request.body(), channels)
            take_place()
            try:
                places.acquire_nowait()
            except anyio.WouldBlock as error:
                busy = f"{MOST_AT_ONCE} files are being made, which is the limit; try again in 1 s"
                raise ApiError(503, busy, code="overloaded", headers={"Retry-After": "1"}) from error
            try:
                content = await anyio.to_thread.run_sync(encoded, pcm, sample_rate, channels, response_format, mark)
            finally:
                places.release()
        return Sent(
            one_by_one([content]),
            {"Content-Type": FORMATS[response_format].media_type, "Content-Length": str(len(content))},
            patience=service.settings.reader_timeout_s,
            seconds=service.settings.timeout_s,
            on_end=lambda _: service.admission.leave(),
        )


def samples(body: bytes, channels: int) -> np.ndarray:
    """int16 (S,) or (S, C) of a body.

    Raises:
        ApiError: no samples, or a part of one at the end.
    """
    frame = channels * BYTES_PER_SAMPLE
    if not body or len(body) % frame:
        raise ApiError(400, f"the body must be frames of {frame} bytes, at least one; got {len(body)} bytes")
    pcm = np.frombuffer(body, "<i2")
    return pcm if channels == 1 else pcm.reshape(-1, channels)


def encoded(pcm: np.ndarray, sample_rate: int, channels: int, format_: str, mark: str | None = None) -> bytes:
    """A whole file of int16 samples (S,) or (S, C)."""
    encoder = new_encoder(format_, sample_rate, channels, whole=True, mark=mark)
    parts = [
        encoder.feed(as_float(pcm[start : start + SAMPLES_AT_ONCE])) for start in range(0, len(pcm), SAMPLES_AT_ONCE)
    ]
    return b"".join([*parts, encoder.close()])
