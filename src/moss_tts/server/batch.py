"""Several requests in one: spoken side by side as if they had come by themselves, answered in their order.

The answer is one JSON document, sent item by item, with the names that vLLM-Omni has for it.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import AsyncIterator
from typing import Any, Final

import anyio.to_thread
from fastapi import APIRouter, Request
from fastapi.responses import Response

from moss_tts.server import examples
from moss_tts.server.bodies import Received, receive, validated
from moss_tts.server.errors import ApiError
from moss_tts.server.formats import FORMATS
from moss_tts.server.openapi import answer_like, commands, errors, json_body_of
from moss_tts.server.responses import UNBUFFERED, EncodedAudio
from moss_tts.server.schema import BatchBody, SpeechBody
from moss_tts.server.sending import Sent
from moss_tts.server.service import OWN_VOICE, Service, Utterance, outcome_of

# Fields that choose a voice: an item that has one of them has no use for those that hold for all.
VOICES: Final = frozenset({*OWN_VOICE, "voice", "ref_text"})


def add_batch(router: APIRouter, service: Service) -> None:
    """The route for several requests."""

    @router.post(
        "/audio/speech/batch",
        tags=["Speech"],
        openapi_extra=json_body_of(BatchBody, examples.BATCHES) | commands(examples.BATCH_COMMANDS),
        responses=answer_like("The results in the order of the items.", examples.BATCH_RESULT)
        | errors(400, 403, 408, 413, 415, 500, 503),
        response_class=Response,
    )
    async def batch(request: Request) -> Response:
        """Speak several texts, each as a request of its own would be.

        The items are spoken side by side. Their results are sent in order, each as soon as it is there. An item that
        fails has the status error, and the others are spoken.
        """
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise ApiError(415, "the content-type must be application/json")
        with service.admission.place():
            # Its items take the places.
            body = (await receive(request, BatchBody, service.settings)).body
        answer = BatchAnswer(service, request, body)
        await answer.begin()
        return Sent(
            answer.parts(),
            {"Content-Type": "application/json", **UNBUFFERED},
            patience=service.settings.reader_timeout_s,
            seconds=None,  # each item has its own limit
            on_end=answer.close,
        )


class BatchAnswer:
    """The answer to a batch. Must be closed.

    Args:
        service: speaks the items.
        request: has the items; their client is waited for.
        body: its body.
    """

    def __init__(self, service: Service, request: Request, body: BatchBody) -> None:
        self._service, self._request, self._items = service, request, [_item(body, item) for item in body.items]
        # What is known of each item that was begun: its speech, or why there is none.
        self._begun: list[tuple[Utterance, SpeechBody] | ApiError] = []
        self._open: dict[int, Utterance] = {}
        self._had_place = False
        self._failed = 0

    async def begin(self) -> None:
        """Begin to speak items, in order, as long as there are places for them.

        Raises:
            ApiError: there is none for the first.
        """
        while len(self._begun) < len(self._items) and len(self._open) < self._service.settings.max_batch:
            item = self._items[len(self._begun)]
            try:
                if isinstance(item, ApiError):
                    raise item
                utterance, body = await self._service.say(self._request, Received(item))
            except ApiError as error:
                if error.code == "overloaded" and self._open:
                    return
                if error.code == "overloaded" and not self._had_place:
                    raise
                self._begun.append(error)
            else:
                self._had_place = True
                self._open[len(self._begun)] = utterance
                self._begun.append((utterance, body))

    async def parts(self) -> AsyncIterator[bytes]:
        """The document, item by item."""
        yield f'{{"id": "speech-batch-{secrets.token_hex(8)}", "results": ['.encode()
        for index in range(len(self._items)):
            # In one go with the end of the item before: its place is still free.
            await self.begin()
            begun = self._begun[index]
            result = begun if isinstance(begun, ApiError) else await self._result(*begun)
            yield b", " * bool(index) + await self._written(index, result)
            if index in self._open:
                self._open.pop(index).close("ok" if isinstance(result, dict) else outcome_of(result))
        total = len(self._items)
        counts = f'"total": {total}, "succeeded": {total - self._failed}, "failed": {self._failed}'
        yield f"], {counts}}}".encode()

    async def _result(self, utterance: Utterance, body: SpeechBody) -> dict[str, Any] | ApiError:
        """What an item became: its audio as bytes, and figures."""
        audio = EncodedAudio(utterance, body.response_format, whole=True)
        try:
            content = b"".join(await audio.all())
        except ApiError as error:
            return error
        told = {"audio_data": content, "media_type": FORMATS[body.response_format].media_type}
        timed = {} if body.timestamps is None else {"segments": audio.segments()}
        warning = {"warning": " ".join(utterance.notes)} if utterance.notes else {}
        return told | audio.figures() | timed | warning | {"usage": audio.usage()}

    async def _written(self, index: int, result: dict[str, Any] | ApiError) -> bytes:
        if isinstance(result, ApiError):
            self._failed += 1
            error = {"error": result.message, "param": result.param, "code": result.code}
            return json.dumps({"index": index, "status": "error", **error}).encode()
        # Files may have megabytes, which other requests should not wait for.
        return await anyio.to_thread.run_sync(_success, index, result, limiter=self._service.encoders)

    def close(self, outcome: str) -> None:
        """Stop what is still being spoken."""
        for utterance in self._open.values():
            utterance.close(outcome)
        self._open.clear()


def _success(index: int, result: dict[str, Any]) -> bytes:
    encoded = {"audio_data": base64.b64encode(result["audio_data"]).decode()}
    return json.dumps({"index": index, "status": "success", **result, **encoded}).encode()


def _item(body: BatchBody, item: dict[str, Any]) -> SpeechBody | ApiError:
    """An item with the fields that hold for all; or what is wrong with it."""
    shared = body.model_dump(exclude={"items"}, exclude_unset=True)
    if not VOICES.isdisjoint(item):
        shared = {name: value for name, value in shared.items() if name not in VOICES}
    try:
        found = validated(SpeechBody, json.dumps({**shared, **item}))
    except ApiError as error:
        return error
    if found.stream or found.stream_format == "sse":
        name = "stream" if found.stream else "stream_format"
        return ApiError(400, f"{name}: an item of a batch is a whole file; leave this out", name, "invalid_value")
    return found.model_copy(update={"stream": False})
