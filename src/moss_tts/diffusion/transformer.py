"""The diffusion transformer: which way noisy latents go at a time, given a description.

Letters: B sounds, T latents, C channels of a latent, N rows of text, d width. Linear layers of the blocks compute in
the type of their weights; norms, modulation, the residual stream and all else are float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import cast

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from moss_tts.device.kernels import RMSNorm, for_both, gelu, issue, layer_norm, swish, turn_neighbours
from moss_tts.device.many_rows import attend_to_all, gelu_of_many
from moss_tts.diffusion.config import TEXT_ROWS, TransformerConfig

_ROPE_BASE = _TIME_BASE = 10000.0


@dataclass(frozen=True, eq=False)
class Text:
    """What the blocks need to know of the descriptions of B sounds; the same at all steps.

    The last of the sounds may have no description: all their rows of text are alike, so that cross-attention gives
    the same for each latent, whatever its queries are.

    Attributes:
        described: sounds with a description; they come first.
        keys: per block, float32 (described, heads, N, d / heads).
        values: likewise.
        bias: added to the scores: (described, 1, 1, N), 0 for tokens, the logarithm of their number for rows of
            padding, which share one key, and minus infinity for rows that a longer text has.
        constants: per block, what cross-attention gives to sounds without a description, (d,); None if there are none.
    """

    described: int
    keys: list[mx.array]
    values: list[mx.array]
    bias: mx.array
    constants: list[mx.array] | None


@dataclass(frozen=True, eq=False)
class Time:
    """The modulation of one step, which all sounds share.

    Attributes:
        blocks: shifts, scales and gates of each block, (blocks, 6, d).
        head: shift and scale of the head, (2, d).
    """

    blocks: mx.array
    head: mx.array


class Perceptron(nn.Module):
    """Two linear layers with an activation between them."""

    def __init__(self, width: int, hidden: int, out: int) -> None:
        super().__init__()
        self.first = nn.Linear(width, hidden)
        self.last = nn.Linear(hidden, out)


class Attention(nn.Module):
    """Queries, keys and values with a norm over all heads of queries and of keys."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self._heads = config.heads
        self.q, self.k, self.v, self.o = (nn.Linear(config.width, config.width) for _ in range(4))
        self.norm_q, self.norm_k = (RMSNorm(config.width, eps=config.eps) for _ in range(2))

    def by_head(self, x: mx.array) -> mx.array:
        """(B, T, d) -> (B, T, heads, d / heads)."""
        return x.reshape(*x.shape[:2], self._heads, -1)

    def flat(self, x: mx.array) -> mx.array:
        """(B, heads, T, d / heads) -> (B, T, d)."""
        return x.swapaxes(1, 2).reshape(x.shape[0], x.shape[2], -1)


class SelfAttention(Attention):
    """Attention of all latents to all latents, with rotary positions."""

    def __call__(self, x: mx.array, cos: mx.array, sin: mx.array) -> mx.array:
        """(B, T, d) -> (B, T, d), given the angles of T positions, (T, 1, d / heads) each."""
        q = turn_neighbours(self.by_head(self.norm_q(self.q(x))), cos, sin)
        k = turn_neighbours(self.by_head(self.norm_k(self.k(x))), cos, sin)
        q, k, v = (one.astype(x.dtype) for one in (q, k, self.by_head(self.v(x))))
        return cast(mx.array, self.o(attend_to_all(q, k, v)))


class CrossAttention(Attention):
    """Attention of latents to text, without positions."""

    def keys_and_values(self, text: mx.array) -> tuple[mx.array, mx.array]:
        """Embedded rows of text (B, N, d) -> float32 (B, heads, N, d / heads) twice."""
        return self._apart(self.norm_k(self.k(text))), self._apart(self.v(text))

    def constant(self, row: mx.array) -> mx.array:
        """The output (d,) where all rows of text are this one, (d,)."""
        return cast(mx.array, self.o(self.v(row))).astype(mx.float32)

    def __call__(self, x: mx.array, keys: mx.array, values: mx.array, bias: mx.array) -> mx.array:
        """(B, T, d) -> (B, T, d). Scores are float32: bfloat16 would round the number of rows of padding."""
        q = self._apart(self.norm_q(self.q(x)))
        out = mx.fast.scaled_dot_product_attention(q, keys, values, scale=q.shape[-1] ** -0.5, mask=bias)
        return cast(mx.array, self.o(self.flat(out).astype(x.dtype)))

    def _apart(self, x: mx.array) -> mx.array:
        return self.by_head(x).swapaxes(1, 2).astype(mx.float32)


class Block(nn.Module):
    """Self-attention, cross-attention and a feed-forward layer; the first and the last are modulated by the time."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self._eps = config.eps
        self.self_attn = SelfAttention(config)
        self.cross_attn = CrossAttention(config)
        self.ffn = Perceptron(config.width, config.hidden, config.width)
        self.norm3 = nn.LayerNorm(config.width, eps=config.eps)
        self.modulation = mx.zeros((6, config.width))

    def __call__(self, x: mx.array, time: mx.array, text: Text, index: int, cos: mx.array, sin: mx.array) -> mx.array:
        """(B, T, d) -> (B, T, d), float32; `time` is (6, d), `index` the place of this block."""
        shift, scale, gate, shift_last, scale_last, gate_last = time
        x = x + gate * self.self_attn(self._normed(x, 1 + scale, shift), cos, sin)
        x = x + self.from_text(x, text, index)
        normed = self._normed(x, 1 + scale_last, shift_last)
        return x + gate_last * self.ffn.last(gelu_of_many(self.ffn.first(normed)))

    def from_text(self, x: mx.array, text: Text, index: int) -> mx.array:
        """What cross-attention adds to x (B, T, d): (B, T, d), or (B, 1, d) where no sound has a description."""
        parts = []
        if described := text.described:
            normed = self._normed(x[:described], self.norm3.weight, self.norm3.bias)
            parts.append(self.cross_attn(normed, text.keys[index], text.values[index], text.bias))
        if text.constants is not None:
            parts.append(mx.broadcast_to(text.constants[index], (len(x) - described, *x.shape[1:])))
        return mx.concatenate(parts) if len(parts) > 1 else parts[0]

    def _normed(self, x: mx.array, weight: mx.array, bias: mx.array) -> mx.array:
        """The norm of x, in the type that the linear layers compute in."""
        return layer_norm(x, weight, bias, self._eps).astype(self.self_attn.o.bias.dtype)


class Head(nn.Module):
    """The last norm, modulated, and the product that gives velocities."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.head = nn.Linear(config.width, config.channels)
        self.modulation = mx.zeros((2, config.width))


