"""A sound model in memory and its `generate`: description in, sound out. It has the methods of a speech model."""

from __future__ import annotations

import gc
import sys
import threading
import time
import warnings
from asyncio import get_running_loop
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping, Sequence
from typing import Any, NoReturn, Self, TypeVar, Unpack

import mlx.core as mx
import numpy as np

from moss_tts.checkpoints.footprint import keep_below
from moss_tts.checkpoints.loading import CheckpointSource
from moss_tts.device.memory import cache_limit, release_memory
from moss_tts.device.thread import closed_at_exit, closing, items_from_device, on_device, refuse_fork
from moss_tts.diffusion.config import SoundConfig
from moss_tts.diffusion.engine import SoundChunk, SoundEngine, SoundJob, SoundParts, make_latents, make_sound
from moss_tts.diffusion.inspection import memory_of
from moss_tts.diffusion.loading import EncoderOnDemand, SoundFiles, transformer_dtype
from moss_tts.diffusion.request import SoundOptions, SoundRequest, resolve_sound_request
from moss_tts.errors import GenerationError, MossTTSWarning, RequestError
from moss_tts.prompts.options import GenerateOptions, spells_out
from moss_tts.result import GenerationResult, Speech
from moss_tts.speaking.jobs import AnyOf, Cancel

T = TypeVar("T")
# Takes (steps that are done, steps).
OnStep = Callable[[int, int], None]
OnProgress = Callable[[float], None]
OnResult = Callable[[GenerationResult], None]
_END: Any = object()
_MOST_TOGETHER = 8


