"""Frames to audio: the codec's streams of all jobs, in a thread of their own beside the rows.

A call takes as long as several rows, so another thread goes on with them meanwhile. One thread cannot do both: on CPUs
a thread that queues more than about a hundred of MLX's primitives waits for them, and C returns when it is done.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import cache, partial
from typing import TypeAlias

import mlx.core as mx
import numpy as np

from moss_tts.codec import MossAudioTokenizer, StreamingDecoder
from moss_tts.device.thread import Worker
from moss_tts.errors import GenerationError
from moss_tts.frames import Frames

# The codec thread's niceness. With more, jobs that have ended wait too long for the end of their audio.
NICENESS = 8

# The key of the job that frames and audio belong to.
Key: TypeAlias = Hashable
# Job -> pieces of its audio, float32 (S,) mono or (S, C).
Audio: TypeAlias = dict[Key, list[np.ndarray]]


@cache
def _codec_thread() -> Worker:
    """The codec thread of the process: if cores are scarce, rows come first and audio gets the rest."""
    return Worker("codec", NICENESS)


@cache
def _codec_stream() -> mx.ThreadLocalStream:
    """A device stream of the codec's own."""
    return mx.new_thread_local_stream(mx.default_device())


class CodecStreams:
    """One stream per job, all decoded in one call.

    Args:
        codec: gives the codec at the first call.
    """

    def __init__(self, codec: Callable[[], MossAudioTokenizer]) -> None:
        self._codec = codec
        self._keys: list[Key] = []
        self._segments: list[int] = []
        self._decoder: StreamingDecoder | None = None

    @property
    def silence(self) -> np.ndarray:
        """No samples, in the codec's shape: (0,) or (0, C)."""
        channels = self._codec().config.channels
        return np.zeros((0,) if channels == 1 else (0, channels), dtype=np.float32)

    def decode(self, waiting: Mapping[Key, Sequence[Frames]]) -> Future[Audio]:
        """Begin to decode the waiting frames of jobs, after those that were decoded before.

        Jobs that `waiting` does not name are forgotten; a job that goes on later is named with no frames.

        Args:
            waiting: frames of each job.

        Returns:
            a future of their audio, without that of context.
        """
        self._codec()
        queues = {key: deque(frames) for key, frames in waiting.items()}
        return _codec_thread().submit(partial(self._decode, queues))

    def forget(self) -> None:
        """Free the streams of all jobs; nothing is being decoded."""
        self._keys, self._segments, self._decoder = [], [], None

    # --------------------------------------------------------------------------------- on the codec's thread

    def _decode(self, waiting: dict[Key, deque[Frames]]) -> Audio:
        audio: Audio = {key: [] for key in waiting}
        with mx.stream(_codec_stream()):
            self._arrange(list(waiting))
            while any(waiting.values()):
                self._decode_once(_next_parts(list(waiting.values())), audio)
        return audio

    def _arrange(self, keys: list[Key]) -> None:
        """Make the batch consist of the streams of these jobs, new ones included, in this order."""
        places = {key: place for place, key in enumerate(self._keys)}
        rows = [places.get(key) for key in keys]
        self._segments = [0 if row is None else self._segments[row] for row in rows]
        self._keys = keys
        if self._decoder is None or all(row is None for row in rows):
            self._decoder = StreamingDecoder(self._codec(), len(keys))
        elif rows != list(range(self._decoder.batch_size)):
            self._decoder.arrange(rows)

    def _decode_once(self, parts: list[Frames | None], audio: Audio) -> None:
        """One call: at most one stretch of frames of each job, within one audio segment."""
        assert self._decoder is not None
        self._start_segments(parts)
        counts = [0 if part is None else len(part.codes) for part in parts]
        n_vq = next(part.codes.shape[1] for part in parts if part is not None)
        codes = np.full((n_vq, len(parts), max(counts)), self._codec().config.codebook_size, np.int32)
        for row, part in enumerate(parts):
            if part is not None:
                codes[:, row, : len(part.codes)] = part.codes.T
        together = len(set(counts)) == 1
        decoded = np.asarray(self._decoder.push_unchecked(mx.array(codes), None if together else counts))
        per_frame = self._codec().config.downsample_rate
        for row, (pieces, part) in enumerate(zip(audio.values(), parts, strict=True)):
            if part is not None and not part.context:
                samples = decoded[row, :, : counts[row] * per_frame]
                check_finite(samples)
                pieces.append(samples[0] if len(samples) == 1 else samples.T)

    def _start_segments(self, parts: list[Frames | None]) -> None:
        """A new audio segment begins with a fresh codec state."""
        assert self._decoder is not None
        fresh = []
        for row, part in enumerate(parts):
            if part is not None and part.segment != self._segments[row]:
                self._segments[row] = part.segment
                fresh.append(row)
        if fresh:
            self._decoder.reset(fresh)


def _next_parts(queues: Sequence[deque[Frames]]) -> list[Frames | None]:
    """Take the next stretch off each queue; None where it has another number of codebooks than the first one."""
    n_vq = next(frames[0].codes.shape[1] for frames in queues if frames)
    return [_next_part(frames) if frames and frames[0].codes.shape[1] == n_vq else None for frames in queues]


def check_finite(samples: np.ndarray) -> None:
    """Refuse audio (...) that no file and no player can take.

    Raises:
        GenerationError: a sample is no finite number.
    """
    if not np.isfinite(samples).all():
        raise GenerationError(
            "the codec made samples that are not finite numbers: its weights are damaged, or its config.json is of "
            "another codec. Fetch or convert it again; `moss-tts inspect --verify` compares weights with their sums."
        )


def _next_part(frames: deque[Frames]) -> Frames:
    """Take neighbours of the same kind off a queue as one stretch."""
    first = frames.popleft()
    codes = [first.codes]
    while frames and (frames[0].segment, frames[0].context) == (first.segment, first.context):
        codes.append(frames.popleft().codes)
    return replace(first, codes=np.concatenate(codes))
