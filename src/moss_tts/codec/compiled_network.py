"""The codec's networks in C (device/codec_stage.c), on Linux CPUs: what transformer.py and window.py compute in MLX.

A call for many streams is two thousand primitives of MLX, which takes a hundred in advance for all threads of a
process: rows that are computed meanwhile would wait for the codec's. C does not queue. Steps of all streams lie one
after the other and every stream has a past of its own, so nothing is padded, and nothing moves when others leave.

Letters: N steps of all streams, D width of a stage.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Any, TypeAlias

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten

from moss_tts.codec.stages import StageConfig, TransformerConfig
from moss_tts.device import compiled
from moss_tts.device.blas import cores_in_use
from moss_tts.device.kernels import on_cpu

# A stage's weights by their names in it.
StageWeights: TypeAlias = Mapping[str, mx.array]

_LAYER_WEIGHTS = (
    *("norm1.weight", "norm1.bias", "self_attn.in_proj.weight", "self_attn.out_proj.weight"),
    *("norm2.weight", "norm2.bias", "ffn.0.weight", "ffn.2.weight"),
)
_PROJECTIONS = ("input_proj.weight", "output_proj.weight")
_SIZES = ("num_layers", "input_dimension", "d_model", "output_dimension", "num_heads", "dim_feedforward", "window")


class _Layer(ctypes.Structure):
    """codec_stage.c: layer."""

    _fields_ = tuple((name, ctypes.c_void_p) for name in _LAYER_WEIGHTS)


class _Stage(ctypes.Structure):
    """codec_stage.c: stage."""

    _fields_ = (
        ("layers", ctypes.POINTER(_Layer)),
        *((name, ctypes.c_void_p) for name in _PROJECTIONS),
        *((name, ctypes.c_int) for name in _SIZES),
    )


class Past:
    """Keys and values of a stream in a stage. A state that ends at the last written slot appends to it; others copy it.

    Args:
        layers: the layers of the stage.
        slots: the number of steps that it has room for.
        width: D.
    """

    def __init__(self, layers: int, slots: int, width: int) -> None:
        # Of each layer keys (D, slots), then values (slots, D).
        steps = np.empty((layers, 2, slots * width), np.float32)
        self.keys = steps[:, 0].reshape(layers, width, slots)
        self.values = steps[:, 1].reshape(layers, slots, width)
        self.address, self.slots = steps.ctypes.data, slots
        self.written = 0


@dataclass(frozen=True)
class StreamState:
    """The state that a stage needs of the past of one stream. It is a value: calls return a new one.

    Attributes:
        past: shared with older and later states of the stream.
        used: the number of its slots that belong to this state.
        position: steps that the stream has seen.
    """

    past: Past
    used: int = 0
    position: int = 0


@dataclass(frozen=True)
class CompiledState:
    """The state that a stage needs of the past of its streams, as WindowState is for MLX."""

    streams: tuple[StreamState, ...]
    arrays: tuple[()] = ()  # these arrays are always computed

    @property
    def positions(self) -> tuple[int, ...]:
        """Steps that each stream has seen."""
        return tuple(stream.position for stream in self.streams)

    def rows(self, rows: Sequence[int | None]) -> CompiledState:
        """The state with these streams in this order; None is a stream at its start."""
        layers, width, _ = self.streams[0].past.keys.shape
        new = StreamState(Past(layers, 0, width))
        return CompiledState(tuple(new if row is None else self.streams[row] for row in rows))


class CompiledStage:
    """A transformer stage: projection in, layers, projection out."""

    def __init__(self, config: TransformerConfig, weights: StageWeights, library: ctypes.CDLL) -> None:
        self._config, self._run = config, library.moss_tts_codec_stage
        # C reads the weights in the memory of MLX.
        self._weights = {name: np.ascontiguousarray(np.array(weight, copy=False)) for name, weight in weights.items()}
        layers = (
            _Layer(*(self._address(f"transformer.layers.{index}.{name}") for name in _LAYER_WEIGHTS))
            for index in range(config.num_layers)
        )
        self._stage = _Stage(
            (_Layer * config.num_layers)(*layers),
            *map(self._address, _PROJECTIONS),
            *(getattr(config, name) for name in _SIZES),
        )
        pairs = np.arange(config.head_dim // 2, dtype=np.float32)
        self._rates = np.exp(pairs * np.float32(-2 * log(config.max_period) / config.head_dim))

    def _address(self, name: str) -> int | None:
        return self._weights[name].ctypes.data if name in self._weights else None

    def empty_state(self, batch: int) -> CompiledState:
        """The state of `batch` streams at their start."""
        return CompiledState((StreamState(Past(self._config.num_layers, 0, self._config.d_model)),) * batch)

    def __call__(self, x: np.ndarray, state: CompiledState, counts: Sequence[int]) -> tuple[np.ndarray, CompiledState]:
        """Packed steps (N, D in), `counts` of each stream, -> (N, D out), and the state after them."""
        following, table, first = [], [], 0
        for stream, count in zip(state.streams, counts, strict=True):
            if count:
                carried = min(stream.position, self._config.window - 1)
                past, used = self._with_room(stream, carried, count)
                table.append((past.address, past.slots, used, carried, first, count))
                past.written = used + count
                stream = StreamState(past, used + count, stream.position + count)
                first += count
            following.append(stream)
        out = np.empty((len(x), self._config.output_dimension), np.float32)
        self._compute(np.array(table, np.int64), self._angles(state.positions, counts), x, out)
        return out, CompiledState(tuple(following))

    def _with_room(self, stream: StreamState, carried: int, count: int) -> tuple[Past, int]:
        """A past with room for `count` further steps after the carried ones: the same, or a new one."""
        past, used = stream.past, stream.used
        if past.written == used and used + count <= past.slots:
            return past, used
        # A first call may be the only one; a stream then moves once in a quarter of a window.
        spare = self._config.window // 4 if stream.position else 0
        larger = Past(self._config.num_layers, carried + count + spare, self._config.d_model)
        larger.keys[:, :, :carried] = past.keys[:, :, used - carried : used]
        larger.values[:, :carried] = past.values[:, used - carried : used]
        return larger, carried

    def _angles(self, positions: Sequence[int], counts: Sequence[int]) -> np.ndarray:
        """(N, d / 2), in float32 as upstream."""
        steps = [np.arange(start, start + count) for start, count in zip(positions, counts, strict=True)]
        return np.concatenate(steps).astype(np.float32)[:, None] * self._rates

    def _compute(self, streams: np.ndarray, angles: np.ndarray, x: np.ndarray, out: np.ndarray) -> None:
        arrays = (np.cos(angles), np.sin(angles), x, out)
        given = [ctypes.c_void_p(array.ctypes.data) for array in (streams, *arrays)]
        done = self._run(ctypes.byref(self._stage), len(streams), *given, cores_in_use())
        if not done:
            raise MemoryError(f"no memory for {len(x)} steps of the codec.")


class CompiledNetwork:
    """Encoder or decoder of a codec, as Network.

    Args:
        configs: the configs of its stages, in order.
        stages: what `in_c` of each gives.
    """

    def __init__(self, configs: Sequence[StageConfig], stages: Sequence[Any]) -> None:
        self._configs, self._stages = configs, stages

    def empty_state(self, batch: int) -> tuple[Any, ...]:
        """The state of `batch` streams at their start."""
        return tuple(stage.empty_state(batch) for stage in self._stages)

    def __call__(
        self, x: mx.array, state: Sequence[Any], counts: Sequence[int] | None
    ) -> tuple[np.ndarray, tuple[Any, ...]]:
        """T further steps of B streams, (B, T, D) -> (B, T', D') float32, and the state behind them."""
        batch, steps, _ = x.shape
        counts = [steps] * batch if counts is None else counts
        rows = np.asarray(x.astype(mx.float32))
        packed = np.ascontiguousarray(np.concatenate([row[:count] for row, count in zip(rows, counts, strict=True)]))
        following = []
        for config, stage, carried in zip(self._configs, self._stages, state, strict=True):
            packed, behind = stage(packed, carried, counts)
            steps, *counts = (config.steps_after(count) for count in (steps, *counts))
            following.append(behind)
        return _unpacked(packed, counts, steps), tuple(following)


def _unpacked(packed: np.ndarray, counts: Sequence[int], steps: int) -> np.ndarray:
    """Packed steps (N, D) as rows (B, T, D), with zeros after their ends."""
    rows = np.zeros((len(counts), steps, packed.shape[1]), np.float32)
    for row, own in zip(rows, np.split(packed, np.cumsum(counts)[:-1]), strict=True):
        row[: len(own)] = own
    return rows


def compiled_network(configs: Sequence[StageConfig], stages: Sequence[Any]) -> CompiledNetwork | None:
    """The network of these stages in C; None where there is no library, or MLX computes on a GPU or in other types."""
    library = compiled.library()
    weights: list[tuple[str, mx.array]] = tree_flatten([stage.parameters() for stage in stages])  # type: ignore[assignment]
    plain = all(weight.dtype == mx.float32 for _, weight in weights)
    if library is None or not on_cpu() or not plain:
        return None
    return CompiledNetwork(configs, [stage.in_c(library) for stage in stages])
