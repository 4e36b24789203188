"""Responses with audio: a whole file, a file sent while it is made, or events that carry its bytes."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import AsyncIterator
from typing import Any

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response

from moss_tts.server.errors import ApiError
from moss_tts.server.formats import FORMATS, FormatEncoder, new_encoder
from moss_tts.server.leaving import unless_gone
from moss_tts.server.progress import segment_of
from moss_tts.server.schema import SpeechBody
from moss_tts.server.sending import Sent, one_by_one
from moss_tts.server.service import Utterance, outcome_of
from moss_tts.speaking.engine import SpeechChunk
from moss_tts.subtitles.cues import Cue

EXPOSED_HEADERS = (
    "X-Sample-Rate",
    "X-Channels",
    "X-Sample-Format",
    "X-Seed",
    "X-Warning",
    "X-Finish-Reason",
    "Retry-After",
    "X-Request-Id",
)
MOST_OF_A_HEADER = 2000
# Without it, proxies gather a stream before they hand it on.
UNBUFFERED = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


async def answer(request: Request, utterance: Utterance, body: SpeechBody) -> Response:
    """The response to a request for speech. Nothing is sent before there is audio, so errors have their status.

    Raises:
        ApiError: there will be no audio.
        ClientGone: nobody waits for it.
    """
    whole = body.stream is False and body.stream_format == "audio"
    audio = EncodedAudio(utterance, body.response_format, whole)
    envelope = Envelope(FORMATS[body.response_format].media_type) if in_parts(body) else None
    try:
        if whole:
            all_ = await unless_gone(request, audio.all())
            all_ = all_ if envelope is None else [envelope.head, *all_, envelope.end(audio)]
            length = {"Content-Length": str(sum(map(len, all_))), "X-Finish-Reason": str(audio.finish_reason)}
            return sent(utterance, one_by_one(all_), headers(utterance, body, envelope) | length)
        first = await unless_gone(request, audio.start())
    except BaseException as error:
        utterance.close(outcome_of(error))
        raise
    if body.stream_format == "sse":
        parts = events(audio, first, body.verbose is True, body.timestamps is not None)
    else:
        parts = audio.rest(first) if envelope is None else envelope.around(audio, first)
    return sent(utterance, parts, headers(utterance, body, envelope))


def in_parts(body: SpeechBody) -> bool:
    """Whether an answer has a JSON part behind the audio."""
    return body.timestamps is not None and body.stream_format == "audio"


class Envelope:
    """An answer of two parts (multipart/mixed): the audio, then the times of its segments as JSON.

    Args:
        media_type: the media type of the audio.
    """

    def __init__(self, media_type: str) -> None:
        self._boundary = secrets.token_hex(16)
        self.media_type = f"multipart/mixed; boundary={self._boundary}"
        self.head = f"--{self._boundary}\r\nContent-Type: {media_type}\r\n\r\n".encode()

    def end(self, audio: EncodedAudio) -> bytes:
        """What follows the audio."""
        content = json.dumps({"segments": audio.segments(), **audio.figures()})
        return (
            f"\r\n--{self._boundary}\r\nContent-Type: application/json\r\n\r\n{content}\r\n--{self._boundary}--\r\n"
        ).encode()

    async def around(self, audio: EncodedAudio, first: bytes) -> AsyncIterator[bytes]:
        """The whole answer while the audio is made."""
        yield self.head
        async for part in audio.rest(first):
            yield part
        yield self.end(audio)


def sent(utterance: Utterance, parts: AsyncIterator[bytes], headers: dict[str, str]) -> Sent:
    """The response of an utterance, which has its place until the client has taken all of it."""
    return Sent(
        parts,
        headers,
        patience=utterance.patience,
        # Waiting for audio has its own limit; this one is for clients that do not read.
        seconds=utterance.seconds_left + 1,
        on_end=utterance.close,
    )


def headers(utterance: Utterance, body: SpeechBody, envelope: Envelope | None) -> dict[str, str]:
    """Headers with facts about the audio."""
    media_type = "text/event-stream" if body.stream_format == "sse" else FORMATS[body.response_format].media_type
    media_type = media_type if envelope is None else envelope.media_type
    common = {
        "Content-Type": media_type,
        "X-Sample-Rate": str(utterance.sample_rate),
        "X-Channels": str(utterance.channels),
        "X-Seed": str(utterance.seed),
        **UNBUFFERED,
        **({"X-Warning": as_header(" ".join(utterance.notes))} if utterance.notes else {}),
    }
    return common | ({"X-Sample-Format": "s16le"} if body.response_format == "pcm" else {})


def as_header(text: str) -> str:
    """A text in the ASCII that headers carry, its other characters written as \\u1234; long ones are cut."""
    return text.encode("ascii", "backslashreplace").decode()[:MOST_OF_A_HEADER]


class EncodedAudio:
    """The bytes of one response, from one encoder."""

    def __init__(self, utterance: Utterance, format_: str, whole: bool) -> None:
        self.utterance = utterance
        sound = utterance.sample_rate, utterance.channels
        self._encoder: FormatEncoder = new_encoder(format_, *sound, whole, utterance.mark)
        self.finish_reason: str | None = None
        self.frames = self.prompt_rows = self.samples = 0
        self.progress: float | None = None
        self.cues: list[Cue] = []

    async def start(self) -> bytes:
        """The first bytes; the model may need a while."""
        return await self._next()

    async def rest(self, first: bytes) -> AsyncIterator[bytes]:
        """All bytes in order."""
        yield first
        while self.finish_reason is None:
            yield await self._next()

    async def all(self) -> list[bytes]:
        """All bytes, once they are there."""
        return [part async for part in self.rest(await self.start())]

    async def _next(self) -> bytes:
        chunk = await self.utterance.next()
        self.finish_reason = chunk.finish_reason
        self.frames += len(chunk.frames)
        self.samples += len(chunk.audio)
        self.prompt_rows = self.prompt_rows or chunk.prompt_rows
        self.progress = self.utterance.progress.after(chunk)
        ended = self.utterance.cues.after(segment_of(chunk), len(chunk.audio), chunk.finish_reason)
        self.cues += [cue.shifted(self._encoder.delay) for cue in ended]
        # Encoding takes milliseconds, which other requests should not wait for.
        return await anyio.to_thread.run_sync(self._encode, chunk, limiter=self.utterance.encoders)

    def figures(self) -> dict[str, Any]:
        """How it ended, and the seed that makes it again."""
        return {"finish_reason": self.finish_reason, "seed": self.utterance.seed}

    def usage(self) -> dict[str, int]:
        """What it took, in the names that OpenAI has for tokens."""
        tokens = {"input_tokens": self.prompt_rows, "output_tokens": self.frames}
        return {**tokens, "total_tokens": sum(tokens.values())}

    def segments(self) -> list[dict[str, Any]]:
        """The times of its segments that are complete."""
        return [{"id": number, **cue.as_json()} for number, cue in enumerate(self.cues)]

    def _encode(self, chunk: SpeechChunk) -> bytes:
        encoded = self._encoder.feed(chunk.audio)
        return encoded if chunk.finish_reason is None else encoded + self._encoder.close()


async def events(audio: EncodedAudio, first: bytes, verbose: bool, timed: bool) -> AsyncIterator[bytes]:
    """OpenAI's events, an error among them if there is one; if it is timed, one for each segment behind its audio."""
    told = 0
    try:
        async for part in audio.rest(first):
            # A sound has steps before it has audio.
            if not part and verbose and audio.progress is not None and not audio.samples:
                yield event({"type": "speech.audio.progress", "progress": round(audio.progress, 3)})
            if part:
                far = {"progress": round(audio.progress, 3)} if verbose and audio.progress is not None else {}
                yield event({"type": "speech.audio.delta", "audio": base64.b64encode(part).decode(), **far})
            for cue in audio.cues[told:] if timed else ():
                yield event({"type": "speech.segment", "id": told, **cue.as_json()})
                told += 1
    except ApiError as error:
        yield event({"type": "error", **error.body})
        raise
    figures = audio.figures()
    if verbose:
        figures |= {"samples": audio.samples, "sample_rate": audio.utterance.sample_rate}
    yield event({"type": "speech.audio.done", "usage": audio.usage(), **figures})


def event(content: dict[str, Any]) -> bytes:
    """One event of a stream."""
    return f"data: {json.dumps(content)}\n\n".encode()
