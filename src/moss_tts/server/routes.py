"""The routes under /v1, as OpenAI has them and as clients of OpenAI's look for them."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from moss_tts.server import examples
from moss_tts.server.batch import add_batch
from moss_tts.server.encode import add_encode
from moss_tts.server.formats import FORMATS
from moss_tts.server.leaving import unless_gone
from moss_tts.server.openapi import answer_like, body_of, commands, errors
from moss_tts.server.registry import WholeFile
from moss_tts.server.responses import answer
from moss_tts.server.schema import SpeechBody, VoiceBody
from moss_tts.server.served_model import ServedModel
from moss_tts.server.service import Service


def model_json(served: ServedModel) -> dict[str, Any]:
    """A model: where it is, and what its variant wants."""
    return {
        "id": served.name,
        "object": "model",
        "created": 0,
        "owned_by": "local",
        **served.described(),
        **served.abilities.as_json(),
    }


def new_router(service: Service) -> APIRouter:
    """All routes under /v1."""
    router = APIRouter(prefix="/v1")
    _add_speech(router, service)
    add_batch(router, service)
    add_encode(router, service)
    _add_models(router, service)
    _add_voices(router, service)
    return router


def _add_speech(router: APIRouter, service: Service) -> None:
    @router.post(
        "/audio/speech",
        tags=["Speech"],
        openapi_extra=body_of(SpeechBody, examples.REQUESTS) | commands(examples.SPEECH_COMMANDS),
        responses={
            200: {
                "description": "The audio in response_format, or events that carry it.",
                "content": {known.media_type: {} for known in FORMATS.values()}
                | {"text/event-stream": {}, "multipart/mixed": {}},
            },
            **errors(400, 403, 404, 408, 413, 415, 422, 500, 503, 504),
        },
        response_class=Response,
    )
    async def speech(request: Request) -> Response:
        """Speak a text, or make a sound.

        The audio is sent while it is made. The header X-Seed gives the seed with which the same request gives the same
        audio. The header X-Warning says which options this model does not follow.
        """
        utterance, body = await service.say(request)
        return await answer(request, utterance, body)


def _add_models(router: APIRouter, service: Service) -> None:
    models = service.models
    listed = answer_like(
        "The models, whether they are in memory, the options that they follow, and the limits of the server.",
        examples.MODEL_LIST,
    )

    @router.get("/models", tags=["Models"], responses=listed, openapi_extra=commands(examples.MODELS_COMMANDS))
    async def all_models() -> dict[str, Any]:
        """The models of the server; the first one is for requests that name none."""
        return {"object": "list", "data": [model_json(served) for served in models]}

    @router.get(
        "/models/{model:path}",
        tags=["Models"],
        responses=answer_like("The model, in memory or not.", examples.MODEL) | errors(404),
    )
    async def model(model: str) -> dict[str, Any]:
        """A model, by its name."""
        return model_json(models[model])

    @router.post(
        "/models/{model:path}/load",
        tags=["Models"],
        responses=answer_like("The model, which is in memory now.", examples.MODEL) | errors(403, 404, 503),
        openapi_extra=commands(examples.LOAD_COMMANDS),
    )
    async def load(request: Request, model: str) -> dict[str, Any]:
        """Load a model. Requests do so by themselves; this is for those that come later."""
        lease = models.lease(models[model].name)
        try:
            await unless_gone(request, lease.ready())
            return model_json(lease.served)
        finally:
            lease.release()

    @router.post(
        "/models/{model:path}/unload",
        tags=["Models"],
        responses=answer_like("The model, which is not in memory any more.", examples.UNLOADED) | errors(403, 404, 409),
        openapi_extra=commands(examples.UNLOAD_COMMANDS),
    )
    async def unload(model: str) -> dict[str, Any]:
        """Take a model out of memory. The next request for it loads it again."""
        served = models[model]
        await models.unload(served)
        return model_json(served)

    @router.get("/audio/models", include_in_schema=False)
    async def audio_models() -> dict[str, Any]:
        """The same, where Open WebUI looks."""
        return {"models": [{"id": served.name, "name": served.name} for served in models]}


def _add_voices(router: APIRouter, service: Service) -> None:
    @router.get(
        "/audio/voices",
        tags=["Voices"],
        responses=answer_like("All registered voices.", examples.VOICE_LIST),
        openapi_extra=commands(examples.VOICES_COMMANDS),
    )
    async def voices() -> dict[str, Any]:
        """The registered voices, in OpenAI's form and in the one that others look for.

        `broken` says what is wrong with one that cannot be read; it can be deleted, or replaced.
        """
        known = await asyncio.to_thread(service.registry.listed)
        whole = [{"id": voice["id"], "name": voice["name"]} for voice in known if "broken" not in voice]
        choices = [{"id": "default", "name": "default"}, *whole]
        return {"object": "list", "data": known, "voices": choices}

    @router.post(
        "/audio/voices",
        status_code=201,
        tags=["Voices"],
        openapi_extra=body_of(VoiceBody) | commands(examples.ADD_VOICE_COMMANDS),
        responses=answer_like("The new voice.", examples.VOICE, status=201) | errors(400, 403, 408, 409, 413, 415, 500),
    )
    async def add(request: Request) -> dict[str, Any]:
        """Register a recording as a voice. Requests then name it in the field `voice`."""
        return await service.registry.add(request)

    @router.get(
        "/audio/voices/{name}",
        tags=["Voices"],
        responses=answer_like("The registered voice.", examples.VOICE) | errors(404),
    )
    async def voice(name: str) -> dict[str, Any]:
        """A registered voice, by its name."""
        return service.registry.described(name)

    @router.get(
        "/audio/voices/{name}/sample",
        tags=["Voices"],
        responses={200: {"description": "The recording of the voice.", "content": {"audio/wav": {}}}, **errors(404)},
        response_class=WholeFile,
        openapi_extra=commands(examples.SAMPLE_COMMANDS),
    )
    async def sample(name: str) -> WholeFile:
        """The recording of a voice."""
        return WholeFile(service.registry.voice(name, "name", status=404).sample, media_type="audio/wav")

    @router.delete(
        "/audio/voices/{name}",
        tags=["Voices"],
        responses=answer_like("The voice is deleted.", examples.DELETED) | errors(403, 404),
        openapi_extra=commands(examples.REMOVE_VOICE_COMMANDS),
    )
    async def remove(name: str) -> dict[str, Any]:
        """Delete a registered voice."""
        return await service.registry.remove(name)
