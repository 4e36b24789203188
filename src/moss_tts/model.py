"""A loaded checkpoint and its `generate`: request in, audio out.

This file ties the parts together and decides nothing that has a file of its own: options are settled in
request.py, prompts in processor.py, rows in rows.py, frames in frames.py, sound in engine.py.
"""

from __future__ import annotations

import gc
import threading
import warnings
from asyncio import get_running_loop
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn, Self, TypeAlias, Unpack

import mlx.core as mx
import mlx.nn as nn

from moss_tts.architectures import Architecture
from moss_tts.checkpoints.adapters import find_adapters, put_adapters, read_adapters
from moss_tts.checkpoints.footprint import limit_memory
from moss_tts.checkpoints.loading import (
    CheckpointSource,
    LazyCodec,
    load_architecture,
    load_config,
    quantizable,
)
from moss_tts.checkpoints.tokenizer import load_tokenizer
from moss_tts.checkpoints.variant import variant_of
from moss_tts.codec.precision import decoder_precision
from moss_tts.device.memory import cache_limit, release_memory
from moss_tts.device.thread import closed_at_exit, items_from_device, on_device, refuse_fork
from moss_tts.errors import GenerationError, MossTTSWarning, RequestError
from moss_tts.long_form import BoundaryMetrics, SegmentMetrics
from moss_tts.presets import Preset
from moss_tts.processor import MossTTSProcessor
from moss_tts.prompts.options import GenerateOptions, spells_out_options
from moss_tts.request import MossNormalizedRequest, resolve_generation_request
from moss_tts.result import GenerationResult, Speech
from moss_tts.sessions.opening import SessionMaker
from moss_tts.speaking.driving import speak_one
from moss_tts.speaking.engine import SpeechChunk
from moss_tts.speaking.jobs import AnyOf, Cancel
from moss_tts.speaking.narration import OnSegment
from moss_tts.speaking.results import BatchResults, Callbacks, results_of, results_one_by_one, results_side_by_side
from moss_tts.weights.layout import read_json, read_weights

OnProgress: TypeAlias = Callable[[float], None]
_PARTS = ("architecture", "processor", "codec")  # the attributes that hold memory


