"""A loaded checkpoint and its `generate`: request in, audio out.

This file ties the parts together and decides nothing that has a file of its own: options are settled in
request.py, prompts in processor.py, rows in rows.py, frames in frames.py, sound in engine.py.
"""

from __future__ import annotations

import math
import sys
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias, Unpack

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from moss_tts.architectures import Architecture
from moss_tts.audio.references import CodeArray
from moss_tts.checkpoints.footprint import limit_memory
from moss_tts.checkpoints.loading import (
    CheckpointSource,
    LazyCodec,
    find_checkpoint,
    load_architecture,
    load_config,
    preset_of,
    quantizable,
)
from moss_tts.checkpoints.packaged import packaged_voice
from moss_tts.checkpoints.tokenizer import load_tokenizer
from moss_tts.codec.precision import decoder_precision
from moss_tts.context.quantised_cache import check_kv_bits
from moss_tts.device.memory import cache_limit
from moss_tts.errors import GenerationError, MossTTSWarning, RequestError
from moss_tts.long_form import BoundaryMetrics, SegmentMetrics
from moss_tts.presets import Preset
from moss_tts.processor import MossTTSProcessor
from moss_tts.prompts.options import GenerateOptions
from moss_tts.request import MossNormalizedRequest, resolve_generation_request
from moss_tts.result import GenerationResult
from moss_tts.rows import RowRequest
from moss_tts.speaking.engine import ChunkSizes, SpeechChunk, SpeechEngine, SpeechJob, merged, speak_all, speak_one
from moss_tts.speaking.narration import Narrator, OnSegment, Studio
from moss_tts.speaking.runaway import QuietWatch, longest_plausible_seconds
from moss_tts.weights.layout import read_json, read_weights
from moss_tts.weights.shards import check_sums

FIRST_CHUNK_FRAMES = 4
# (index of the request, result or failure)
BatchResults: TypeAlias = Iterator[tuple[int, GenerationResult | GenerationError]]


