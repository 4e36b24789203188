"""The decoders, Qwen3 and GPT-2, as backbones over rows and as depth transformers.

A decoder maps embeddings to hidden states: embeddings and heads belong to the models. Keys, values and the mask of a
run live in the caches that the caller passes (mlx-lm's), never on a module.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import mlx.core as mx
import mlx.nn as nn

from moss_tts.adapters.low_rank import Adapted, Adapters, base_weights
from moss_tts.config import BackboneConfig, GPT2Config
from moss_tts.context.batch_cache import BatchCache, Cache
from moss_tts.context.quantised_cache import QuantisedCache, check_kv_bits, group_size_for
from moss_tts.device.compiled_decoder import CompiledDecoder, compiled_decoder
from moss_tts.device.kernels import (
    LayerNorm,
    Linear,
    RMSNorm,
    Rotary,
    Rotation,
    attend,
    gated,
    gelu,
    issue,
    rms_norm,
    swish,
)
from moss_tts.device.many_rows import gelu_of_many
from moss_tts.device.mlx_lm import KVCache

# Activations by their names in config.json: of a few rows, and of many.
ACTIVATIONS = {"silu": (swish, swish), "gelu_new": (gelu, gelu_of_many)}
# For a few rows of a request it is not worth to wait until they are computed.
FEW_ROWS = 8


@dataclass(frozen=True)
class RowShape:
    """What all layers of one pass share: B requests with T rows each, where they stand and what they may see.

    Between layers rows are flat, (B * T, D), so that every product is one of two matrices.
    """

    batch: int
    count: int
    mask: mx.array | str | None
    rope: Rotary | None
    rotation: Rotation

    @classmethod
    def of(cls, batch: int, count: int, cache: Cache, rope: Rotary | None) -> RowShape:
        """The shape of the next `count` rows after a cache."""
        mask = cache.make_mask(count, return_array=False, window_size=None)
        rotation = Rotation(cache.offset) if rope is None else rope.at(cache.offset, count)
        return cls(batch, count, mask, rope, rotation)

    def last(self) -> RowShape:
        """The shape of the last row of each request alone, which sees all others but padding."""
        return replace(self, count=1, mask=self.mask[..., -1:, :] if isinstance(self.mask, mx.array) else None)

    def last_of(self, x: mx.array) -> mx.array:
        """(B * T, D) -> (B, D), the last row of each request."""
        return x.reshape(self.batch, self.count, -1)[:, -1]

    def by_head(self, x: mx.array, heads: int) -> mx.array:
        """(B * T, heads * d) -> (B, heads, T, d); single rows need no transposing."""
        if self.count == 1:
            return x.reshape(self.batch, heads, 1, -1)
        return x.reshape(self.batch, self.count, heads, -1).transpose(0, 2, 1, 3)

    def flat(self, x: mx.array) -> mx.array:
        """(B, heads, T, d) -> (B * T, heads * d)."""
        if self.count > 1:
            x = x.transpose(0, 2, 1, 3)
        return x.reshape(self.batch * self.count, -1)


class Attention(nn.Module):
    """Grouped-query attention with an RMS norm on each query and key head (Qwen3)."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self._heads = config.num_attention_heads
        self._kv_heads = config.num_key_value_heads
        self._scale = config.head_dim**-0.5
        width, head = config.hidden_size, config.head_dim
        self.q_proj = Linear(width, self._heads * head, bias=False)
        self.k_proj = Linear(width, self._kv_heads * head, bias=False)
        self.v_proj = Linear(width, self._kv_heads * head, bias=False)
        self.o_proj = Linear(self._heads * head, width, bias=False)
        self.q_norm = RMSNorm(head, eps=config.rms_norm_eps)
        self.k_norm = RMSNorm(head, eps=config.rms_norm_eps)

    def __call__(self, x: mx.array, rows: RowShape, cache: Cache, last_only: bool = False) -> mx.array:
        """(B * T, D) -> (B * T, D), or (B, D) of the last rows; the cache takes all."""
        heads = rows.by_head(joined_call(self, ("q_proj", "k_proj", "v_proj"), x), self._heads + 2 * self._kv_heads)
        # Queries and keys are normed and rotated together: half the calls.
        qk, v = mx.split(heads, [self._heads + self._kv_heads], axis=1)
        qk = rms_norm(qk, self._qk_weight(), self.q_norm.eps)
        if rows.rope is not None:
            qk = rows.rope.rotate(qk, rows.rotation)
        q, k = mx.split(qk, [self._heads], axis=1)
        k, v = cache.update_and_fetch(k, v)
        if last_only:
            q, rows = q[:, :, -1:], rows.last()
        out = attend(q, k, v, scale=self._scale, mask=rows.mask, cache=cache)
        return self.o_proj(rows.flat(out))

    def keep_heads(self, parts: int) -> None:
        """Keep one of every `parts` heads; the caller cuts the weights."""
        self._heads //= parts
        self._kv_heads //= parts

    def _qk_weight(self) -> mx.array:
        """Norm weights (query heads + key heads, 1, head_dim), derived once."""
        if "_qk_weights" not in self:
            weights = [self.q_norm.weight] * self._heads + [self.k_norm.weight] * self._kv_heads
            self._qk_weights = mx.stack(weights)[:, None]
        return self._qk_weights


