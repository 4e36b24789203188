"""Live streams through the codec: frames in, audio out, and the other way.

A stream gives exactly what the whole input gives, however it is cut. Several streams may run as the rows of
one batch: they join, leave, start over, and bring different numbers of frames to a call. Objects here hold a
state and replace it; states are values, so a fork costs nothing until the two go on.
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx

from moss_tts.codec.inputs import Array, as_codes, as_samples, check_counts, check_num_quantizers
from moss_tts.codec.model import CHUNK_FRAMES, MossAudioTokenizer
from moss_tts.codec.network import NetworkOutput, NetworkState, in_mlx
from moss_tts.errors import AudioError, RequestError


class StreamingDecoder:
    """Codes in, audio out.

    Args:
        codec: the codec that decodes.
        batch_size: the number of streams B, which are the rows of every call.
    """

    def __init__(self, codec: MossAudioTokenizer, batch_size: int = 1) -> None:
        self._codec, self._batch_size = codec, _check_batch_size(batch_size)
        self._state: NetworkState = codec.decoder.empty_state(batch_size)

    @property
    def batch_size(self) -> int:
        """Streams B."""
        return self._batch_size

    def push(self, codes: Array, counts: Sequence[int] | None = None) -> mx.array:
        """Audio (B, C, F * downsample_rate), float32, of F further frames.

        Args:
            codes: (Q, B, F), or (Q, F) for one stream; Q may be any number of first codebooks.
            counts: frames that each stream really brings, at the front; the rest of its row is ignored and
                comes out silent. None: F.

        Raises:
            RequestError: wrong shape, not integers, out of range, or counts that do not fit.
        """
        batch = self._checked(codes, counts)
        frames = batch.shape[2]
        if frames == 0:
            return mx.zeros((self.batch_size, self._codec.config.channels, 0))
        audio = in_mlx(self.push_unchecked(batch, counts))
        if counts is None:
            return audio
        ends = mx.array(list(counts))[:, None] * self._codec.config.downsample_rate
        return mx.where((mx.arange(audio.shape[2]) < ends)[:, None], audio, 0.0)

    def push_unchecked(self, codes: mx.array, counts: Sequence[int] | None = None) -> NetworkOutput:
        """Audio (B, C, F * downsample_rate) of codes that the runtime itself made; nothing is checked.

        The audio stays in the library that computed it: MLX, or NumPy where C computes.

        Args:
            codes: int32 (Q, B, F), F at least 1, each in 0..codebook_size.
            counts: see push, but the audio behind them has no meaning.
        """
        audio, self._state = self._codec.decode_frames(codes, self._state, counts)
        return audio

    def prime(self, codes: Array) -> None:
        """Advance past frames without audio, such as those of a prompt.

        Args:
            codes: (Q, B, F), or (Q, F) for one stream.

        Raises:
            RequestError: see push.
        """
        batch = self._checked(codes, None)
        for start in range(0, batch.shape[2], CHUNK_FRAMES):
            _, self._state = self._codec.decode_frames(batch[:, :, start : start + CHUNK_FRAMES], self._state)
            # Only the carried state is computed, not the audio.
            mx.eval([stage.arrays for stage in self._state])

    def fork(self) -> StreamingDecoder:
        """A second decoder that continues from here; neither disturbs the other."""
        twin = StreamingDecoder.__new__(StreamingDecoder)
        twin._codec, twin._batch_size, twin._state = self._codec, self._batch_size, self._state
        return twin

    def reset(self, rows: Sequence[int] | None = None) -> None:
        """Start these streams over; all by default."""
        again = range(self.batch_size) if rows is None else rows
        self.arrange([None if row in again else row for row in range(self.batch_size)])

    def arrange(self, rows: Sequence[int | None]) -> None:
        """Make the batch consist of these of its streams, in this order; None is a new stream.

        Removes, reorders, duplicates and adds streams.

        Raises:
            RequestError: no rows, or one that does not exist.
        """
        _check_rows(rows, self.batch_size)
        self._state = tuple(stage.rows(rows) for stage in self._state)
        self._batch_size = len(rows)

    def _checked(self, codes: Array, counts: Sequence[int] | None) -> mx.array:
        batch = as_codes(codes, self._codec.config)
        if batch.shape[1] != self.batch_size:
            raise RequestError(f"codes bring {batch.shape[1]} rows to a decoder of {self.batch_size} streams.")
        if counts is not None:
            check_counts(counts, *batch.shape[1:])
        return batch


class StreamingEncoder:
    """Audio in, codes out.

    Samples that do not fill a frame wait for the next push. A stream that ends leaves them without a code, as
    encoding it whole does. All rows of a batch advance together.

    Args:
        codec: the codec that encodes.
        batch_size: the number of streams B, which are the rows of every call.
        num_quantizers: codebooks to use; all by default.

    Raises:
        RequestError: there are not so many codebooks.
    """

    def __init__(self, codec: MossAudioTokenizer, batch_size: int = 1, num_quantizers: int | None = None) -> None:
        self._codec = codec
        self._depth = check_num_quantizers(num_quantizers, codec.config.num_quantizers)
        self._state: NetworkState = codec.encoder.empty_state(_check_batch_size(batch_size))
        self._waiting = mx.zeros((batch_size, codec.config.channels, 0))

    @property
    def batch_size(self) -> int:
        """Streams B."""
        return self._waiting.shape[0]

    @property
    def waiting_samples(self) -> int:
        """Samples per channel that have been pushed and do not fill a frame yet."""
        return self._waiting.shape[2]

    def push(self, audio: Array) -> mx.array:
        """Codes int32 (Q, B, F) of the F frames that further samples complete; F may be 0.

        Args:
            audio: (B, C, S), or (C, S) or (S,) for one stream.

        Raises:
            AudioError: wrong shape, not floats, or not finite.
        """
        samples = as_samples(audio, self._codec.config, least_frames=0)
        if samples.shape[0] != self.batch_size:
            raise AudioError(f"audio brings {samples.shape[0]} rows to an encoder of {self.batch_size} streams.")
        samples = mx.concatenate([self._waiting, samples], axis=2)
        whole = samples.shape[2] // self._codec.config.downsample_rate * self._codec.config.downsample_rate
        self._waiting = samples[:, :, whole:]
        if whole == 0:
            return mx.zeros((self._depth, self.batch_size, 0), mx.int32)
        codes, self._state = self._codec.encode_step(samples[:, :, :whole], self._state, self._depth)
        return codes

    def fork(self) -> StreamingEncoder:
        """A second encoder that continues from here; neither disturbs the other."""
        twin = StreamingEncoder.__new__(StreamingEncoder)
        twin._codec, twin._depth = self._codec, self._depth
        twin._state, twin._waiting = self._state, self._waiting
        return twin

    def reset(self) -> None:
        """Start all streams over and forget waiting samples."""
        self._state = self._codec.encoder.empty_state(self.batch_size)
        self._waiting = self._waiting[:, :, :0]


def _check_batch_size(size: int) -> int:
    if size < 1:
        raise RequestError(f"batch_size must be at least 1, got {size}.")
    return size


def _check_rows(rows: Sequence[int | None], batch: int) -> None:
    if not rows or not all(row is None or 0 <= row < batch for row in rows):
        raise RequestError(f"rows must be taken from 0..{batch - 1}, or None for a new one; got {list(rows)}.")
