"""Requests spoken side by side: rows as they are made, frames as they complete, audio as it is wanted.

The engine holds one batch of rows and one batch of codec streams. A step admits waiting requests, issues a row
for everybody, reads the row before it, decodes where somebody is waiting for audio, and lets go of those who are
done. One request alone is the same engine with one row. The codec carries its state, so whole and streamed audio
are one computation with other chunk sizes, and nothing is decoded twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from math import ceil
from typing import Any, Protocol

import mlx.core as mx
import numpy as np

from moss_tts.architectures import Architecture
from moss_tts.codec import MossAudioTokenizer, StreamingDecoder
from moss_tts.errors import GenerationError
from moss_tts.frames import FinishReason, FrameReader, Frames
from moss_tts.rows import Prompts, RowBatch, RowRequest

# Frames per codec call when nobody is waiting for audio: enough to be bound by arithmetic, little memory.
WHOLE_CHUNK = 50
# Steps that many voices wait for each other before the codec is called: a call costs nearly the same for one frame
# of each as for several, and voices that began at different steps would call it at every one.
MOST_STEPS_BETWEEN_CALLS = 4
VOICES_PER_STEP = 4


@dataclass(frozen=True)
class ChunkSizes:
    """Frames per chunk: the first one, and those after it."""

    first: int = WHOLE_CHUNK
    later: int = WHOLE_CHUNK


@dataclass(frozen=True)
class SpeechChunk:
    """Consecutive audio of one request.

    Attributes:
        audio: float32 (S,) mono or (S, C).
        frames: codes (F, Q) it was decoded from.
        finish_reason: on the last chunk, which may be empty; None before it.
        prompt_rows: rows of the prompt it answers.
    """

    audio: np.ndarray
    frames: np.ndarray
    finish_reason: FinishReason | None = None
    prompt_rows: int = 0


@dataclass(frozen=True)
class SpeechJob:
    """One request, ready to be spoken.

    Attributes:
        prompt: rows (T, 1 + Q) without padding.
        request: sampling, seed, budget.
        n_vq: codebooks to generate.
        sizes: of the chunks wanted.
        cancelled: looked at once per row; once true, what is complete is decoded and that is all.
        gone_silent: told of each chunk's audio; the samples of it after which the request ends for silence, or None.
    """

    prompt: np.ndarray
    request: RowRequest
    n_vq: int
    sizes: ChunkSizes = ChunkSizes()
    cancelled: Callable[[], bool] = lambda: False
    gone_silent: Callable[[np.ndarray], int | None] = lambda _: None


@dataclass(eq=False)
class Voice:
    """A running job: its reader, and what waits between rows and chunks."""

    job: SpeechJob
    reader: FrameReader
    undecoded: deque[Frames] = field(default_factory=deque)
    audio: list[np.ndarray] = field(default_factory=list)
    frames: list[np.ndarray] = field(default_factory=list)
    segment: int = 0
    wanted: int = 0
    spoke: bool = False
    ended: FinishReason | None = None

    def take(self, frames: Sequence[Frames]) -> None:
        """Frames that a row completed."""
        self.undecoded.extend(frames)
        for part in frames:
            if not part.context:
                self.frames.append(part.codes)
                self.spoke = True

    @property
    def due(self) -> bool:
        """Whether a chunk is wanted now."""
        return self.ended is not None or sum(map(len, self.frames)) >= self.wanted

    def chunk(self, silence: np.ndarray) -> SpeechChunk:
        """Hand over what was decoded."""
        codes = np.concatenate(self.frames) if self.frames else np.zeros((0, self.job.n_vq), np.int32)
        audio = np.concatenate([silence, *self.audio])
        self.frames, self.audio, self.wanted = [], [], self.job.sizes.later
        until = self.job.gone_silent(audio)
        if until is not None:
            # Chunks are larger for some than for others; where speech ends must not depend on it.
            per_frame = len(audio) // len(codes)
            n_frames = ceil(until / per_frame)
            audio, codes, self.ended = audio[: n_frames * per_frame], codes[:n_frames], "silence"
        return SpeechChunk(audio, codes, self.ended, len(self.job.prompt))


class Stage(Protocol):
    """What speaks jobs: an engine of one's own, or a place in one that others use as well."""

    def submit(self, job: SpeechJob) -> Voice:
        """Queue a job."""
        ...

    def step(self) -> list[tuple[Voice, SpeechChunk | GenerationError]]:
        """What became due."""
        ...

    def drop(self, voice: Voice) -> None:
        """Forget a job, whatever its state."""
        ...