class SoundModel:
    """A sound model in memory; any thread may use it, and what several threads ask for is computed in turns.

    Between two steps of a sound other work has its turn, such as a row of speech. `with moss_tts.load(...) as model:`
    gives the memory back at the end, as `close` does.

    Args:
        parts: the parts of the model.
        name: its name, for people.
    """

    def __init__(self, parts: SoundParts, name: str = "") -> None:
        self._parts: SoundParts | None = parts
        self.config: SoundConfig = parts.config
        self.name = name

    def __repr__(self) -> str:
        kind = "closed" if self.closed else f"sounds of up to {self.config.pipeline.max_seconds} s"
        return f"<moss_tts.SoundModel {self.name}: {kind}, {self.sample_rate} Hz>"

    @property
    def sample_rate(self) -> int:
        """Rate of the audio, in Hz."""
        return self.config.sample_rate

    @property
    def parts(self) -> SoundParts:
        """The parts of the model.

        Raises:
            GenerationError: it is closed.
        """
        if self._parts is None:
            raise GenerationError("this model is closed; load it again to use it.")
        return self._parts

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._parts is None

    def close(self) -> None:
        """Give the memory back. Any later use of the model raises a GenerationError."""
        self._parts = None
        gc.collect()
        release_memory()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @spells_out(SoundOptions.__annotations__)
    def generate(
        self,
        text: str | None = None,
        *,
        cancel: threading.Event | None = None,
        on_chunk: OnResult | None = None,
        on_progress: OnProgress | None = None,
        on_step: OnStep | None = None,
        **options: Unpack[SoundOptions],
    ) -> Generator[GenerationResult, None, None]:
        """Make a sound; the iterator has one result.

        Arguments are checked at the call. Options that only speech has cause a MossTTSWarning. Closing the iterator
        stops the work.

        Args:
            text: the description of the sound, as ambient_sound.
            cancel: set it from any thread, and the work ends after the current step, with an empty result and
                finish_reason "cancelled".
            on_chunk: called with the result before it is returned, as the other two in the caller's thread.
            on_progress: called with the share of the work that is done, 0 to 1.
            on_step: called after each step with the number of steps that are done, and of all.
            **options: see SoundOptions.

        Raises:
            UnknownOptionError: an option that does not exist.
            RequestError: a bad value, or options that contradict each other.
            GenerationError: the model is closed.
        """
        request = self._noted_request({"text": text, **options})
        return closed_at_exit(self._results(request, cancel, on_chunk, on_progress, on_step))

    @spells_out(SoundOptions.__annotations__)
    def say(
        self,
        text: str | None = None,
        *,
        cancel: threading.Event | None = None,
        on_progress: OnProgress | None = None,
        on_step: OnStep | None = None,
        **options: Unpack[SoundOptions],
    ) -> Speech:
        """Make a sound: `model.say(ambient_sound="Rain on tin.", seconds=5).save("rain.wav")`.

        Args:
            text: the description of the sound, as ambient_sound.
            cancel: see generate.
            on_progress: see generate.
            on_step: see generate.
            **options: see SoundOptions.

        Raises:
            MossTTSError: see generate.
        """
        request = self._noted_request({"text": text, **options})
        [result] = self._results(request, cancel, None, on_progress, on_step)
        return Speech.of(result, request.sent, model=self.name)

    @spells_out(SoundOptions.__annotations__)
    def generate_async(
        self,
        text: str | None = None,
        *,
        cancel: threading.Event | None = None,
        on_progress: OnProgress | None = None,
        on_step: OnStep | None = None,
        **options: Unpack[SoundOptions],
    ) -> AsyncGenerator[GenerationResult, None]:
        """Make a sound for a coroutine: `async for result in model.generate_async(ambient_sound="Rain.")`.

        The event loop goes on meanwhile. A cancelled task ends the work after the current step.

        Args:
            text: the description of the sound, as ambient_sound.
            cancel: see generate.
            on_progress: called in the event loop with the share of the work that is done.
            on_step: called in the event loop after each step.
            **options: see SoundOptions.

        Raises:
            MossTTSError: see generate.
            RuntimeError: no event loop runs in this thread.
        """
        request, left, loop = self._noted_request({"text": text, **options}), threading.Event(), get_running_loop()

        def tell(chunk: SoundChunk) -> None:
            loop.call_soon_threadsafe(_tell, chunk, request, on_progress, on_step)

        steps = closed_at_exit(self._steps(request, AnyOf(left, cancel), tell))
        return items_from_device(steps, left.set)

    def generate_batch(
        self, requests: Sequence[Mapping[str, Any]], *, max_batch: int = _MOST_TOGETHER
    ) -> Iterator[tuple[int, GenerationResult]]:
        """Make several sounds; each is the sound that it is alone with the same seed.

        Sounds with the same steps, guidance, shift and negative prompt are made together.

        Args:
            requests: options of `generate`, one mapping per sound.
            max_batch: sounds that are made at the same time.

        Returns:
            (index of the request, result) as sounds are done.

        Raises:
            RequestError: a bad option of any request; nothing is started then.
        """
        if not isinstance(max_batch, int) or max_batch < 1:
            raise RequestError(f"max_batch must be an integer of at least 1, got {max_batch!r}.")
        ways: dict[tuple[object, ...], dict[int, SoundRequest]] = {}
        for index, options in enumerate(requests):
            request = self._noted_request(options)
            ways.setdefault(request.way, {})[index] = request
        groups = [
            dict(list(way.items())[start : start + max_batch])
            for way in ways.values()
            for start in range(0, len(way), max_batch)
        ]
        return closed_at_exit(_one_after_the_other([self._together(group) for group in groups]))

    def _together(self, requests: Mapping[int, SoundRequest]) -> Generator[tuple[int, GenerationResult] | None]:
        """(index, result) of sounds that are made as one batch; None after each step."""
        parts, jobs, started = self.parts, [self.job(request) for request in requests.values()], time.perf_counter()
        with cache_limit():
            for latents in make_latents(parts, jobs):  # noqa: B007 - the last ones are decoded
                yield None
            for place, (index, request) in enumerate(requests.items()):
                audio = np.concatenate(
                    [part[0] for part in parts.decoder.parts(latents[place : place + 1], request.samples)]
                )
                yield index, self._result(request, audio, len(jobs[place].prompt), time.perf_counter() - started)

    def request(self, options: Mapping[str, Any]) -> SoundRequest:
        """The options of a `generate`, checked and settled.

        Raises:
            RequestError: a bad option, or a description of too many tokens.
            GenerationError: the model is closed, or belongs to the process that this one was forked from.
        """
        refuse_fork()
        request = resolve_sound_request(options, self.config)
        self.job(request)
        return request

    def job(self, request: SoundRequest, cancel: Cancel | None = None) -> SoundJob:
        """A request as a SoundEngine takes it.

        Args:
            request: a request of `request`.
            cancel: ends the job after the current step once it is set.

        Raises:
            RequestError: a text has too many tokens.
        """
        prompt = self.parts.ids(request.sent, "ambient_sound")
        negative = self.parts.ids(request.negative, "negative_prompt")
        return SoundJob(request, prompt, negative, (lambda: False) if cancel is None else cancel.is_set)

    def new_engine(self, max_batch: int = 1) -> SoundEngine:  # noqa: ARG002 - sounds are made one after the other
        """An engine, for a thread that computes itself."""
        return SoundEngine(self.parts)

    def release_encoder(self) -> None:
        """Free the memory that only encoding of texts needs."""
        self.parts.encode.release()

    def kept_prefixes(self, most: int) -> None:
        """Nothing: descriptions are encoded anew when the model is loaded again."""

    @property
    def channels(self) -> int:
        """Channels of the audio."""
        return 1

    def codec(self) -> NoReturn:
        """Refuse: codes are for speech.

        Raises:
            RequestError: always.
        """
        raise RequestError("this model makes sounds by diffusion: it has no codec, and takes no recordings or voices.")

    def session(self, **_: Unpack[GenerateOptions]) -> NoReturn:
        """Refuse: a session speaks text.

        Raises:
            RequestError: always.
        """
        raise RequestError("this model makes sounds by diffusion and speaks no text, so it has no sessions.")

    def _noted_request(self, options: Mapping[str, Any]) -> SoundRequest:
        """The request of some options. Its notes become warnings at the place that called the public method."""
        request = self.request(options)
        for note in request.notes:
            warnings.warn(note, MossTTSWarning, stacklevel=3)
        return request

    def _results(
        self,
        request: SoundRequest,
        cancel: Cancel | None,
        on_chunk: OnResult | None,
        on_progress: OnProgress | None,
        on_step: OnStep | None,
    ) -> Generator[GenerationResult, None, None]:
        told: list[SoundChunk] = []
        for result in _steps_on_device(self._steps(request, cancel, told.append)):
            while told:
                _tell(told.pop(0), request, on_progress, on_step)
            if result is not None:
                if on_chunk is not None:
                    on_chunk(result)
                yield result

    def _steps(
        self, request: SoundRequest, cancel: Cancel | None, tell: Callable[[SoundChunk], None]
    ) -> Generator[GenerationResult | None, None, None]:
        """The result of a request, with None after each step. Runs in the device thread."""
        mx.reset_peak_memory()
        started, audio = time.perf_counter(), []
        job = self.job(request, cancel)
        with cache_limit():
            for chunk in make_sound(self.parts, job):
                assert chunk is not None, "there is nobody to wait for"
                audio.append(chunk.audio)
                tell(chunk)
                if (reason := chunk.finish_reason) is None:
                    yield None
        seconds = time.perf_counter() - started
        yield self._result(request, np.concatenate(audio), len(job.prompt), seconds, reason == "cancelled")

    def _result(
        self, request: SoundRequest, audio: np.ndarray, tokens: int, seconds: float, cancelled: bool = False
    ) -> GenerationResult:
        result = GenerationResult.of(
            audio,
            sample_rate=self.sample_rate,
            frames=-(-len(audio) // self.config.autoencoder.hop),
            prompt_rows=tokens,
            seconds=seconds,
            peak_memory=mx.get_peak_memory(),
            streaming=False,
            finish_reason="cancelled" if cancelled else "stop",
            seed=request.seed,
        )
        if request.verbose:
            sys.stderr.write(f"{result.figures}\n")
        return result


def _tell(chunk: SoundChunk, request: SoundRequest, on_progress: OnProgress | None, on_step: OnStep | None) -> None:
    if on_step is not None and not len(chunk.audio):
        on_step(chunk.step, request.steps)
    if on_progress is not None:
        on_progress(chunk.share)


def _steps_on_device(steps: Generator[T, None, None]) -> Generator[T, None, None]:
    """The items of a generator that computes; each is asked for in the device thread, so that others have their turn.

    Raises:
        SystemExit: the process is about to exit; a thread ends with it without a word.
    """
    try:
        while (item := on_device(lambda: next(steps, _END))) is not _END:
            yield item
            if closing.is_set():
                raise SystemExit
    finally:
        on_device(steps.close)


def _one_after_the_other(
    groups: Sequence[Generator[tuple[int, GenerationResult] | None, None, None]],
) -> Generator[tuple[int, GenerationResult], None, None]:
    for group in groups:
        for due in _steps_on_device(group):
            if due is not None:
                yield due


def load_sound_model(source: CheckpointSource, dtype: str | None = None, max_memory: int | None = None) -> SoundModel:
    """Load a sound model.

    Args:
        source: its directory.
        dtype: "float32" or "bfloat16" for the blocks of the transformer; by default float32 on a CPU, else bfloat16.
        max_memory: bytes that a sound may take; mlx is told to keep below them.

    Raises:
        CheckpointError: missing, broken or unfitting files, or too little memory.
        ConfigError: another pipeline.
        RequestError: a type that cannot be computed in, or no number of bytes.
    """
    kind, files = transformer_dtype(dtype), SoundFiles.find(source.directory)
    if max_memory is not None:
        keep_below(max_memory, files.directory, memory_of(files, dtype).too_much_for)

    def read() -> SoundModel:
        tokens, encode = files.load_prompt_encoder(), EncoderOnDemand(files, dtype)
        parts = SoundParts(files.config, tokens, encode, files.load_transformer(kind), files.load_decoder())
        return SoundModel(parts, source.directory.name)

    return on_device(read)