class DiffusionTransformer(nn.Module):
    """The whole network."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self._config = config
        self.patch_embedding = nn.Linear(config.channels, config.width)
        self.text_embedding = Perceptron(config.text_width, config.width, config.width)
        self.time_embedding = Perceptron(config.time_width, config.width, config.width)
        self.time_projection = nn.Linear(config.width, 6 * config.width)
        self.blocks = [Block(config) for _ in range(config.layers)]
        self.head = Head(config)

    @property
    def computes_in(self) -> mx.Dtype:
        """The type that the linear layers of the blocks compute in."""
        return cast(mx.Dtype, self.blocks[0].self_attn.o.bias.dtype)

    def text(self, hidden: list[mx.array]) -> Text:
        """The descriptions of sounds, from the hidden states of their tokens.

        Args:
            hidden: (n, D) for each sound, n = 0..512; the empty ones come last.
        """
        tokens = [len(one) for one in hidden if len(one)]
        if [len(one) for one in hidden[: len(tokens)]] != tokens:
            raise ValueError("sounds without a description come last")
        blank = self._embedded(mx.zeros((1, self._config.text_width)))
        longest = min(max(tokens, default=0) + 1, TEXT_ROWS)
        rows = [mx.concatenate([self._embedded(one), blank])[:longest] for one in hidden[: len(tokens)]]
        rows = [mx.concatenate([one, mx.repeat(blank, longest - len(one), axis=0)]) for one in rows]
        kind = self.computes_in
        pairs = [block.cross_attn.keys_and_values(mx.stack(rows).astype(kind)) for block in self.blocks] if rows else []
        empty = len(tokens) < len(hidden)
        constants = [block.cross_attn.constant(blank[0].astype(kind)) for block in self.blocks] if empty else None
        bias = mx.array(np.stack([_bias(count, longest) for count in tokens])) if rows else mx.zeros((0,))
        text = Text(len(tokens), [keys for keys, _ in pairs], [values for _, values in pairs], bias, constants)
        mx.eval(text.keys, text.values, text.bias, text.constants or [])
        return text

    def _embedded(self, hidden: mx.array) -> mx.array:
        """Hidden states (n, D) -> (n, d). Rows of zeros become one row that is not zero."""
        layers = self.text_embedding
        return cast(mx.array, layers.last(gelu(layers.first(hidden.astype(mx.float32)))))

    def times(self, timesteps: np.ndarray) -> list[Time]:
        """The modulation at each of some times, 0..1000."""
        layers = self.time_embedding
        waves = mx.array(_waves(timesteps, self._config.time_width))
        embedded = layers.last(swish(layers.first(waves)))
        steps = self.time_projection(swish(embedded)).reshape(len(timesteps), 1, 6, -1)
        blocks = mx.stack([block.modulation for block in self.blocks]) + steps
        head = self.head.modulation + embedded[:, None]
        mx.eval(blocks, head)
        return [Time(*both) for both in zip(blocks, head, strict=True)]

    def angles(self, count: int) -> tuple[mx.array, mx.array]:
        """Cosines and sines of the positions of T latents, (T, 1, d / heads) each, as kernels.for_both gives them.

        They are float64 until they are made: float32 angles would be off by 2e-4 at position 1500.
        """
        width = self._config.head_dim
        angles = np.arange(count)[:, None] * _ROPE_BASE ** (-np.arange(0, width, 2) / width)
        cos, sin = (mx.array(table.astype(np.float32))[:, None] for table in (np.cos(angles), np.sin(angles)))
        return for_both(cos, sin)

    def __call__(self, latents: mx.array, time: Time, text: Text) -> mx.array:
        """The velocity of latents (B, C, T) at a time: float32 (B, C, T)."""
        cos, sin = self.angles(latents.shape[-1])
        x = self.patch_embedding(latents.swapaxes(1, 2))
        for index, block in enumerate(self.blocks):
            x = block(x, time.blocks[index], text, index, cos, sin)
            issue(x)
        shift, scale = time.head
        return cast(mx.array, self.head.head(layer_norm(x, 1 + scale, shift, self._config.eps))).swapaxes(1, 2)


def _waves(timesteps: np.ndarray, width: int) -> np.ndarray:
    """Times (S,) as cosines, then sines: float32 (S, width)."""
    frequencies = _TIME_BASE ** (-np.arange(width // 2) / (width // 2))
    angles = timesteps.astype(np.float64)[:, None] * frequencies
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def _bias(tokens: int, longest: int) -> np.ndarray:
    """The bias of a description: (1, 1, longest)."""
    bias = np.zeros((1, 1, longest), np.float32)
    bias[..., tokens + 1 :] = -np.inf
    if tokens < TEXT_ROWS:
        bias[..., tokens] = log(TEXT_ROWS - tokens)
    return bias