class Model(SessionMaker):
    """A checkpoint in memory; any thread may use it, and what several threads ask for is computed in turns.

    `with moss_tts.load() as model:` gives its memory back at the end, as `close` does.

    Args:
        architecture: the network with its way of making rows.
        processor: packs prompts.
        codec: gives the codec when there is something to encode or decode.
        preset: variant of the checkpoint, used unless a request names another.
        generation_config: generation_config.json of the checkpoint.
        name: the checkpoint's name, for people.
    """

    def __init__(
        self,
        architecture: Architecture[Any, Any],
        processor: MossTTSProcessor,
        codec: LazyCodec,
        preset: Preset,
        generation_config: Mapping[str, Any],
        name: str = "",
    ) -> None:
        super().__init__(architecture, processor, codec)
        self.name = name
        self.preset = preset
        self._generation_config = generation_config
        self._last_long_form_segment_metrics: list[SegmentMetrics] = []
        self._last_long_form_boundary_metrics: list[BoundaryMetrics] = []

    def __repr__(self) -> str:
        kind = "closed" if self.closed else f"{self.architecture.name}, preset {self.preset.name}"
        return f"<moss_tts.Model {self.name}: {kind}, {self.sample_rate} Hz>"

    def __getattr__(self, name: str) -> NoReturn:
        if name in _PARTS:
            raise GenerationError("this model is closed; load it again to use it.")
        raise AttributeError(f"a Model has no attribute {name!r}")

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return "architecture" not in self.__dict__

    def close(self) -> None:
        """Give the memory back. Any later use of the model raises a GenerationError."""
        self._close_sessions()
        for part in _PARTS:
            self.__dict__.pop(part, None)
        gc.collect()
        release_memory()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @spells_out_options
    def generate(
        self,
        text: str | None = None,
        *,
        cancel: threading.Event | None = None,
        on_chunk: Callable[[GenerationResult], None] | None = None,
        on_segment: OnSegment | None = None,
        on_progress: OnProgress | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Generator[GenerationResult, None, None]:
        """Speak a request.

        Arguments are checked at the call, before the first result is asked for. Options that the checkpoint cannot
        follow cause a MossTTSWarning. Without `stream` there is one result; with it there are chunks while they are
        made, and the last one, which may be empty, is final. Closing the iterator stops the work.

        Args:
            text: what to speak.
            cancel: set it from any thread, and generation ends within one frame; complete frames are returned
                with finish_reason "cancelled".
            on_chunk: called with each result before it is returned, as the other two in the caller's thread.
            on_segment: called with each segment of a long text as it is finished.
            on_progress: called with the share of the text that is spoken, 0 to 1, after each segment.
            **options: see GenerateOptions.

        Raises:
            UnknownOptionError: an option that does not exist.
            RequestError: a bad value, or options that contradict each other.
            AudioError: a reference that cannot be used.
            CodecNotFoundError: the checkpoint's codec was not found.
            GenerationError: the model ended without audio, or a segment failed all its attempts.
        """
        request = self._noted_request({"text": text, **options})
        return closed_at_exit(self._results(request, cancel, Callbacks(on_chunk, on_segment, on_progress)))

    @spells_out_options
    def say(
        self,
        text: str | None = None,
        *,
        cancel: threading.Event | None = None,
        on_segment: OnSegment | None = None,
        on_progress: OnProgress | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Speech:
        """Speak a request and return the whole speech: `model.say("Hello.").save("hello.wav")`.

        Args:
            text: what to speak.
            cancel: see generate.
            on_segment: called with each segment of a long text as it is finished.
            on_progress: called with the share of the text that is spoken, 0 to 1, after each segment.
            **options: see GenerateOptions; all but stream.

        Raises:
            RequestError: stream, or what generate refuses.
            MossTTSError: see generate.
        """
        if options.pop("stream", None):
            raise RequestError(
                "say always returns the whole speech. Use generate(stream=True) to get audio while it is made."
            )
        request = self._noted_request({"text": text, **options})
        segments: list[SegmentMetrics] = []

        def keep(segment: SegmentMetrics) -> None:
            segments.append(segment)
            if on_segment is not None:
                on_segment(segment)

        [result] = self._results(request, cancel, Callbacks(None, keep, on_progress))
        return Speech.of(result, text, tuple(segments), self.name)

    @spells_out_options
    def generate_async(
        self,
        text: str | None = None,
        *,
        cancel: threading.Event | None = None,
        on_segment: OnSegment | None = None,
        on_progress: OnProgress | None = None,
        **options: Unpack[GenerateOptions],
    ) -> AsyncGenerator[GenerationResult, None]:
        """Speak a request for a coroutine: `async for result in model.generate_async("Hello.", stream=True)`.

        The event loop goes on while speech is computed. A cancelled task ends the work within one frame.

        Args:
            text: what to speak.
            cancel: see generate.
            on_segment: called in the event loop with each segment of a long text as it is finished.
            on_progress: called in the event loop with the share of the text that is spoken, 0 to 1.
            **options: see GenerateOptions.

        Raises:
            MossTTSError: see generate.
            RuntimeError: no event loop runs in this thread.
        """
        request, left = self._noted_request({"text": text, **options}), threading.Event()
        callbacks = Callbacks(None, on_segment, on_progress).in_loop(get_running_loop())
        steps = closed_at_exit(self._steps(request, AnyOf(left, cancel), callbacks))
        return items_from_device(steps, left.set)

    def generate_batch(self, requests: Sequence[Mapping[str, Any]], *, max_batch: int = 16) -> BatchResults:
        """Speak several requests side by side.

        Each gets the audio it gets alone with the same seed. Variants, seeds, lengths and streaming may differ. Texts
        that the checkpoint wants in segments follow one after the other.

        Args:
            requests: options of `generate`, text among them, one mapping per request.
            max_batch: requests that run at the same time; the others follow as these end.

        Returns:
            (index of the request, result) as results become due, or (index, error) where a request failed by
            itself.

        Raises:
            RequestError: a bad option of any request; nothing is started then.
        """
        resolved = {}
        for index, options in enumerate(requests):
            resolved[index] = self._noted_request(options)
        if any(options.get("long_form") for options in requests):
            raise RequestError("generate_batch does not take long_form; speak long texts with generate.")
        return closed_at_exit(self._batch_results(resolved, max_batch))

    def _batch_results(
        self, requests: Mapping[int, MossNormalizedRequest], max_batch: int
    ) -> Generator[tuple[int, GenerationResult | GenerationError], None, None]:
        short = {index: request for index, request in requests.items() if request.long_form is None}
        with cache_limit():
            jobs = [self.job(request) for request in short.values()]
            self.codec.release_encoder()
            indices, engine = list(short), self.engine(max_batch)
            for place, result in results_side_by_side(engine, jobs, list(short.values()), self.sample_rate):
                yield indices[place], result
        long = {index: request for index, request in requests.items() if index not in short}
        chunks = {index: self._chunks(request, None, None) for index, request in long.items()}
        yield from results_one_by_one(chunks, long, self.sample_rate)

    def _noted_request(self, options: Mapping[str, Any]) -> MossNormalizedRequest:
        """The request of some options. Its notes become warnings at the place that called the public method."""
        request = self.request(options)
        for note in request.notes:
            warnings.warn(note, MossTTSWarning, stacklevel=3)
        self._last_long_form_segment_metrics = []
        self._last_long_form_boundary_metrics = []
        return request

    def request(self, options: Mapping[str, Any]) -> MossNormalizedRequest:
        """The options of a `generate`, checked and settled.

        Raises:
            RequestError: a bad option.
            AudioError: a reference that names a file which cannot be opened.
            GenerationError: the model is closed, or belongs to the process that this one was forked from.
        """
        refuse_fork()
        request = resolve_generation_request(
            options,
            self.preset,
            self._generation_config,
            self.architecture.resolve_n_vq,
            self.config.text_preparation,
            lambda text: self.processor.count_tokens(text),
        )
        self.processor.check_files(request.messages, request.preset.template)
        self.architecture.network.adapters.check(request.adapters)
        return request

    def _results(
        self, request: MossNormalizedRequest, cancel: Cancel | None, callbacks: Callbacks
    ) -> Generator[GenerationResult, None, None]:
        steps = self._steps(request, cancel, callbacks)
        for result in steps:
            if result is not None:
                yield result

    def _steps(
        self, request: MossNormalizedRequest, cancel: Cancel | None, callbacks: Callbacks
    ) -> Generator[GenerationResult | None, None, None]:
        """The results of a request, with None after each step that gave none."""
        chunks = self._chunks(request, cancel, lambda segment: callbacks.segment(request, segment))
        for result in results_of(chunks, request, self.sample_rate):
            if result is not None:
                callbacks.chunk(request, result)
            yield result

    def _chunks(
        self, request: MossNormalizedRequest, cancel: Cancel | None, on_segment: OnSegment | None
    ) -> Iterator[tuple[int, SpeechChunk]]:
        """(segment, chunk) of a request; keeps the metrics of a long text."""
        if request.long_form is None:
            job = self.job(request, cancel)
            self.codec.release_encoder()
            yield from ((0, chunk) for chunk in speak_one(self.engine(1), job))
            return
        narrator = self.narrator(request, cancel=cancel, on_segment=on_segment)
        self.codec.release_encoder()
        self._last_long_form_segment_metrics = narrator.segment_metrics
        self._last_long_form_boundary_metrics = narrator.boundary_metrics
        yield from narrator.run()

    def sanitize(self, weights: Mapping[str, mx.array]) -> dict[str, mx.array]:
        """Weights of an upstream, fused or converted file, under this model's names."""
        return self.architecture.layout.sanitize(weights, self.config.n_vq)

    def model_quant_predicate(self, path: str, module: nn.Module) -> bool:
        """Whether a module of the network may be quantised."""
        return quantizable(path, module, self.architecture.protected)

    @classmethod
    def post_load_hook(
        cls,
        architecture: Architecture[Any, Any],
        source: CheckpointSource,
        codec: str | Path | None = None,
        codec_dtype: str = "float32",
    ) -> Model:
        """Give a loaded network its tokenizer, codec and processor.

        Raises:
            CheckpointError: no usable tokenizer or chat template beside the weights.
        """
        lazy_codec = LazyCodec(source, architecture.config, codec, decoder_precision(codec_dtype))
        processor = MossTTSProcessor(load_tokenizer(source.directory), architecture.config, lazy_codec)
        architecture.prefixes.heading = processor.text_heading
        generation_config = source.directory / "generation_config.json"
        settings = read_json(generation_config) if generation_config.is_file() else {}
        preset = variant_of(source, architecture.default_preset).preset
        return cls(architecture, processor, lazy_codec, preset, settings, source.directory.name)


def load_speech_model(
    source: CheckpointSource,
    *,
    dtype: str | None = None,
    codec: str | Path | None = None,
    token: str | None = None,
    codec_dtype: str = "float32",
    kv_bits: int | None = None,
    max_memory: int | None = None,
    tied_heads: Literal["embeddings"] | None = None,
    adapters: Mapping[str, str | Path] | None = None,
) -> Model:
    """Load a speech model. Options and errors are those of `moss_tts.load`."""
    found = find_adapters(adapters or {}, token)

    def read() -> Model:
        config, stored = load_config(source.directory), read_adapters(found, source.name)
        where = source.directory  # the weights have no name here: it would keep them in memory
        if max_memory is not None:
            kept: dict[str, Any] = {"codec_dtype": codec_dtype, "kv_bits": kv_bits, "adapters": stored}
            limit_memory(source, config, max_memory, codec=codec, dtype=dtype, **kept)
        architecture = load_architecture(where, config, read_weights(where), dtype, tied_heads=tied_heads)
        put_adapters(architecture, stored)
        architecture.network.backbone.keep_context_in(kv_bits)
        return Model.post_load_hook(architecture, source, codec, codec_dtype)

    return on_device(read)
