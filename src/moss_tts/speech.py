"""From rows to sound: frames as they complete, decoded by the codec in chunks that carry its state.

Whole and streamed audio are the same computation with other chunk sizes: nothing is decoded twice.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace

import mlx.core as mx
import numpy as np

from moss_tts.codec import MossAudioTokenizer, StreamingDecoder
from moss_tts.errors import GenerationError
from moss_tts.frames import FinishReason, FrameReader, Frames

# Frames per codec call when nobody is waiting for audio: enough to be bound by arithmetic, little memory.
WHOLE_CHUNK = 50


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


class SpeechDecoder:
    """Decodes one request's frames, a fresh codec state for each audio segment."""

    def __init__(self, codec: MossAudioTokenizer) -> None:
        self._codec = codec
        self._stream: StreamingDecoder | None = None
        self._segment = -1

    def decode(self, frames: Frames) -> np.ndarray:
        """Audio (S,) or (S, C) of the frames; none for context, which only primes the codec."""
        if self._stream is None or frames.segment != self._segment:
            self._stream = StreamingDecoder(self._codec)
            self._segment = frames.segment
        codes = mx.array(frames.codes.T[:, None])
        if frames.context:
            self._stream.prime(codes)
            return self.silence
        audio = np.array(self._stream.push(codes))[0]
        return audio[0] if audio.shape[0] == 1 else audio.T

    @property
    def silence(self) -> np.ndarray:
        """No samples, in the codec's shape."""
        channels = self._codec.config.channels
        return np.zeros((0,) if channels == 1 else (0, channels), dtype=np.float32)


def speak(
    rows: Iterator[np.ndarray],
    reader: FrameReader,
    codec: Callable[[], MossAudioTokenizer],
    sizes: ChunkSizes,
    cancelled: Callable[[], bool] = lambda: False,
    gone_silent: Callable[[np.ndarray], bool] = lambda _: False,
) -> Generator[SpeechChunk, None, None]:
    """Chunks of audio as their frames complete; the last one says why it is the last.

    Args:
        rows: rows (1 + Q,) of one request.
        reader: reads them.
        codec: asked for when there is something to decode.
        sizes: frames per chunk.
        cancelled: looked at once per row; once true, what is complete is decoded and that is all.
        gone_silent: told of each chunk's audio; once true, the request ends for silence.

    Raises:
        GenerationError: the model ended without a frame of audio.
    """
    decoder = SpeechDecoder(codec())
    waiting: list[Frames] = []
    wanted, spoke = sizes.first, False
    for frames, last in _frames_of(rows, reader, cancelled):
        waiting.extend(frames)
        ready = sum(len(part.codes) for part in waiting if not part.context)
        spoke = spoke or ready > 0
        if last == "stop" and not spoke:
            raise GenerationError("the model ended before its first frame of audio; try another seed or text.")
        if ready < wanted and last is None:
            continue
        chunk = _chunk(decoder, waiting, last)
        if last is None and gone_silent(chunk.audio):
            yield replace(chunk, finish_reason="silence")
            return
        yield chunk
        waiting, wanted = [], sizes.later


def _frames_of(
    rows: Iterator[np.ndarray], reader: FrameReader, cancelled: Callable[[], bool]
) -> Iterator[tuple[list[Frames], FinishReason | None]]:
    """Frames as they complete, and with the last ones the reason why they are the last."""
    yield reader.start(), None
    for row in rows:
        if cancelled():
            yield [], "cancelled"
            return
        yield reader.push(row), reader.finish_reason
        if reader.finish_reason is not None:
            return
    raise AssertionError("the row loop ended before its reader")


def _chunk(decoder: SpeechDecoder, parts: list[Frames], last: FinishReason | None) -> SpeechChunk:
    audio = [decoder.silence] + [decoder.decode(part) for part in _neighbours_joined(parts)]
    codes = [part.codes for part in parts if not part.context]
    return SpeechChunk(np.concatenate(audio), np.concatenate(codes) if codes else np.zeros((0, 0), np.int32), last)


def merged(chunks: list[SpeechChunk]) -> SpeechChunk:
    """Consecutive chunks as one."""
    frames = [chunk.frames for chunk in chunks if len(chunk.frames)] or [chunks[0].frames]
    audio = np.concatenate([chunk.audio for chunk in chunks])
    return SpeechChunk(audio, np.concatenate(frames), chunks[-1].finish_reason, chunks[-1].prompt_rows)


def _neighbours_joined(parts: list[Frames]) -> list[Frames]:
    """Neighbours of the same kind joined, so that the codec sees as few calls as possible."""
    merged: list[Frames] = []
    for part in parts:
        if merged and (merged[-1].segment, merged[-1].context) == (part.segment, part.context):
            codes = np.concatenate([merged.pop().codes, part.codes])
            part = Frames(codes, part.segment, part.context)
        merged.append(part)
    return merged
