"""The way of a request through the server: which body becomes which speech, with which voice, for how long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, TypeVar

import anyio
import anyio.to_thread
from starlette.requests import ClientDisconnect, Request

from moss_tts.errors import GenerationError, MossTTSError, RequestError
from moss_tts.request import MossNormalizedRequest
from moss_tts.server.admission import Admission
from moss_tts.server.bodies import Received, receive
from moss_tts.server.chunk_stream import ChunkStream, stream_job, stream_long_text
from moss_tts.server.device_thread import DeviceFailure
from moss_tts.server.errors import ApiError, refused
from moss_tts.server.leaving import ClientGone, unless_gone
from moss_tts.server.metrics import Metrics
from moss_tts.server.models import Lease, Models
from moss_tts.server.progress import Progress
from moss_tts.server.registry import Registry
from moss_tts.server.schema import RECORDINGS, SpeechBody, as_options, text_size
from moss_tts.server.served_model import ServedModel
from moss_tts.server.settings import Settings
from moss_tts.server.uploads import DATA_URI, Recordings, voices_named
from moss_tts.sessions.session import Session
from moss_tts.speaking.engine import SpeechChunk
from moss_tts.speaking.results import cue_clock
from moss_tts.text.cast import is_own_voice
from moss_tts.text.lexicon import Lexicon
from moss_tts.voices import Voice

T = TypeVar("T")
# Fields that have a voice of their own.
OWN_VOICE: Final = ("reference", "ref_audio", "dialogue_speakers", "conversation")
# How many recordings are decoded at a time: each may take tens of megabytes.
DECODERS = 2
# Responses that are encoded at a time, each by a thread.
ENCODERS = 4


class Utterance:
    """A request being spoken, with its deadline and its model. Must be closed.

    Attributes:
        seed: it can be repeated with.
        notes: sentences for people about what is done otherwise than asked.
        sample_rate: the sample rate of its audio.
        channels: the channels of its audio.
        mark: what its file says of how it was made.
        progress: how much of its text is spoken.
        cues: when its segments are heard.
    """

    def __init__(
        self, service: Service, lease: Lease, stream: ChunkStream, request: MossNormalizedRequest, started: float
    ) -> None:
        self._service, self._lease, self._stream = service, lease, stream
        self._started = started
        self._deadline = started + service.settings.timeout_s
        self._first = True
        self._closed = False
        self.seed, self.notes = request.seed, request.notes
        self.sample_rate, self.channels = lease.abilities.sample_rate, lease.abilities.channels
        self.mark = lease.served.source.mark
        self.progress = Progress(request, self.sample_rate)
        self.cues = cue_clock(request, self.sample_rate)
        service.spoken.add(self)

    async def next(self) -> SpeechChunk:
        """The next chunk.

        Raises:
            ApiError: there is none; the request is over.
        """
        try:
            async with asyncio.timeout_at(self._deadline):
                chunk = await self._stream.next()
        except TimeoutError as error:
            raise _late(self._service.settings) from error
        except MossTTSError as error:
            raise failure(error) from error
        if self._first:
            self._service.metrics.first_audio(self._seconds)
            self._first = False
        self._service.metrics.spoke(len(chunk.frames), len(chunk.audio) / self.sample_rate)
        return chunk

    @property
    def seconds_left(self) -> float:
        """Until its deadline."""
        return self._deadline - asyncio.get_running_loop().time()

    @property
    def patience(self) -> float:
        """Seconds that its client has for each piece of the answer."""
        return self._service.settings.reader_timeout_s

    @property
    def encoders(self) -> anyio.CapacityLimiter:
        """Threads that may encode audio."""
        return self._service.encoders

    @property
    def _seconds(self) -> float:
        return asyncio.get_running_loop().time() - self._started

    def close(self, outcome: str) -> None:
        """Stop the work and make room for others."""
        if self._closed:
            return
        self._closed = True
        self._service.spoken.remove(self)
        self._stream.close()
        self._lease.release()
        self._service.admission.leave(self._seconds if outcome == "ok" else None)
        self._service.metrics.ended(outcome, self._seconds)


def _late(settings: Settings) -> ApiError:
    return ApiError(504, f"the request took longer than {settings.timeout_s:g} s", code="timeout")


def failure(error: MossTTSError) -> ApiError:
    """The answer when speaking has failed."""
    # A segment's failure has its cause with it.
    cause = error.__cause__ or error
    if isinstance(cause, RequestError):
        return ApiError(400, str(error), code="invalid_value")
    if isinstance(error, GenerationError) and not isinstance(cause, DeviceFailure):
        # Neither the request nor the server is at fault: the model had nothing to say.
        return ApiError(422, str(error), code="no_audio")
    return refused(error, ())


def outcome_of(error: BaseException) -> str:
    """How a request ended that raised."""
    if not isinstance(error, ApiError):
        return "cancelled" if isinstance(error, asyncio.CancelledError | ClientDisconnect | ClientGone) else "failed"
    return {503: "overloaded", 504: "timeout"}.get(error.status, "rejected" if error.status < 500 else "failed")


@dataclass(frozen=True)
class OpenSession:
    """A session with what its sound needs besides.

    Attributes:
        session: the session.
        model: the name of its model.
        mark: what files of its sound say of how they were made.
    """

    session: Session
    model: str
    mark: str | None


class Service:
    """The state that the routes share. It is made and used on the event loop.

    Args:
        settings: the settings of the server.
        models: started.
    """

    def __init__(self, settings: Settings, models: Models) -> None:
        self.settings, self.models = settings, models
        self.metrics = Metrics()
        self.admission = Admission(settings.max_batch, settings.max_waiting)
        # Threads that wait for long texts; they compute nothing. Some wait for clients that do not read, so that there
        # is one for every request that is let in.
        most = settings.max_batch + settings.max_waiting
        self._narrators = ThreadPoolExecutor(most, thread_name_prefix="narrator")
        self.spoken: set[Utterance] = set()
        self._decoders, self.encoders = anyio.CapacityLimiter(DECODERS), anyio.CapacityLimiter(ENCODERS)
        self.registry = Registry(settings, models, self._decoders)

    async def say(self, request: Request, item: Received[SpeechBody] | None = None) -> tuple[Utterance, SpeechBody]:
        """Read a request, and begin to speak it; or begin to speak an item of it that is here already.

        A client that finds no place is refused before its body is read. A body takes its place when all of it is here,
        so that a slow one keeps nobody out; the time it takes counts.

        Raises:
            ApiError: a request that is refused.
            ClientDisconnect: its client went before all of it was here.
        """
        started = asyncio.get_running_loop().time()
        try:
            with self.admission.place() as take_place:
                async with asyncio.timeout_at(started + self.settings.timeout_s):
                    received = item or await receive(request, SpeechBody, self.settings, take_place)
                    if item is not None:
                        take_place()
                    self._check_body(received.body)
                    lease, settled, stream = await self._begun(request, received)
        except TimeoutError as error:
            late = _late(self.settings)
            self.metrics.ended(outcome_of(late))
            raise late from error
        except BaseException as error:
            self.metrics.ended(outcome_of(error))
            raise
        return Utterance(self, lease, stream, settled, started), received.body

    async def _begun(
        self, request: Request, received: Received[SpeechBody]
    ) -> tuple[Lease, MossNormalizedRequest, ChunkStream]:
        """Begin to speak, once the model of a request is in memory."""
        lease = self.models.lease(received.body.model)
        try:
            if not lease.is_ready:
                await unless_gone(request, lease.ready())
            settled = await self._settled(received, lease)
            return lease, settled, self._begin(settled, lease)
        except BaseException:
            lease.release()
            raise

    # ------------------------------------------------------------------------------------------ checks

    def _check_body(self, body: SpeechBody) -> None:
        """Refuse bodies that can be refused before their model is in memory."""
        served = self.models.named(body.model)
        if body.max_tokens is not None and body.max_tokens > self.settings.max_frames:
            raise ApiError(
                400, f"max_tokens must be at most {self.settings.max_frames}; got {body.max_tokens}", "max_tokens"
            )
        self._check_texts(body)
        with _answered(body):
            self._named_options(body, served)

    def _check_texts(self, body: SpeechBody) -> None:
        """Refuse texts that are too long all together; the error names the longest."""
        sizes = {name: text_size(value) for name, value in body if name not in RECORDINGS}
        longest = max(sizes, key=sizes.__getitem__)
        if sum(sizes.values()) > self.settings.max_chars:
            raise ApiError(
                400,
                f"all texts of a request together may have {self.settings.max_chars} characters; {longest} has "
                f"{sizes[longest]}",
                longest,
                "string_above_max_length",
            )

    # ------------------------------------------------------------------------------------------- begin

    def _begin(self, request: MossNormalizedRequest, lease: Lease) -> ChunkStream:
        if request.long_form is None:
            return stream_job(lease.device, lease.model, request)
        return stream_long_text(lease.device, lease.model, request, self._narrators)

    @asynccontextmanager
    async def session(self, body: SpeechBody) -> AsyncIterator[OpenSession]:
        """Open a session, and close it at the end; its turns share the batch with all requests for its model.

        The model stays in memory until then.

        Args:
            body: its options; it has no text.

        Raises:
            ApiError: an option that is refused, or a model that speaks no text.
        """
        self._check_body(body)
        if self.models.named(body.model).abilities.prompt_field != "input":
            raise ApiError(400, "this model makes sounds and speaks no text, so it has no sessions", "model")
        async with self.models.use(body.model, self.settings.timeout_s) as lease:
            with _answered(body):
                options, _ = await self._options(Received(body), lease)
                session = await anyio.to_thread.run_sync(partial(lease.model.session, host=lease.device, **options))
            with session:
                yield OpenSession(session, lease.served.name, lease.served.source.mark)

    async def user_audio(self, recording: str) -> Any:
        """What a user of a session said, as samples and rate.

        Raises:
            ApiError: no recording, or a path, or an address.
        """
        if not DATA_URI.match(recording):
            message = (
                f"user: audio must be data:audio/wav;base64,..., never a path or an address; got {recording[:60]!r}"
            )
            raise ApiError(400, message, "user", "invalid_value")
        load = partial(Recordings({}, {}, self.settings.max_reference_s).load, "user", recording)
        return await anyio.to_thread.run_sync(load, limiter=self._decoders)

    async def _settled(self, received: Received[SpeechBody], lease: Lease) -> MossNormalizedRequest:
        """The request of a body, with its recordings."""
        body = received.body
        with _answered(body):
            options, voice = await self._options(received, lease)
            options["stream"] = body.stream if lease.abilities.is_whole else body.stream is not False
            return replace(await anyio.to_thread.run_sync(partial(lease.model.request, options)), voice=voice)

    async def _options(self, received: Received[SpeechBody], lease: Lease) -> tuple[dict[str, Any], str | None]:
        """The options of generate in a body, with its recordings; the registered voice among them."""
        body = received.body
        options, spoken_by = self._named_options(body, lease.served)
        voice = None if spoken_by is None else spoken_by.name
        known = {
            name: await self.registry.known(lease, "voice" if name == voice else field, name)
            for field, name in list(voices_named(options))
        }
        if spoken_by and body.mode == "continuation":
            options["ref_text"] = known[spoken_by.name][1]
        recordings = Recordings(received.files, known, self.settings.max_reference_s)
        return await anyio.to_thread.run_sync(partial(recordings.resolve, options), limiter=self._decoders), voice

    def _named_options(self, body: SpeechBody, served: ServedModel) -> tuple[dict[str, Any], Voice | None]:
        """The options of generate in a body, its recordings by their names; the voice that it is spoken by."""
        options = as_options(body)
        instructions = body.instructions
        if instructions is not None:
            if "instruction" in options:
                raise ApiError(
                    400,
                    "instructions and instruction are two names of the same field; give only one of them",
                    "instructions",
                )
            options["instruction"] = instructions
        spoken_by = self._spoken_by(body)
        options |= {"reference": f"voice:{spoken_by.name}"} if spoken_by else {}
        options["adapters"] = self._adapters(body, spoken_by, served)
        options["lexicon"] = self._lexicons(body)
        if spoken_by is not None and spoken_by.lexicon is not None:
            options["lexicon"].insert(0, spoken_by.lexicon)
        return options, spoken_by

    def _adapters(self, body: SpeechBody, voice: Voice | None, served: ServedModel) -> dict[str, float]:
        """The weights of adapters: the voice's and the request's; the model's own as well if the request names none."""
        usual, named = served.source.adapters if body.adapters is None else {}, body.adapters or {}
        return {**usual, **(named if voice is None else voice.adapters_with(named))}

    def _lexicons(self, body: SpeechBody) -> list[Lexicon]:
        """The lexicons that a body names."""
        known, named = self.settings.lexicons, [body.lexicon] if isinstance(body.lexicon, str) else body.lexicon or []
        for name in named:
            if name not in known:
                has = f"this server has {', '.join(known)}" if known else "this server has none"
                raise ApiError(400, f"there is no lexicon {name[:100]!r}; {has}", "lexicon", "lexicon_not_found")
        return [known[name] for name in named]

    def _spoken_by(self, body: SpeechBody) -> Voice | None:
        """The voice that a body names, or the server's own; None where it needs none."""
        name, brings_own = self._voice_name(body), any(getattr(body, field) is not None for field in OWN_VOICE)
        if name is None and (brings_own or self.settings.voice is None):
            return None
        if brings_own:
            raise ApiError(
                400, f"voice {name!r} cannot be given together with {', '.join(OWN_VOICE)}", "voice", "invalid_value"
            )
        return self.registry.voice(name or str(self.settings.voice), "voice")

    def _voice_name(self, body: SpeechBody) -> str | None:
        """The registered voice that a body names; None where it leaves the choice to the server."""
        given = body.voice if isinstance(body.voice, str | None) else body.voice.id
        return None if not given or is_own_voice(given, self.registry) else given

    def stop(self) -> None:
        """Fail what is still being spoken. No thread waits for a client any more."""
        self.admission.open = False
        self.models.stop()
        for utterance in list(self.spoken):
            utterance.close("cancelled")
        self._narrators.shutdown(cancel_futures=True)


@contextmanager
def _answered(body: SpeechBody) -> Iterator[None]:
    """Turn what the package refuses into an answer that names the field."""
    try:
        yield
    except MossTTSError as error:
        raise _renamed(refused(error, _fields(body))) from error


def _fields(body: SpeechBody) -> list[str]:
    """Fields that may be at fault, by the names that messages of the package have for them."""
    return [*body.model_fields_set, "text"]


def _renamed(error: ApiError) -> ApiError:
    """OpenAI calls the text input."""
    if error.param == "text":
        error.param = "input"
    return error