class Model:
    """A checkpoint in memory. Not for use from several threads at once.

    Args:
        architecture: the network with its way of making rows.
        processor: packs prompts.
        codec: asked for when there is something to encode or decode.
        preset: variant of the checkpoint, used unless a request names another.
        generation_config: generation_config.json of the checkpoint.
    """

    def __init__(
        self,
        architecture: Architecture[Any, Any],
        processor: MossTTSProcessor,
        codec: LazyCodec,
        preset: Preset,
        generation_config: Mapping[str, Any],
    ) -> None:
        self.architecture = architecture
        self.config = architecture.config
        self.processor = processor
        self.codec = codec
        self.preset = preset
        self._generation_config = generation_config
        self._last_long_form_segment_metrics: list[SegmentMetrics] = []
        self._last_long_form_boundary_metrics: list[BoundaryMetrics] = []

    @property
    def sample_rate(self) -> int:
        """Of the audio generate returns, in Hz."""
        return int(self.config.sampling_rate)

    # ------------------------------------------------------------------------------------------ generating

    def generate(
        self,
        text: str | None = None,
        *,
        cancel: threading.Event | None = None,
        on_chunk: Callable[[GenerationResult], None] | None = None,
        on_segment: Callable[[SegmentMetrics], None] | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Generator[GenerationResult, None, None]:
        """Speak a request.

        Arguments are checked when this is called, before the first result is asked for. What of them the checkpoint
        cannot follow is a MossTTSWarning. Without `stream` there
        is one result; with it, chunks as they are made, the last of which is final (and empty where a chunk was
        just full). Closing the iterator stops the work.

        Args:
            text: what to speak.
            cancel: set it from any thread, and generation ends within one frame; what is complete is returned
                with finish_reason "cancelled".
            on_chunk: told of each result, before it is returned.
            on_segment: told of each segment of a long text as it is finished.
            **options: see GenerateOptions.

        Raises:
            UnknownOptionError: an option that does not exist.
            RequestError: a bad value, or options that contradict each other.
            AudioError: a reference that cannot be used.
            CodecNotFoundError: the checkpoint's codec cannot be had.
            GenerationError: the model ended without audio, or a segment failed all its attempts.
        """
        request = self.request({"text": text, **options})
        for note in request.notes:
            warnings.warn(note, MossTTSWarning, stacklevel=2)
        self._last_long_form_segment_metrics = []
        self._last_long_form_boundary_metrics = []
        if request.long_form is None:
            chunks: Iterator[tuple[int, SpeechChunk]] = ((0, chunk) for chunk in self._speak(request, cancel))
        else:
            chunks = self._generate_long_form(request, cancel, on_segment)
        return self._results(chunks, request, on_chunk)

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
        resolved = {index: self.request(options) for index, options in enumerate(requests)}
        if any(options.get("long_form") for options in requests):
            raise RequestError("generate_batch does not take long_form; speak long texts with generate.")
        return self._batch_results(resolved, max_batch)

    def _batch_results(self, requests: Mapping[int, MossNormalizedRequest], max_batch: int) -> BatchResults:
        short = {index: request for index, request in requests.items() if request.long_form is None}
        yield from self._side_by_side(short, max_batch)
        yield from self._one_by_one({index: requests[index] for index in requests if index not in short})

    def _side_by_side(self, requests: Mapping[int, MossNormalizedRequest], max_batch: int) -> BatchResults:
        with cache_limit():
            jobs = [self.job(request) for request in requests.values()]
            self.codec.release_encoder()
            indices, started = list(requests), [time.perf_counter()] * len(jobs)
            parts: list[list[SpeechChunk]] = [[] for _ in jobs]
            for job, chunk in speak_all(SpeechEngine(self.architecture, self.codec, max_batch), jobs):
                index = indices[job]
                if isinstance(chunk, GenerationError):
                    yield index, chunk
                    continue
                parts[job].append(chunk)
                if requests[index].stream or chunk.finish_reason is not None:
                    now = time.perf_counter()
                    yield index, self._result(requests[index], merged(parts[job]), now - started[job])
                    started[job], parts[job] = now, []

    def _one_by_one(self, requests: Mapping[int, MossNormalizedRequest]) -> BatchResults:
        """Texts that the checkpoint wants in segments."""
        for index, request in requests.items():
            try:
                for result in self._results(self._generate_long_form(request, None, None), request, None):
                    yield index, result
            except GenerationError as error:
                yield index, error

    def request(self, options: Mapping[str, Any]) -> MossNormalizedRequest:
        """The options of a `generate`, checked and settled.

        Raises:
            RequestError: a bad option.
            AudioError: a reference that names a file which cannot be opened.
        """
        request = resolve_generation_request(
            options,
            self.preset,
            self._generation_config,
            self.architecture.resolve_n_vq,
            self.config.text_preparation,
        )
        self.processor.check_files(request.messages, request.preset.template)
        return request

    _resolve_generation_request = request

    def job(self, request: MossNormalizedRequest, cancel: threading.Event | None = None) -> SpeechJob:
        """A request as a SpeechEngine takes it: references encoded, prompt packed, budget settled.

        Args:
            request: from `request`.
            cancel: ends the job within one frame once it is set.

        Raises:
            AudioError: a reference that cannot be used.
        """
        ids, _ = self.processor.prepare_generation_inputs(list(request.messages), request.mode, request.preset.template)
        assert request.n_vq_for_inference is not None, "the architecture has settled it"
        interval = max(1, round(request.streaming_interval * self.codec().config.frame_rate))
        job = SpeechJob(
            np.array(ids)[0],
            RowRequest(request.sampling, request.seed, request.effective_max_tokens),
            request.n_vq_for_inference,
            ChunkSizes(min(FIRST_CHUNK_FRAMES, interval), interval) if request.stream else ChunkSizes(),
            (cancel or threading.Event()).is_set,
        )
        guarded = request.runaway_guard and request.tokens is None
        return self._guarded(job, request.text) if guarded and request.text is not None else job

    def _guarded(self, job: SpeechJob, text: str) -> SpeechJob:
        """A job that ends when it has made far more speech than its text can take, or has gone silent."""
        plausible = math.ceil(longest_plausible_seconds(text) * self.codec().config.frame_rate)
        bounded = replace(job.request, max_frames=min(job.request.max_frames, plausible))
        return replace(job, request=bounded, gone_silent=QuietWatch(text, self.sample_rate).hear)

    def narrator(
        self,
        request: MossNormalizedRequest,
        *,
        cancel: threading.Event | None = None,
        on_segment: OnSegment | None = None,
        refit: Callable[[Studio], Studio] = lambda studio: studio,
    ) -> Narrator:
        """A narrator of a long text, for callers that keep its segments themselves.

        Args:
            request: from `request`, with long_form.
            cancel: ends the segment that is being spoken.
            on_segment: told of each finished segment.
            refit: changes what it speaks with, for callers whose requests share an engine.

        Raises:
            AudioError: a reference that cannot be used.
        """
        given = [*request.reference, request.prompt_audio]
        known = [reference for reference in given if reference is not None]
        encoded = iter(self.processor.encode_audio(known) if known else [])
        *references, prompt = [None if reference is None else CodeArray(next(encoded)) for reference in given]
        studio = Studio(
            job=lambda part: self.job(part, cancel),
            engine=lambda at_once: SpeechEngine(self.architecture, self.codec, at_once),
            sample_rate=self.sample_rate,
            frame_rate=self.codec().config.frame_rate,
            n_vq=self.config.n_vq,
        )
        encoded_request = replace(request, reference=tuple(references), prompt_audio=prompt)
        return Narrator(encoded_request, refit(studio), on_segment)

    def _generate_long_form(
        self, request: MossNormalizedRequest, cancel: threading.Event | None, on_segment: OnSegment | None
    ) -> Iterator[tuple[int, SpeechChunk]]:
        """(segment, chunk) of a long text; keeps its metrics."""
        narrator = self.narrator(request, cancel=cancel, on_segment=on_segment)
        self.codec.release_encoder()
        self._last_long_form_segment_metrics = narrator.segment_metrics
        self._last_long_form_boundary_metrics = narrator.boundary_metrics
        yield from narrator.run()

    def _speak(
        self, request: MossNormalizedRequest, cancel: threading.Event | None
    ) -> Generator[SpeechChunk, None, None]:
        """Speak one request in one piece."""
        job = self.job(request, cancel)
        self.codec.release_encoder()
        yield from speak_one(SpeechEngine(self.architecture, self.codec), job)

    def _results(
        self,
        chunks: Iterator[tuple[int, SpeechChunk]],
        request: MossNormalizedRequest,
        on_chunk: Callable[[GenerationResult], None] | None,
    ) -> Generator[GenerationResult, None, None]:
        mx.reset_peak_memory()
        started = time.perf_counter()
        with cache_limit():
            for segment, chunk in chunks if request.stream else [(0, merged([chunk for _, chunk in chunks]))]:
                now = time.perf_counter()
                result = self._result(request, chunk, now - started, segment)
                started = now
                if on_chunk is not None:
                    on_chunk(result)
                yield result

    def _result(
        self, request: MossNormalizedRequest, chunk: SpeechChunk, seconds: float, segment: int = 0
    ) -> GenerationResult:
        result = GenerationResult.of(
            chunk.audio,
            sample_rate=self.sample_rate,
            frames=len(chunk.frames),
            prompt_rows=chunk.prompt_rows,
            seconds=seconds,
            peak_memory=mx.get_peak_memory(),
            streaming=request.stream,
            finish_reason=chunk.finish_reason,
            seed=request.seed,
            segment_idx=segment,
        )
        if request.verbose:
            sys.stderr.write(f"{result.figures}\n")
        return result

    # --------------------------------------------------------------------------------------------- loading

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
        return cls(
            architecture,
            processor,
            lazy_codec,
            preset_of(source, architecture.default_preset),
            read_json(generation_config) if generation_config.is_file() else {},
        )


def load(
    name: str | Path | None = None,
    *,
    dtype: str | None = None,
    codec: str | Path | None = None,
    revision: str | None = None,
    token: str | None = None,
    codec_dtype: str = "float32",
    kv_bits: int | None = None,
    max_memory: int | None = None,
) -> Model:
    """Load a checkpoint.

    Args:
        name: its directory, or a hub id such as "OpenMOSS-Team/MOSS-TTS", which is fetched if need be; None is the
            voice that comes with the package.
        dtype: "float32" or "bfloat16"; by default the checkpoint's own, and float32 on a CPU.
        codec: directory or hub id of the codec, if it is not beside the weights.
        revision: branch, tag or commit on the hub.
        token: hub token.
        codec_dtype: "float32", "bfloat16" or "8bit", for the codec's decoder; its encoder is always float32.
        kv_bits: 8 or 4, for keys and values of the context; None keeps them as computed.
        max_memory: bytes that speaking a minute may take; mlx is told to keep below them.

    Raises:
        CheckpointError: missing, broken or unfitting files, or too little memory.
        ConfigError: not a checkpoint of this family.
        RequestError: kv_bits that do not exist, or that this model's heads do not divide into.
    """
    decoder_precision(codec_dtype)  # before anything is fetched
    check_kv_bits(kv_bits)
    source = find_checkpoint(packaged_voice() if name is None else name, revision=revision, token=token)
    config = load_config(source.directory)
    if max_memory is not None:
        limit_memory(source, config, max_memory, codec=codec, dtype=dtype, codec_dtype=codec_dtype, kv_bits=kv_bits)
    check_sums(source.directory)
    architecture = load_architecture(source.directory, config, read_weights(source.directory), dtype)
    architecture.network.backbone.keep_context_in(kv_bits)
    return Model.post_load_hook(architecture, source, codec, codec_dtype)
