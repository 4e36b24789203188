"""Requests as an engine takes them: references encoded, prompts packed, budgets settled."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from moss_tts.architectures import Architecture
from moss_tts.audio.references import CodeArray
from moss_tts.audio.tempo import Tempo
from moss_tts.codec import MossAudioTokenizer
from moss_tts.context.kept import KeptContext
from moss_tts.context.prefixes import KeptPrefixes
from moss_tts.context.text_column import TextColumn
from moss_tts.processor import MossTTSProcessor
from moss_tts.prompts.packing import LEAD
from moss_tts.request import MossNormalizedRequest
from moss_tts.rows import RowRequest
from moss_tts.speaking.checking import Check
from moss_tts.speaking.engine import ChunkSizes, SpeechEngine, SpeechJob
from moss_tts.speaking.narration import NO_VOICES, Narrator, OnSegment, SpeechBackend
from moss_tts.speaking.on_device import EngineOnDevice
from moss_tts.speaking.runaway import QuietWatch, longest_plausible_seconds
from moss_tts.text.cast import Casting


class Cancel(Protocol):
    """An event that ends work early, such as a threading.Event."""

    def is_set(self) -> bool:
        """Whether the work should end."""
        ...


class CodecSource(Protocol):
    """A codec that is loaded when it is first asked for."""

    def __call__(self) -> MossAudioTokenizer:
        """The codec."""
        ...

    def release_encoder(self) -> None:
        """Free the memory that only encoding needs."""
        ...


@dataclass(frozen=True)
class AnyOf:
    """An event that is set as soon as one of two events is set."""

    first: Cancel
    second: Cancel | None

    def is_set(self) -> bool:
        """Whether one of them is set."""
        return self.first.is_set() or (self.second is not None and self.second.is_set())


class JobMaker:
    """Makes jobs and narrators of requests.

    Args:
        architecture: the network with its way of making rows.
        processor: packs prompts.
        codec: gives the codec when there is something to encode or decode.
    """

    def __init__(self, architecture: Architecture[Any, Any], processor: MossTTSProcessor, codec: CodecSource) -> None:
        self.architecture = architecture
        self.config = architecture.config
        self.processor = processor
        self.codec = codec

    @property
    def sample_rate(self) -> int:
        """Rate of the audio, in Hz."""
        return int(self.config.sampling_rate)

    def job(self, request: MossNormalizedRequest, cancel: Cancel | None = None) -> SpeechJob:
        """A request as a SpeechEngine takes it: references encoded, prompt packed, budget settled.

        Args:
            request: a request of `Model.request`.
            cancel: ends the job within one frame once it is set.

        Raises:
            AudioError: a reference that cannot be used.
        """
        ids, _ = self.processor.prepare_generation_inputs(list(request.messages), request.mode, request.preset.template)
        spoken = self.processor.spoken_ids(request.messages)
        job = self.job_of(np.array(ids)[0], request, None if spoken is None else TextColumn(spoken[LEAD:]))
        if cancel is not None:
            job = replace(job, cancelled=cancel.is_set)
        guarded = request.runaway_guard and request.tokens is None
        return self._guarded(job, request.text) if guarded and request.text is not None else job

    def job_of(
        self,
        prompt: np.ndarray,
        request: MossNormalizedRequest,
        column: TextColumn | None = None,
        context: KeptContext | None = None,
    ) -> SpeechJob:
        """A prompt as a SpeechEngine takes it, with the sampling, the budget and the chunks of a request.

        Args:
            prompt: its rows (T, 1 + Q).
            request: a request of `Model.request`.
            column: the text behind the prompt, for models that read it while they speak.
            context: the conversation that it is a turn of.

        Raises:
            RequestError: the model has no room for it.
        """
        assert request.n_vq_for_inference is not None, "the architecture has settled it"
        adapters = tuple((name, weight) for name, weight in request.adapters if weight)
        room = self.architecture.room(len(prompt) + (0 if context is None else len(context.rows)))
        interval = max(1, round(request.streaming_interval * self.codec().config.frame_rate))
        job = SpeechJob(
            prompt,
            RowRequest(
                request.sampling,
                request.seed,
                request.effective_max_tokens if room is None else min(request.effective_max_tokens, room),
                adapters,
                column,
                context,
            ),
            request.n_vq_for_inference,
            self._streamed(interval) if request.stream else ChunkSizes(),
        )
        if request.speed != 1:
            tempo = Tempo(request.speed, self.sample_rate, self.codec().config.channels)
            job = replace(job, retimed=tempo.feed)
        return job

    def _streamed(self, interval: int) -> ChunkSizes:
        return ChunkSizes(tuple(min(size, interval) for size in self.architecture.first_chunks), interval)

    def _guarded(self, job: SpeechJob, text: str) -> SpeechJob:
        """A job that ends when it has made far more speech than its text can take, or has gone silent."""
        plausible = math.ceil(longest_plausible_seconds(text) * self.codec().config.frame_rate)
        bounded = replace(job.request, max_frames=min(job.request.max_frames, plausible))
        return replace(job, request=bounded, gone_silent=QuietWatch(text, self.sample_rate).hear)

    def narrator(
        self,
        request: MossNormalizedRequest,
        *,
        cancel: Cancel | None = None,
        on_segment: OnSegment | None = None,
        change_backend: Callable[[SpeechBackend], SpeechBackend] = lambda backend: backend,
        voices: Mapping[Casting, MossNormalizedRequest] = NO_VOICES,
        check: Check | None = None,
    ) -> Narrator:
        """A narrator of a long text, for callers that keep its segments themselves.

        Args:
            request: a request of `Model.request`, with long_form.
            cancel: ends the segment that is being spoken.
            on_segment: called with each finished segment.
            change_backend: changes the means it speaks with, for callers that share an engine.
            voices: requests of `Model.request` for segments that have a casting.
            check: hears segments; those that were misspoken are spoken again.

        Raises:
            AudioError: a reference that cannot be used.
        """
        backend = SpeechBackend(
            job=lambda part: self.job(part, cancel),
            engine=self.engine,
            sample_rate=self.sample_rate,
            frame_rate=self.codec().config.frame_rate,
            n_vq=self.config.n_vq,
        )
        others = {casting: self.encoded(other) for casting, other in voices.items()}
        return Narrator(self.encoded(request), change_backend(backend), on_segment, others, check)

    def encoded(self, request: MossNormalizedRequest) -> MossNormalizedRequest:
        """The request with codes in place of its recordings, so that they are encoded once for many jobs.

        Raises:
            AudioError: a reference that cannot be used.
        """
        given = [*request.reference, request.prompt_audio]
        known = [reference for reference in given if reference is not None]
        encoded = iter(self.processor.encode_audio(known) if known else [])
        *references, prompt = [None if reference is None else CodeArray(next(encoded)) for reference in given]
        return replace(request, reference=tuple(references), prompt_audio=prompt)

    def new_engine(self, max_batch: int) -> SpeechEngine:
        """An engine for up to `max_batch` jobs at a time, for a thread that computes itself."""
        return SpeechEngine(self.architecture, self.codec, max_batch)

    def engine(self, max_batch: int) -> EngineOnDevice:
        """An engine for up to `max_batch` jobs at a time, for callers in any thread."""
        return EngineOnDevice(lambda: self.new_engine(max_batch))

    def release_encoder(self) -> None:
        """Free the memory that only encoding of recordings needs."""
        self.codec.release_encoder()

    def kept_prefixes(self, most: int) -> KeptPrefixes:
        """Keys and values of what prompts began with last, at most so many bytes, for this model when it is loaded
        again.
        """
        return self.architecture.prefixes.kept(most)

    def restore_prefixes(self, kept: KeptPrefixes) -> None:
        """Take what `kept_prefixes` of the same checkpoint gave."""
        self.architecture.prefixes.restore(kept)

    @property
    def channels(self) -> int:
        """Channels of the audio."""
        return self.codec().config.channels
