"""GPT-2 blocks in C for Linux CPUs (decoder_step.c, depth_frame.c): single rows of requests, without MLX's primitives.

A frame of Nano is 1,800 primitives of MLX, which cost more than reading its weights. Here it is two calls.

Letters: B requests, Q codebooks, K codes of each, D width.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from math import inf
from typing import Any, Protocol

import mlx.core as mx
import numpy as np

from moss_tts.config import GPT2Config
from moss_tts.device import compiled
from moss_tts.device.blas import cores_in_use
from moss_tts.device.kernels import on_cpu
from moss_tts.sampling import RowSampling

_BLOCK_WEIGHTS = tuple(
    f"{layer}.{kind}"
    for layer in ("ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.fc_in", "mlp.fc_out")
    for kind in ("weight", "bias")
)
_NORM = ("norm.weight", "norm.bias")
# draw.h: setting.
_SETTING = np.dtype([("temperature", "f4"), ("top_p", "f4"), ("penalty", "f4"), ("top_k", "i4")])


class _Block(ctypes.Structure):
    """decoder.h: block."""

    _fields_ = tuple((name, ctypes.c_void_p) for name in _BLOCK_WEIGHTS)


class _Decoder(ctypes.Structure):
    """decoder.h: decoder."""

    _fields_ = (
        ("blocks", ctypes.POINTER(_Block)),
        *((name, ctypes.c_void_p) for name in (*_NORM, "rates")),
        *((name, ctypes.c_int) for name in ("n_blocks", "width", "heads", "hidden", "gelu")),
        ("epsilon", ctypes.c_float),
    )


class _Depth(ctypes.Structure):
    """depth_frame.c: depth."""

    _fields_ = (
        ("decoder", ctypes.POINTER(_Decoder)),
        *((name, ctypes.c_void_p) for name in ("codes", "choices", "opening")),
        *((name, ctypes.c_int) for name in ("codebooks", "size", "keeps_ties")),
    )


class _Frame(ctypes.Structure):
    """depth_frame.c: frame."""

    _fields_ = (
        *((name, ctypes.c_int) for name in ("requests", "codebooks")),
        *((name, ctypes.c_void_p) for name in ("hidden", "uniforms", "text", "audio", "seen", "drawn")),
    )


class OpenCache(Protocol):
    """A cache with room for a further row of each request, which the caller writes."""

    def open_row(self) -> tuple[mx.array, mx.array, Sequence[int], int]:
        """Keys and values (places, heads, slots, d), the first slot of each request, and the slot of the row."""
        ...


class CompiledDecoder:
    """The blocks and the final norm of a decoder.

    Args:
        config: sizes, with rotary positions.
        weights: float32, by their names in GPT2Decoder.
        library: the C.
    """

    def __init__(self, config: GPT2Config, weights: Mapping[str, mx.array], library: ctypes.CDLL) -> None:
        self.config, self.library = config, library
        # C reads the weights in the memory of MLX.
        self._weights = {name: in_memory(weight) for name, weight in weights.items()}
        pairs = np.arange(0, config.head_dim, 2, dtype=np.float32)
        self._rates = np.float32(config.rope_base) ** (-pairs / np.float32(config.head_dim))
        count = config.num_hidden_layers
        blocks = (
            _Block(*(self._weights[f"layers.{index}.{name}"].ctypes.data for name in _BLOCK_WEIGHTS))
            for index in range(count)
        )
        self.in_c = _Decoder(
            (_Block * count)(*blocks),
            *(self._weights[name].ctypes.data for name in _NORM),
            self._rates.ctypes.data,
            *(count, config.hidden_size, config.num_attention_heads, config.intermediate_size),
            config.activation == "gelu_new",
            config.layer_norm_eps,
        )

    def step(self, x: mx.array, caches: Sequence[OpenCache]) -> mx.array:
        """Hidden states (B, 1, D) of one further row of each request, x (B, 1, D); the caches take the row."""
        rows = np.array(x, np.float32)
        opened = [cache.open_row() for cache in caches]
        _, _, starts, slot = opened[0]
        at = np.array([(place, start, slot) for place, start in enumerate(starts)], np.int64)
        held = [(in_memory(keys), in_memory(values)) for keys, values, _, _ in opened]
        layers = np.array(
            [(k.ctypes.data, v.ctypes.data, k.strides[0] // 4, k.strides[1] // 4) for k, v in held], np.int64
        )
        done = self.library.moss_tts_decoder_step(
            ctypes.byref(self.in_c), _address(layers), len(at), _address(at), _address(rows), cores_in_use()
        )
        if not done:
            raise MemoryError(f"no memory for a row of {len(at)} requests.")
        return mx.array(rows)


class CompiledDepth:
    """A depth decoder with its heads: the codes of a frame.

    Args:
        decoder: its blocks.
        codes: (Q * K, D), embeddings and heads.
        choices: (2, D), the head that says whether speech goes on.
        opening: (1, D) what is read after the hidden state, or (0, D) where nothing is.
        codebooks: Q.
        keeps_ties: see RowSampling.
    """

    def __init__(
        self,
        decoder: CompiledDecoder,
        codes: mx.array,
        choices: mx.array,
        opening: mx.array,
        *,
        codebooks: int,
        keeps_ties: bool,
    ) -> None:
        self._decoder, self._codebooks = decoder, codebooks
        self._weights = [in_memory(weight) for weight in (codes, choices, opening)]
        addresses = (weight.ctypes.data if len(weight) else None for weight in self._weights)
        self._in_c = _Depth(
            ctypes.pointer(decoder.in_c), *addresses, codebooks, codes.shape[0] // codebooks, keeps_ties
        )

    def draw(
        self,
        hidden: mx.array,
        uniforms: mx.array,
        text: RowSampling,
        audio: RowSampling,
        n_vq: int,
        seen: mx.array | None = None,
    ) -> np.ndarray:
        """The choice, 0 or 1, and the first n_vq codes of a frame of each request: (B, 1 + n_vq) int32.

        Args:
            hidden: (B, D) the backbone's last hidden states.
            uniforms: (B, 1 + Q) draws.
            text: sampling of the choice.
            audio: sampling of the codes.
            n_vq: codebooks to sample.
            seen: (B, Q, K) bool, codes that the penalty weakens.
        """
        drawn = np.empty((len(hidden), 1 + self._codebooks), np.int32)
        given = (in_memory(hidden), in_memory(uniforms), settings(text), settings(audio))
        weakened = None if seen is None else in_memory(seen)
        frame = _Frame(
            *(len(drawn), n_vq),
            *(array.ctypes.data for array in given),
            None if weakened is None else weakened.ctypes.data,
            drawn.ctypes.data,
        )
        run = self._decoder.library.moss_tts_depth_frame
        if not run(ctypes.byref(self._in_c), ctypes.byref(frame), cores_in_use()):
            raise MemoryError(f"no memory for a frame of {len(drawn)} requests.")
        return drawn[:, : 1 + n_vq]


def settings(rows: RowSampling) -> np.ndarray:
    """What C has to know of the sampling of each request."""
    given = (
        (row.temperature, row.top_p if row.top_p < 1 else inf, row.repetition_penalty, row.top_k or 2**30)
        for row in rows.rows
    )
    return np.array(list(given), _SETTING)


def compiled_decoder(config: GPT2Config, weights: Mapping[str, mx.array]) -> CompiledDecoder | None:
    """A decoder in C; None where there is no library, or MLX computes on a GPU or in other types.

    Args:
        config: sizes.
        weights: the weights of the decoder by name.
    """
    library = compiled.library()
    expected = {f"layers.{index}.{name}" for index in range(config.num_hidden_layers) for name in _BLOCK_WEIGHTS}
    plain = all(weight.dtype == mx.float32 for weight in weights.values()) and weights.keys() == expected | {*_NORM}
    return CompiledDecoder(config, weights, library) if library and on_cpu() and plain else None


def in_memory(array: mx.array) -> np.ndarray:
    """An array where it lies in the memory of MLX, computed and row by row."""
    return np.ascontiguousarray(np.array(array, copy=False))


def _address(array: np.ndarray) -> Any:
    return ctypes.c_void_p(array.ctypes.data)