class SwiGLU(nn.Module):
    """Gated feed-forward of Qwen3; the output width may differ, as in Local's adapters."""

    def __init__(self, width: int, hidden: int, out: int) -> None:
        super().__init__()
        self.gate_proj = Linear(width, hidden, bias=False)
        self.up_proj = Linear(width, hidden, bias=False)
        self.down_proj = Linear(hidden, out, bias=False)

    def __call__(self, x: mx.array) -> mx.array:
        """(..., width) -> (..., out)."""
        return self.down_proj(gated(*mx.split(joined_call(self, ("gate_proj", "up_proj"), x), 2, axis=-1)))


class Block(nn.Module):
    """Pre-norm attention and feed-forward, each with a residual."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.self_attn = Attention(config)
        self.mlp = SwiGLU(width, config.intermediate_size, width)
        self.input_layernorm = RMSNorm(width, eps=config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(width, eps=config.rms_norm_eps)

    def __call__(self, x: mx.array, rows: RowShape, cache: Cache, last_only: bool = False) -> mx.array:
        """(B * T, D) -> (B * T, D), or (B, D) of the last rows; the cache takes all."""
        attended = self.self_attn(self.input_layernorm(x), rows, cache, last_only)
        x = (rows.last_of(x) if last_only else x) + attended
        return x + self.mlp(self.post_attention_layernorm(x))


class GPT2Attention(nn.Module):
    """Multi-head attention with biases; rotary pairs are even and odd dimensions."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self._heads = config.num_attention_heads
        self._scale = config.head_dim**-0.5
        self.c_attn = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.c_proj = nn.Linear(config.hidden_size, config.hidden_size)

    def __call__(self, x: mx.array, rows: RowShape, cache: Cache, last_only: bool = False) -> mx.array:
        """(B * T, D) -> (B * T, D), or (B, D) of the last rows; the cache takes all."""
        heads = rows.by_head(self.c_attn(x), 3 * self._heads)
        qk, v = heads[:, : 2 * self._heads], heads[:, 2 * self._heads :]
        if rows.rope is not None:
            qk = rows.rope.rotate(qk, rows.rotation)
        q = qk[:, : self._heads]
        k, v = cache.update_and_fetch(qk[:, self._heads :], v)
        if last_only:
            q, rows = q[:, :, -1:], rows.last()
        out = attend(q, k, v, scale=self._scale, mask=rows.mask, cache=cache)
        return cast(mx.array, self.c_proj(rows.flat(out)))


class GPT2FeedForward(nn.Module):
    """Two layers with biases, and an activation between them."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self._activate, self._activate_many = ACTIVATIONS[config.activation]
        self.fc_in = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc_out = nn.Linear(config.intermediate_size, config.hidden_size)

    def __call__(self, x: mx.array, many: bool = False) -> mx.array:
        """(..., D) -> (..., D); `many` says whether a request has many rows in it."""
        activate = self._activate_many if many else self._activate
        return cast(mx.array, self.fc_out(activate(self.fc_in(x))))


class GPT2Block(nn.Module):
    """Pre-norm attention and feed-forward, each with a residual."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.ln_1 = LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attn = GPT2Attention(config)
        self.ln_2 = LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = GPT2FeedForward(config)

    def __call__(self, x: mx.array, rows: RowShape, cache: Cache, last_only: bool = False) -> mx.array:
        """(B * T, D) -> (B * T, D), or (B, D) of the last rows; the cache takes all."""
        attended = self.attn(self.ln_1(x), rows, cache, last_only)
        x = (rows.last_of(x) if last_only else x) + attended
        many = rows.count > FEW_ROWS and not last_only
        return x + cast(mx.array, self.mlp(self.ln_2(x), many))


class Decoder(nn.Module):
    """Blocks and a final norm, without embeddings and head.

    Args:
        layers: the blocks.
        norm: applied after them.
        rope: the rotary positions, if there are any.
        head_dim: width of a head.
    """

    def __init__(self, layers: Sequence[nn.Module], norm: nn.Module, rope: Rotary | None, head_dim: int) -> None:
        super().__init__()
        self.layers = list(layers)
        self.norm = norm
        self._rope = rope
        self._head_dim = head_dim
        self._kv_bits: int | None = None

    def __call__(self, x: mx.array, cache: Sequence[Cache], last_only: bool = False) -> mx.array:
        """Hidden states (B, T, D) of T further rows, after the final norm.

        Args:
            x: embeddings (B, T, D).
            cache: one cache per layer; it grows by T rows.
            last_only: return the last row only, (B, 1, D); of other rows the last layer computes keys and values alone.
        """
        batch, count, width = x.shape
        rows = RowShape.of(batch, count, cache[0], self._rope)
        flat = x.reshape(-1, width)
        for layer, layer_cache in zip(self.layers, cache, strict=True):
            flat = layer(flat, rows, layer_cache, last_only and layer is self.layers[-1])
            if len(self.layers) > 1:
                issue(flat)
        return cast(mx.array, self.norm(flat)).reshape(batch, -1, width)

    def keep_context_in(self, bits: int | None) -> None:
        """Quantise keys and values to 8 or 4 bit; None keeps them as computed.

        Raises:
            RequestError: the width of the heads is no multiple of a group.
        """
        check_kv_bits(bits)
        if bits is not None:
            group_size_for(self._head_dim)
        self._kv_bits = bits

    def make_cache(self, padding: Sequence[int]) -> list[Cache]:
        """Empty caches for a batch of prompts that are left-padded by `padding` rows each."""

        def make() -> Cache:
            return BatchCache(padding) if any(padding) or len(padding) > 1 else KVCache()

        if self._kv_bits is None:
            return [make() for _ in self.layers]
        return [QuantisedCache.empty(self._kv_bits, self._head_dim, make) for _ in self.layers]


