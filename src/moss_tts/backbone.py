"""The Qwen3 decoder that every architecture shares, as a backbone over rows and as a depth transformer.

It maps embeddings to hidden states: embeddings and heads belong to the models. Keys, values and the mask of a
run live in the caches that the caller passes (mlx-lm's), never on a module.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models.base import scaled_dot_product_attention
from mlx_lm.models.cache import BatchKVCache, KVCache

from moss_tts.config import BackboneConfig

# mlx-lm's caches share an interface but no public base class: update_and_fetch, make_mask, offset.
Cache = Any
Mask = mx.array | str | None


class Attention(nn.Module):
    """Grouped-query attention with an RMS norm on each query and key head (Qwen3)."""

    def __init__(self, config: BackboneConfig, rotary: bool) -> None:
        super().__init__()
        self._heads = config.num_attention_heads
        self._kv_heads = config.num_key_value_heads
        self._scale = config.head_dim**-0.5
        width, head = config.hidden_size, config.head_dim
        self.q_proj = nn.Linear(width, self._heads * head, bias=False)
        self.k_proj = nn.Linear(width, self._kv_heads * head, bias=False)
        self.v_proj = nn.Linear(width, self._kv_heads * head, bias=False)
        self.o_proj = nn.Linear(self._heads * head, width, bias=False)
        self.q_norm = nn.RMSNorm(head, eps=config.rms_norm_eps)
        self.k_norm = nn.RMSNorm(head, eps=config.rms_norm_eps)
        self._rope = nn.RoPE(head, traditional=False, base=config.rope_theta) if rotary else None

    def __call__(self, x: mx.array, mask: Mask, cache: Cache) -> mx.array:
        """(B, T, D) -> (B, T, D)."""
        batch, rows, _ = x.shape
        q = self.q_norm(self.q_proj(x).reshape(batch, rows, self._heads, -1)).transpose(0, 2, 1, 3)
        k = self.k_norm(self.k_proj(x).reshape(batch, rows, self._kv_heads, -1)).transpose(0, 2, 1, 3)
        v = self.v_proj(x).reshape(batch, rows, self._kv_heads, -1).transpose(0, 2, 1, 3)
        if self._rope is not None:
            q, k = self._rope(q, offset=cache.offset), self._rope(k, offset=cache.offset)
        k, v = cache.update_and_fetch(k, v)
        out = scaled_dot_product_attention(q, k, v, cache=cache, scale=self._scale, mask=mask)
        return self.o_proj(out.transpose(0, 2, 1, 3).reshape(batch, rows, -1))


class SwiGLU(nn.Module):
    """Gated feed-forward of Qwen3; the output width may differ, as in Local's adapters."""

    def __init__(self, width: int, hidden: int, out: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, hidden, bias=False)
        self.up_proj = nn.Linear(width, hidden, bias=False)
        self.down_proj = nn.Linear(hidden, out, bias=False)

    def __call__(self, x: mx.array) -> mx.array:
        """(..., width) -> (..., out)."""
        return self.down_proj(nn.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    """Pre-norm attention and feed-forward, each with a residual."""

    def __init__(self, config: BackboneConfig, rotary: bool) -> None:
        super().__init__()
        width = config.hidden_size
        self.self_attn = Attention(config, rotary)
        self.mlp = SwiGLU(width, config.intermediate_size, width)
        self.input_layernorm = nn.RMSNorm(width, eps=config.rms_norm_eps)
        self.post_attention_layernorm = nn.RMSNorm(width, eps=config.rms_norm_eps)

    def __call__(self, x: mx.array, mask: Mask, cache: Cache) -> mx.array:
        """(B, T, D) -> (B, T, D)."""
        x = x + self.self_attn(self.input_layernorm(x), mask, cache)
        return x + self.mlp(self.post_attention_layernorm(x))


class Qwen3Backbone(nn.Module):
    """Qwen3 without embeddings and head.

    Args:
        config: sizes.
        rotary: False for a depth transformer without positions.
    """

    def __init__(self, config: BackboneConfig, rotary: bool = True) -> None:
        super().__init__()
        self.layers = [Block(config, rotary) for _ in range(config.num_hidden_layers)]
        self.norm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)

    def __call__(self, x: mx.array, cache: Sequence[Cache]) -> mx.array:
        """Hidden states (B, T, D) of T further rows, after the final norm.

        Args:
            x: embeddings (B, T, D).
            cache: one cache per layer; it grows by T rows.
        """
        mask = cache[0].make_mask(x.shape[1], return_array=False, window_size=None)
        for layer, layer_cache in zip(self.layers, cache, strict=True):
            x = layer(x, mask, layer_cache)
        return cast(mx.array, self.norm(x))

    def make_cache(self, padding: Sequence[int]) -> list[Cache]:
        """Empty caches for a batch whose prompts are left-padded by `padding` rows each."""
        if any(padding) or len(padding) > 1:
            return [BatchKVCache(list(padding)) for _ in self.layers]
        return [KVCache() for _ in self.layers]


def batched(caches: Sequence[Cache]) -> list[Cache]:
    """The same caches in the form that rows can leave and join."""
    return [BatchKVCache.merge([cache]) if isinstance(cache, KVCache) else cache for cache in caches]


def head_rows(head: nn.Module, ids: mx.array | slice) -> mx.array:
    """Rows (K, D) of a head, for the K ids that can be chosen: the rest of a text head need not be read."""
    if isinstance(head, nn.QuantizedLinear):
        biases = None if head.biases is None else head.biases[ids]
        packed, scales = head.weight[ids], head.scales[ids]
        return mx.dequantize(packed, scales, biases, group_size=head.group_size, bits=head.bits, mode=head.mode)
    return cast(mx.array, head.weight[ids])
