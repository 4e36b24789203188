"""Encoder and decoder of the codec: stages in order, over steps (B, T, D) of B streams.

dtype contract: weights are held and products are taken in the dtype the network is built for; the residual
stream and the layer norms are float32, and so is what a network returns. Modules hold weights only: what a
stream carries goes in and comes out as a `NetworkState`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from moss_tts.codec.compiled_network import CompiledNetwork, compiled_network
from moss_tts.codec.patch import Patch
from moss_tts.codec.stages import PatchConfig, StageConfig, TransformerConfig
from moss_tts.codec.transformer import TransformerStage


class StageState(Protocol):
    """The state of a stage's streams from call to call. It is a value: calls return a new one."""

    @property
    def arrays(self) -> Sequence[mx.array]:
        """Its arrays of MLX, which may not be computed yet."""
        ...

    def rows(self, rows: Sequence[int | None], /) -> StageState:
        """The state with these streams in this order; None is a stream at its start."""
        ...


# One state per stage, in order.
NetworkState: TypeAlias = tuple[StageState, ...]
# An array of MLX, or of NumPy where C computes. Both are reshaped and transposed alike.
NetworkOutput: TypeAlias = mx.array | np.ndarray
# How many of the T steps of a call belong to each row; None: all of them.
Counts: TypeAlias = Sequence[int] | None

# Kind of config -> what makes the stage's module, given the config, a dtype and the codec's generation.
MODULES: Mapping[type, Callable[[Any, mx.Dtype, int], nn.Module]] = {
    PatchConfig: lambda config, *_: Patch(config),
    TransformerConfig: TransformerStage,
}


def in_mlx(output: NetworkOutput) -> mx.array:
    """The array as one of MLX."""
    return output if isinstance(output, mx.array) else mx.array(output)


class Network(nn.Module):
    """Encoder or decoder of a codec.

    Args:
        stages: its stages in order.
        dtype: what products are taken in.
        version: generation of the codec.
    """

    def __init__(self, stages: Sequence[StageConfig], dtype: mx.Dtype, version: int) -> None:
        super().__init__()
        self._configs = stages
        self._compiled: CompiledNetwork | None = None
        self.stages = [MODULES[type(stage)](stage, dtype, version) for stage in stages]

    def compile(self) -> None:
        """Compute in C from now on, if that is possible. The weights must be loaded, and stay."""
        self._compiled = compiled_network(self._configs, self.stages)

    def empty_state(self, batch: int) -> NetworkState:
        """The state of `batch` rows at the start of their streams."""
        if self._compiled is not None:
            return self._compiled.empty_state(batch)
        return tuple(stage.empty_state(batch) for stage in self.stages)

    def __call__(self, x: mx.array, state: NetworkState, counts: Counts = None) -> tuple[NetworkOutput, NetworkState]:
        """T further steps of B streams, (B, T, D) -> (B, T', D') float32, and the state behind them.

        Args:
            counts: steps of x that belong to each row; what lies behind them leaves no trace in the state,
                and gives outputs without meaning.
        """
        if self._compiled is not None:
            return self._compiled(x, state, counts)
        following = []
        x = x.astype(mx.float32)
        for config, stage, carried in zip(self._configs, self.stages, state, strict=True):
            x, behind = stage(x, carried, counts)
            counts = counts and [config.steps_after(count) for count in counts]
            following.append(behind)
        return x, tuple(following)