class SpeechEngine:
    """Speaks jobs side by side.

    Not for use from several threads. Jobs of another `n_vq` than the running ones wait until those are done.

    Args:
        architecture: the network.
        codec: asked for with the first job.
        max_batch: jobs that run at the same time.
    """

    def __init__(
        self, architecture: Architecture[Any, Any], codec: Callable[[], MossAudioTokenizer], max_batch: int = 16
    ) -> None:
        self._architecture, self._codec, self._max_batch = architecture, codec, max_batch
        self._waiting: deque[Voice] = deque()
        self._voices: list[Voice] = []
        self._batch: RowBatch | None = None
        self._decoder = CodecStreams(codec)
        # The row that was issued and not yet read, with whose it is.
        self._pending: tuple[mx.array, list[Voice]] | None = None
        self._steps_since_call = 0

    def submit(self, job: SpeechJob) -> Voice:
        """Queue a job; the voice names it in what `step` returns."""
        reader = self._architecture.reader(job.prompt, job.request.max_frames, job.n_vq)
        voice = Voice(job, reader, wanted=job.sizes.first)
        self._waiting.append(voice)
        return voice

    def drop(self, voice: Voice) -> None:
        """Forget a job, whatever its state."""
        if voice in self._waiting:
            self._waiting.remove(voice)
        if voice in self._voices:
            self._retire([voice])

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self._waiting and not self._voices

    def step(self) -> list[tuple[Voice, SpeechChunk | GenerationError]]:
        """Advance every job by a row; what became due. A job is over with its first finish_reason or error."""
        self._admit()
        if self._batch is None:
            return []
        read, self._pending = self._pending, (self._batch.step(), list(self._voices))
        if read is None:
            return []
        row, voices = read
        for voice, values in zip(voices, np.array(row), strict=True):
            if voice.ended is None and voice in self._voices:
                self._read(voice, values)
        return self._deliver()

    def _admit(self) -> None:
        while self._waiting and len(self._voices) < self._max_batch:
            job = self._waiting[0].job
            if self._voices and job.n_vq != self._voices[0].job.n_vq:
                return
            voice = self._waiting.popleft()
            batch = self._architecture.batch(Prompts.of(job.prompt), [job.request], job.n_vq)
            if self._batch is None:
                self._batch = batch
            else:
                self._batch.extend(batch)
            self._voices.append(voice)
            self._decoder.join(voice)
            voice.take(voice.reader.start())

    def _read(self, voice: Voice, row: np.ndarray) -> None:
        if voice.job.cancelled():
            voice.ended = "cancelled"
            return
        voice.take(voice.reader.push(row))
        voice.ended = voice.reader.finish_reason

    def _deliver(self) -> list[tuple[Voice, SpeechChunk | GenerationError]]:
        due = [voice for voice in self._voices if voice.due]
        self._steps_since_call += 1
        wait = min(MOST_STEPS_BETWEEN_CALLS, len(self._voices) // VOICES_PER_STEP)
        if not due or (len(due) < len(self._voices) and self._steps_since_call < wait):
            return []
        self._steps_since_call = 0
        self._decoder.decode(self._voices)
        results: list[tuple[Voice, SpeechChunk | GenerationError]] = []
        for voice in due:
            if voice.ended == "stop" and not voice.spoke:
                why = "the model ended before its first frame of audio; try another seed or text."
                results.append((voice, GenerationError(why)))
            else:
                results.append((voice, voice.chunk(self._decoder.silence)))
        self._retire([voice for voice in due if voice.ended is not None])
        return results

    def _retire(self, done: list[Voice]) -> None:
        kept = [row for row, voice in enumerate(self._voices) if voice not in done]
        if len(kept) == len(self._voices):
            return
        self._voices = [self._voices[row] for row in kept]
        self._decoder.keep(kept)
        if not kept:
            self._batch = self._pending = None
        elif self._batch is not None:
            self._batch.select(kept)


@cache
def _codec_stream() -> mx.ThreadLocalStream:
    """A device stream beside the networks' own: audio is decoded while the next frame is generated."""
    return mx.new_thread_local_stream(mx.default_device())


class CodecStreams:
    """The codec's side of the engine: one stream per voice, all decoded in one call."""

    def __init__(self, codec: Callable[[], MossAudioTokenizer]) -> None:
        self._codec = codec
        self._decoder: StreamingDecoder | None = None

    @property
    def silence(self) -> np.ndarray:
        """No samples, in the codec's shape: (0,) or (0, C)."""
        channels = self._codec().config.channels
        return np.zeros((0,) if channels == 1 else (0, channels), dtype=np.float32)

    def join(self, voice: Voice) -> None:  # noqa: ARG002 - streams stand in the order of joining
        """A new stream, behind the others."""
        if self._decoder is None:
            self._decoder = StreamingDecoder(self._codec())
        else:
            self._decoder.arrange([*range(self._decoder.batch_size), None])

    def keep(self, rows: list[int]) -> None:
        """Let go of the other streams."""
        if self._decoder is not None and rows:
            self._decoder.arrange(rows)
        else:
            self._decoder = None

    def decode(self, voices: list[Voice]) -> None:
        """Decode all that the voices have waiting, into their audio."""
        while any(voice.undecoded for voice in voices):
            self._decode_once([_next_part(voice) for voice in voices], voices)

    def _decode_once(self, parts: list[Frames | None], voices: list[Voice]) -> None:
        """One call: at most one stretch of frames of each voice, within one audio segment."""
        assert self._decoder is not None
        self._start_segments(parts, voices)
        counts = [0 if part is None else len(part.codes) for part in parts]
        codes = np.full((voices[0].job.n_vq, len(voices), max(counts)), self._codec().config.codebook_size, np.int32)
        for row, part in enumerate(parts):
            if part is not None:
                codes[:, row, : len(part.codes)] = part.codes.T
        together = len(set(counts)) == 1
        with mx.stream(_codec_stream()):
            audio = np.array(self._decoder.push(mx.array(codes), None if together else counts))
        per_frame = self._codec().config.downsample_rate
        for row, (voice, part) in enumerate(zip(voices, parts, strict=True)):
            if part is not None and not part.context:
                samples = audio[row, :, : counts[row] * per_frame]
                voice.audio.append(samples[0] if len(samples) == 1 else samples.T)

    def _start_segments(self, parts: list[Frames | None], voices: list[Voice]) -> None:
        """A new audio segment begins with a fresh codec state."""
        assert self._decoder is not None
        fresh = []
        for row, (voice, part) in enumerate(zip(voices, parts, strict=True)):
            if part is not None and part.segment != voice.segment:
                voice.segment = part.segment
                fresh.append(row)
        if fresh:
            self._decoder.reset(fresh)


def _next_part(voice: Voice) -> Frames | None:
    """Take neighbours of the same kind off a voice's queue as one stretch."""
    if not voice.undecoded:
        return None
    first = voice.undecoded.popleft()
    codes = [first.codes]
    while voice.undecoded and (voice.undecoded[0].segment, voice.undecoded[0].context) == (
        first.segment,
        first.context,
    ):
        codes.append(voice.undecoded.popleft().codes)
    return replace(first, codes=np.concatenate(codes))


def is_last(result: SpeechChunk | GenerationError) -> bool:
    """Whether a job is over with it."""
    return isinstance(result, GenerationError) or result.finish_reason is not None


def speak_all(
    engine: Stage, jobs: Sequence[SpeechJob]
) -> Generator[tuple[int, SpeechChunk | GenerationError], None, None]:
    """(job, chunk) of all jobs as they become due, or (job, error) where one failed.

    Each job ends with its first finish_reason or error. Closing the generator drops what is left.
    """
    voices = [engine.submit(job) for job in jobs]
    left = len(voices)
    try:
        while left:
            for voice, chunk in engine.step():
                left -= is_last(chunk)
                yield voices.index(voice), chunk
    finally:
        for voice in voices:
            engine.drop(voice)


def speak_one(engine: Stage, job: SpeechJob) -> Generator[SpeechChunk, None, None]:
    """Chunks of one job.

    Raises:
        GenerationError: it failed.
    """
    for _, chunk in speak_all(engine, [job]):
        if isinstance(chunk, GenerationError):
            raise chunk
        yield chunk


def merged(chunks: list[SpeechChunk]) -> SpeechChunk:
    """Consecutive chunks as one."""
    frames = [chunk.frames for chunk in chunks if len(chunk.frames)] or [chunks[0].frames]
    audio = np.concatenate([chunk.audio for chunk in chunks])
    return SpeechChunk(audio, np.concatenate(frames), chunks[-1].finish_reason, chunks[-1].prompt_rows)
