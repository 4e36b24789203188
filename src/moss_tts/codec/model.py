"""MossAudioTokenizer: waveforms to codes and back.

Whole inputs and live streams go through the same two steps, `encode_step` and `decode_step`, which take the
state of the streams and return it; encoding or decoding a whole input is a loop of them. So any split of a
stream gives the same codes and the same audio, and memory is bounded by the chunk.

This file knows nothing of audio files, sampling rates of inputs or loudness: samples are floats at the
codec's own rate. Letters: B streams, Q codebooks, F frames, C channels, S samples per channel.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar, cast

import mlx.core as mx
import numpy as np

from moss_tts.codec.config import CodecConfig
from moss_tts.codec.inputs import (
    Array,
    as_codes,
    as_samples,
    check_chunk,
    check_num_quantizers,
    check_same_depth,
    pad_rows,
)
from moss_tts.codec.network import Counts, Network, NetworkOutput, NetworkState, in_mlx
from moss_tts.codec.precision import DecoderPrecision
from moss_tts.codec.quantizer import Quantizer
from moss_tts.codec.weights import Weights, canonical_weights, network_parameters
from moss_tts.device.memory import cache_limit
from moss_tts.device.thread import on_device
from moss_tts.strict import Raw
from moss_tts.weights.layout import read_json, read_leaves, read_weights

# 5 s: enough frames for efficient products at the lowest rate, few enough that little of a window is masked.
CHUNK_FRAMES = 64
DTYPES = (mx.float32, mx.bfloat16, mx.float16)

T = TypeVar("T")


@dataclass(frozen=True)
class EncodedAudio:
    """Codes of a batch.

    Attributes:
        codes: int32 (Q, B, F); after the end of a row comes the code that decodes to nothing.
        lengths: int32 (B,), frames of each row.
    """

    codes: mx.array
    lengths: mx.array

    def rows(self) -> list[mx.array]:
        """Codes (Q, F) of each row without its padding."""
        return [self.codes[:, row, :length] for row, length in enumerate(_integers(self.lengths))]


@dataclass(frozen=True)
class DecodedAudio:
    """Audio of a batch.

    Attributes:
        audio: float32 (B, C, S); silent after the end of a row.
        lengths: int32 (B,), samples per channel of each row.
    """

    audio: mx.array
    lengths: mx.array

    def rows(self) -> list[mx.array]:
        """Audio (C, S) of each row without its padding."""
        return [self.audio[row, :, :length] for row, length in enumerate(_integers(self.lengths))]


class MossAudioTokenizer:
    """A codec and its weights.

    The decoder is ready after construction. Encoder weights are read when something is first encoded.

    Args:
        config: sizes.
        read: returns all weights of the checkpoint, unevaluated; called again if the encoder is needed later.
        dtype: what encoder and decoder compute in. float32 reproduces upstream's codes; the quantizer always
            computes in float32.
        decoder: the precision of the decoder, if it differs.

    Raises:
        CheckpointError: the weights do not fit the config.
    """

    def __init__(
        self,
        config: CodecConfig,
        read: Callable[[], Weights],
        dtype: mx.Dtype = mx.float32,
        decoder: DecoderPrecision | None = None,
    ) -> None:
        if dtype not in DTYPES:
            raise ValueError(f"dtype must be float32, bfloat16 or float16, got {dtype}.")
        self._read, self._dtype = read, dtype
        self.config, weights = canonical_weights(config, read())
        quantizer = {n.removeprefix("quantizer."): w for n, w in weights.items() if n.startswith("quantizer.")}
        self._quantizer = Quantizer.from_weights(self.config.quantizer, quantizer)
        self._decoder = self._load("decoder.", weights, decoder or DecoderPrecision(dtype))
        self._encoder: Network | None = None

    @classmethod
    def from_pretrained(
        cls, directory: str | Path, dtype: mx.Dtype = mx.float32, decoder: DecoderPrecision | None = None
    ) -> MossAudioTokenizer:
        """A codec from a directory with config.json and model*.safetensors, in shards or not.

        Raises:
            ConfigError: config.json is not a codec of this family.
            CheckpointError: a file is missing or broken, or the weights do not fit the config.
        """
        folder = Path(directory)
        config = CodecConfig.from_dict(read_json(folder / "config.json"))
        return cls(config, lambda: read_weights(folder), dtype, decoder)

    @classmethod
    def from_weights(cls, raw: Raw, weights: Weights, dtype: mx.Dtype = mx.float32) -> MossAudioTokenizer:
        """A codec from a parsed config.json and weights in memory.

        A checkpoint fused with its codec has the config in its block `codec_config`, and the weights under
        names that begin with "codec_model."; that prefix may stay.

        Raises:
            ConfigError: this is no config of a codec of this family.
            CheckpointError: the weights do not fit the config.
        """
        return cls(CodecConfig.from_dict(raw), lambda: weights, dtype)

    # ------------------------------------------------------------------------------------------- weights

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the codebooks: it differs between codecs if the same codes mean different audio."""
        return hashlib.sha256(np.array(self._quantizer.codebooks).tobytes()).hexdigest()[:16]

    @property
    def encoder_loaded(self) -> bool:
        """Whether encoder weights are in memory."""
        return self._encoder is not None

    def release_encoder(self) -> None:
        """Free the encoder's memory; the next encode reads its weights again."""
        self._encoder = None
        mx.clear_cache()

    @property
    def decoder(self) -> Network:
        """The decoding network."""
        return self._decoder

    @property
    def encoder(self) -> Network:
        """The encoding network; its weights are read on first use."""
        if self._encoder is None:
            _, weights = canonical_weights(self.config, self._read())
            self._encoder = self._load("encoder.", weights, DecoderPrecision(self._dtype))
        return self._encoder

    def _load(self, prefix: str, weights: dict[str, mx.array], precision: DecoderPrecision) -> Network:
        """The network under a prefix; its weights are taken out of `weights`."""
        stages = self.config.encoder if prefix == "encoder." else self.config.decoder
        network = Network(stages, precision.dtype, self.config.version)
        taken = {name: weights.pop(name) for name in list(weights) if name.startswith(prefix)}
        network.load_weights(network_parameters(taken, prefix, precision.dtype), strict=True)
        precision.apply(network)
        # A second reference to an array that is read here would keep it in memory beside the array made from it.
        taken.clear()
        with cache_limit(0):
            for stage in network.stages:
                read_leaves(stage)
        network.compile()
        return network

    # ------------------------------------------------------------------------------------------- steps

    def decode_step(self, codes: mx.array, state: NetworkState, counts: Counts = None) -> tuple[mx.array, NetworkState]:
        """F further frames of B streams: codes (Q, B, F) -> audio (B, C, F * downsample_rate) and the state.

        Args:
            counts: frames that each row really has; None: F. Audio of a row after them has no meaning.
        """
        audio, state = self.decode_frames(codes, state, counts)
        return in_mlx(audio), state

    def decode_frames(
        self, codes: mx.array, state: NetworkState, counts: Counts = None
    ) -> tuple[NetworkOutput, NetworkState]:
        """The same as decode_step, but the audio stays in the library that computed it.

        Callers that need NumPy save a conversion where C computes.
        """
        stream, state = self._decoder(self._quantizer.decode(codes), state, counts)
        return stream.reshape(stream.shape[0], -1, self.config.channels).transpose(0, 2, 1), state

    def encode_step(
        self, audio: mx.array, state: NetworkState, num_quantizers: int, counts: Counts = None
    ) -> tuple[mx.array, NetworkState]:
        """F further frames of B streams: audio (B, C, F * downsample_rate) -> codes (Q, B, F) and the state.

        Args:
            counts: frames that each row really has; None: F. Codes of a row after them have no meaning.
        """
        # Channels interleave into one stream: L0 R0 L1 R1 ...
        stream = audio.transpose(0, 2, 1).reshape(audio.shape[0], -1, 1)
        frame = self.config.downsample_rate * self.config.channels
        steps = None if counts is None else [count * frame for count in counts]
        latents, state = self.encoder(stream, state, steps)
        return self._quantizer.encode(in_mlx(latents), num_quantizers), state

    # ------------------------------------------------------------------------------------------- whole inputs

    def encode(self, audio: Array, num_quantizers: int | None = None, chunk_frames: int = CHUNK_FRAMES) -> EncodedAudio:
        """Encode one waveform (S,) or (C, S), or a batch of equal length (B, C, S).

        A last piece shorter than a frame has no code. Codes of the first k codebooks are those that
        num_quantizers=k gives.

        Args:
            audio: floats at the codec's sampling rate.
            num_quantizers: codebooks to use; all by default.
            chunk_frames: frames per pass; less needs less memory and gives the same codes.

        Raises:
            AudioError: wrong shape, not floats, not finite, or shorter than one frame.
            RequestError: there are not so many codebooks.
        """

        def work() -> EncodedAudio:
            samples = as_samples(audio, self.config)
            return self._encode(samples, [samples.shape[2]] * samples.shape[0], num_quantizers, chunk_frames)

        return _on_device(work, audio)

    def batch_encode(
        self, audio: Sequence[Array], num_quantizers: int | None = None, chunk_frames: int = CHUNK_FRAMES
    ) -> EncodedAudio:
        """Encode waveforms (S,) or (C, S) of different lengths together; each row as if it were alone.

        Raises:
            AudioError: see encode; the message names the waveform.
            RequestError: there are not so many codebooks, or no waveforms.
        """

        items = list(audio)

        def work() -> EncodedAudio:
            rows = [as_samples(item, self.config, f"audio {index}") for index, item in enumerate(items)]
            samples = pad_rows([row[0] for row in rows], 0.0)
            return self._encode(samples, [row.shape[2] for row in rows], num_quantizers, chunk_frames)

        return _on_device(work, *items)

    def _encode(
        self, samples: mx.array, n_samples: Sequence[int], num_quantizers: int | None, chunk_frames: int
    ) -> EncodedAudio:
        check_chunk(chunk_frames)
        depth = check_num_quantizers(num_quantizers, self.config.num_quantizers)
        rate = self.config.downsample_rate
        lengths = mx.array([count // rate for count in n_samples], dtype=mx.int32)
        pieces, state = [], self.encoder.empty_state(samples.shape[0])
        for start in range(0, max(n_samples) // rate * rate, chunk_frames * rate):
            stop = min(start + chunk_frames * rate, max(n_samples) // rate * rate)
            codes, state = self.encode_step(samples[:, :, start:stop], state, depth)
            mx.async_eval(codes)
            pieces.append(codes)
        codes = mx.concatenate(pieces, axis=2)
        codes = mx.where(_inside(codes.shape[2], lengths), codes, self.config.codebook_size)
        mx.eval(codes, lengths)
        return EncodedAudio(codes, lengths)

    def decode(self, codes: Array, num_quantizers: int | None = None, chunk_frames: int = CHUNK_FRAMES) -> DecodedAudio:
        """Decode codes (Q, F), or a batch of equal length (Q, B, F), of the first Q codebooks.

        Args:
            codes: integers in 0..codebook_size, of which the last adds nothing.
            num_quantizers: use only the first so many of the Q.
            chunk_frames: frames per pass; less needs less memory and gives the same audio.

        Raises:
            RequestError: wrong shape, not integers, out of range, or more codebooks than there are.
        """

        def work() -> DecodedAudio:
            batch = as_codes(codes, self.config, num_quantizers)
            return self._decode(batch, [batch.shape[2]] * batch.shape[1], chunk_frames)

        return _on_device(work, codes)

    def batch_decode(
        self, codes: Sequence[Array], num_quantizers: int | None = None, chunk_frames: int = CHUNK_FRAMES
    ) -> DecodedAudio:
        """Decode matrices (Q, F) of different lengths together; each row as if it were alone.

        Raises:
            RequestError: see decode; without num_quantizers, all must have the same Q.
        """

        items = list(codes)

        def work() -> DecodedAudio:
            rows = [as_codes(item, self.config, num_quantizers, f"codes {index}") for index, item in enumerate(items)]
            check_same_depth(rows)
            batch = pad_rows([row[:, 0] for row in rows], self.config.codebook_size)
            return self._decode(batch.transpose(1, 0, 2), [row.shape[2] for row in rows], chunk_frames)

        return _on_device(work, *items)

    def _decode(self, codes: mx.array, n_frames: Sequence[int], chunk_frames: int) -> DecodedAudio:
        check_chunk(chunk_frames)
        _, batch, frames = codes.shape
        lengths = mx.array([count * self.config.downsample_rate for count in n_frames], dtype=mx.int32)
        pieces, state = [mx.zeros((batch, self.config.channels, 0))], self._decoder.empty_state(batch)
        for start in range(0, frames, chunk_frames):
            audio, state = self.decode_step(codes[:, :, start : start + chunk_frames], state)
            mx.async_eval(audio)
            pieces.append(audio)
        audio = mx.concatenate(pieces, axis=2)
        audio = mx.where(_inside(audio.shape[2], lengths)[:, None], audio, 0.0)
        mx.eval(audio, lengths)
        return DecodedAudio(audio, lengths)


def _on_device(work: Callable[[], T], *given: object) -> T:
    """Work in the device thread; MLX arrays that the caller's thread has only begun are computed there first."""
    mx.eval([array for array in given if isinstance(array, mx.array)])
    return on_device(work)


def _integers(lengths: mx.array) -> list[int]:
    return cast(list[int], lengths.tolist())


def _inside(size: int, lengths: mx.array) -> mx.array:
    """Which of `size` places are before the end of each row: bool (B, size)."""
    return mx.arange(size) < lengths[:, None]