class Qwen3Backbone(Decoder):
    """Qwen3.

    Args:
        config: sizes.
        rotary: False for a depth transformer without positions.
        positions: see Rotary.
    """

    def __init__(self, config: BackboneConfig, rotary: bool = True, positions: int = 0) -> None:
        layers = [Block(config) for _ in range(config.num_hidden_layers)]
        norm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        rope = Rotary(config.head_dim, config.rope_theta, positions=positions) if rotary else None
        super().__init__(layers, norm, rope, config.head_dim)


class GPT2Decoder(Decoder):
    """GPT-2, with rotary or learned positions."""

    def __init__(self, config: GPT2Config) -> None:
        layers = [GPT2Block(config) for _ in range(config.num_hidden_layers)]
        norm = LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        rope = Rotary(config.head_dim, config.rope_base, traditional=True, positions=config.positions)
        self._config = config
        self._compiled: CompiledDecoder | None = None
        self._adapters = Adapters()
        super().__init__(layers, norm, rope if config.rotary else None, config.head_dim)
        if not config.rotary:
            self.wpe = nn.Embedding(config.positions, config.hidden_size)

    def __call__(self, x: mx.array, cache: Sequence[Cache], last_only: bool = False) -> mx.array:
        """See Decoder; learned positions are those of requests without padding."""
        in_c = self._compiled if self._adapters.current is None else None
        if in_c is not None and x.shape[1] == 1 and isinstance(cache[0], BatchCache):
            return in_c.step(x, cache)
        if "wpe" in self:
            x = x + self.wpe(mx.arange(cache[0].offset, cache[0].offset + x.shape[1]))
        return super().__call__(x, cache, last_only)

    def settle(self, in_c: bool = True, adapters: Adapters | None = None) -> CompiledDecoder | None:
        """Compute single rows in C where it serves; it keeps the weights that there are now.

        Args:
            in_c: whether it may serve.
            adapters: those of the network; rows that want some are not computed in C.
        """
        self._adapters = adapters or Adapters()
        self._compiled = compiled_decoder(self._config, base_weights(self)) if in_c else None
        return self._compiled


def batched(caches: Sequence[Cache]) -> list[Cache]:
    """The same caches in a form that requests can join and leave."""
    return [_batched(cache) for cache in caches]


def _batched(cache: Cache) -> Cache:
    if isinstance(cache, QuantisedCache):
        return cache.batched(batched)
    return BatchCache.of(cache) if isinstance(cache, KVCache) else cache


def head_rows(head: nn.Module, ids: mx.array | slice, dtype: mx.Dtype) -> mx.array:
    """Rows (K, D) of a head, without its adapters, for the K ids that can be chosen; the others need not be read.

    Args:
        head: a linear layer or a table.
        ids: which rows.
        dtype: their type, whatever weights or scales are kept in.
    """
    if isinstance(head, Adapted):
        return head_rows(head.base, ids, dtype)
    if not isinstance(head, nn.QuantizedLinear | nn.QuantizedEmbedding):
        return cast(mx.array, head.weight[ids]).astype(dtype)
    packed, scales, biases = head.weight[ids], head.scales[ids], None
    if head.biases is not None:
        scales, biases = scales.astype(dtype), head.biases[ids].astype(dtype)
    return mx.dequantize(packed, scales, biases, group_size=head.group_size, bits=head.bits, mode=head.mode)


def head_product(head: nn.Module, x: mx.array, ids: mx.array | slice) -> mx.array:
    """The outputs (..., K) of a head for the K ids that can be chosen, of x (..., D)."""
    if isinstance(head, Adapted):
        return head.low_rank(x, head_product(head.base, x, ids), ids)
    return x @ head_rows(head, ids, x.dtype).T


# --------------------------------------------------------------------------- layers that share their input


def joined_call(module: nn.Module, names: tuple[str, ...], x: mx.array) -> mx.array:
    """Outputs of the named layers on the same input, side by side; one product once they are joined."""
    joined = "_".join(names)
    if joined in module:
        return cast(mx.array, module[joined](x))
    return mx.concatenate([module[name](x) for name in names], axis=-1)
