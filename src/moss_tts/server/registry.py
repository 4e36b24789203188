"""The registered voices of a server: listed, heard, added and removed. Each stands for itself.

Voices are changed and encoded on the thread of a model, one after the other; so no request gets half of a voice, or
another one than it asked for.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

import anyio
import anyio.to_thread
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.types import Receive, Scope, Send

from moss_tts.audio.waveform import Waveform
from moss_tts.errors import CheckpointError, MossTTSError, UnknownVoiceError
from moss_tts.model import Model
from moss_tts.server.bodies import receive
from moss_tts.server.device_thread import Device
from moss_tts.server.errors import ApiError, refused
from moss_tts.server.models import Lease, Models
from moss_tts.server.schema import VoiceBody
from moss_tts.server.settings import Settings
from moss_tts.server.uploads import KnownVoice, Recordings
from moss_tts.voices import BrokenVoice, Voice, Voices

T = TypeVar("T")


def voice_json(voice: Voice | BrokenVoice) -> dict[str, Any]:
    """A voice in the form that OpenAI's clients read, with further fields."""
    common = {"id": voice.name, "object": "audio.voice", "type": "audio_sample", "name": voice.name}
    if isinstance(voice, BrokenVoice):
        unknown = dict.fromkeys(("transcript", "description", "adapters", "seconds", "source_sha256"))
        return common | {"created_at": 0, **unknown, "broken": voice.why}
    record = voice.record
    return common | {
        "created_at": int(datetime.fromisoformat(record.created).timestamp()),
        "transcript": record.transcript,
        "description": record.description,
        "adapters": record.adapters,
        "seconds": record.seconds,
        "source_sha256": record.source_sha256,
    }


class Registry:
    """Voices as the routes need them.

    Args:
        settings: the settings of the server.
        models: started.
        decoders: threads that may decode audio.
    """

    def __init__(self, settings: Settings, models: Models, decoders: anyio.CapacityLimiter) -> None:
        self._settings, self._models, self._decoders = settings, models, decoders
        self._voices = Voices(settings.voices)
        # Models have threads of their own, and voices are changed and encoded in turns.
        self._turn = asyncio.Lock()

    def __contains__(self, name: object) -> bool:
        return name in self._voices

    def listed(self) -> list[dict[str, Any]]:
        """All voices."""
        return [voice_json(voice) for voice in self._voices.listed()]

    def voice(self, name: str, field: str, status: int = 400) -> Voice:
        """A voice.

        Args:
            name: the name of the voice.
            field: the field of the request that names it.
            status: the status of the answer if there is none.

        Raises:
            ApiError: there is none of that name, or it is broken.
        """
        try:
            return self._voices[name]
        except UnknownVoiceError as error:
            raise ApiError(status, str(error), field, "voice_not_found") from error
        except CheckpointError as error:
            raise ApiError(status, str(error), field, "voice_broken") from error

    def described(self, name: str) -> dict[str, Any]:
        """A voice as it is listed.

        Raises:
            ApiError: 404.
        """
        try:
            return voice_json(self.voice(name, "name", status=404))
        except ApiError as error:
            if error.code != "voice_broken":
                raise
            return voice_json(BrokenVoice(name.lower(), error.message))

    async def known(self, lease: Lease, field: str, name: str) -> KnownVoice:
        """Codes of a voice, and its transcript.

        Args:
            lease: the model that makes the codes, in memory.
            field: the field of the request that names the voice.
            name: the name of the voice.

        Raises:
            ApiError: it cannot speak.
        """

        def known() -> KnownVoice:
            voice = self.voice(name, field)
            return voice.codes(lease.model), voice.record.transcript

        return await self._on_device(lease.device, known, (field,))

    async def add(self, request: Request) -> dict[str, Any]:
        """Register a voice, its codes made.

        Raises:
            ApiError: it is refused.
        """
        received = await receive(request, VoiceBody, self._settings)
        body = received.body
        if body.audio_sample is None:
            raise ApiError(400, "audio_sample: a recording is needed", "audio_sample", "missing")
        self._check_room(body)
        self._models.named(body.model)
        if body.audio_sample.startswith("voice:"):
            raise ApiError(400, "audio_sample: that voice is registered already", "audio_sample", "invalid_value")
        recordings = Recordings(received.files, {}, self._settings.max_reference_s)
        load = partial(recordings.load, "audio_sample", body.audio_sample)
        waveform = Waveform(*await anyio.to_thread.run_sync(load, limiter=self._decoders))
        fields = ("name", "transcript", "description", "adapters", "audio_sample")
        async with self._models.use(body.model) as lease:
            add = partial(self._add, lease.model, body, waveform)
            return voice_json(await self._on_device(lease.device, add, fields))

    def _check_room(self, body: VoiceBody) -> None:
        if body.name in self._voices:
            if not body.replace:
                raise ApiError(409, f"there is a voice {body.name!r} already", "name", "voice_exists")
        elif len(self._voices) >= self._settings.max_voices:
            raise ApiError(400, f"{self._settings.max_voices} voices are the most there may be here", code="full")

    def _add(self, model: Model, body: VoiceBody, waveform: Waveform) -> Voice:
        # Others may have been added while this one was on its way.
        self._check_room(body)
        model.codec()  # a sound model has none, and says so
        model.architecture.network.adapters.check(tuple((body.adapters or {}).items()))
        return self._voices.add(
            body.name,
            waveform,
            transcript=body.transcript,
            description=body.description,
            adapters=body.adapters,
            model=model,
            replace=body.replace,
        )

    async def remove(self, name: str) -> dict[str, Any]:
        """Delete a voice, even a broken one.

        Raises:
            ApiError: there is none, or it may not be removed.
        """
        await self._on_device(self._models.first.device, partial(self._voices.remove, name), ("name",))
        return {"id": name.lower(), "object": "audio.voice.deleted", "deleted": True}

    async def _on_device(self, device: Device, work: Callable[[], T], fields: tuple[str, ...]) -> T:
        try:
            async with self._turn:
                return await asyncio.wrap_future(device.call(work))
        except UnknownVoiceError as error:
            raise ApiError(404, str(error), "name", "voice_not_found") from error
        except MossTTSError as error:
            raise refused(error, fields) from error


class WholeFile(FileResponse):
    """A file that is opened once: what takes its place meanwhile does not cut it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file.

        Raises:
            ApiError: it is gone.
        """
        try:
            file = open(self.path, "rb")
        except OSError as error:
            raise ApiError(404, f"the recording cannot be read: {error.strerror}", "name", "voice_not_found") from error
        with file:
            self.path, self.stat_result = f"/dev/fd/{file.fileno()}", os.fstat(file.fileno())
            self.set_stat_headers(self.stat_result)
            await super().__call__(scope, receive, send)
