"""One model over several machines, for networks that fit in none of them: tensor parallelism of the backbone.

Every process runs the same loop on the same request and holds 1 / N of each backbone layer: some heads of the
attention, some of the feed-forward's width. Two sums over all processes per layer make them whole again, so all of
them see the same logits and, with the same seed, draw the same rows. Embeddings, heads, depth transformer and codec
are in every process. This is for memory, not for throughput: replicas are (docs/scaling.md).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn

from moss_tts.backbone import Attention, Block, Qwen3Backbone, SwiGLU
from moss_tts.checkpoints.loading import find_checkpoint, load_architecture, load_config
from moss_tts.config import DecoderSizes
from moss_tts.errors import ConfigError
from moss_tts.model import Model
from moss_tts.weights.layout import read_weights

Group = Any  # mx.distributed.Group


def load_part(name: str | Path, group: Group, *, codec: str | Path | None = None, dtype: str | None = None) -> Model:
    """This process's part of a checkpoint. All processes must make the same requests, each with a seed.

    Args:
        name: directory or hub id, as for `moss_tts.load`.
        group: the group of mx.distributed.init.
        codec: directory or hub id, as for `moss_tts.load`.
        dtype: the type to compute in.

    Raises:
        ConfigError: a network that so many processes cannot share.
        CheckpointError: missing, broken or unfitting files.
    """
    source = find_checkpoint(name)
    config = load_config(source.directory)
    check_divisible(config.backbone, group.size())
    weights = read_weights(source.directory)
    architecture = load_architecture(source.directory, config, weights, dtype, partial(divide, group=group))
    return Model.post_load_hook(architecture, source, codec)


def check_divisible(config: DecoderSizes, parts: int) -> None:
    """Refuse a network that cannot be cut into equal parts.

    Raises:
        ConfigError: the heads or the feed-forward's width.
    """
    for name in ("num_attention_heads", "num_key_value_heads", "intermediate_size"):
        count = getattr(config, name)
        if count % parts:
            raise ConfigError(f"{parts} processes cannot share {name} = {count} evenly; use a divisor of it")


def divide(network: nn.Module, group: Group) -> None:
    """Keep this process's part of every backbone layer, before weights are read, so that the rest is never in memory.

    Raises:
        ConfigError: this kind of backbone cannot be shared.
    """
    backbone = network["backbone"]
    if not isinstance(backbone, Qwen3Backbone):
        raise ConfigError("only models with a Qwen3 backbone are shared by several processes; load this one whole")
    for layer in cast(list[Block], backbone.layers):
        _divide_attention(layer.self_attn, group)
        _divide_feed_forward(layer.mlp, group)


def _divide_attention(attention: Attention, group: Group) -> None:
    for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
        _keep(projection, 0, group)
    attention.keep_heads(group.size())
    _keep(attention.o_proj, 1, group)
    attention["o_proj"] = Summed(attention.o_proj, group)


def _divide_feed_forward(mlp: SwiGLU, group: Group) -> None:
    for projection in (mlp.gate_proj, mlp.up_proj):
        _keep(projection, 0, group)
    _keep(mlp.down_proj, 1, group)
    mlp["down_proj"] = Summed(mlp.down_proj, group)


def _keep(layer: nn.Module, axis: int, group: Group) -> None:
    """This process's share of a layer's outputs (axis 0) or inputs (1); quantised groups stay whole."""
    for key in ("weight", "scales", "biases"):
        if layer.get(key) is not None:
            array = layer[key]
            if array.shape[axis] % group.size():
                raise ConfigError(f"{group.size()} processes cannot share {key} of shape {array.shape} along {axis}")
            # Rows of a part lie one after the other, as products read them.
            layer[key] = mx.contiguous(mx.split(array, group.size(), axis=axis)[group.rank()])


class Summed(nn.Module):
    """A layer split by inputs: each process multiplies its own, and the products are summed over all."""

    def __init__(self, part: nn.Module, group: Group) -> None:
        super().__init__()
        self.part = part
        self._group = group

    def __call__(self, x: mx.array) -> mx.array:
        """(..., in / N) -> (..., out)."""
        return mx.distributed.all_sum(self.part(x), group=self._group)
