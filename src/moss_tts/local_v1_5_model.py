"""MossTTSLocal v1.5: a backbone over rows, and a GPT-2 style depth decoder of the same width.

The depth decoder starts from the backbone's hidden state as it is. Its first output chooses between another
frame and the end; output q gives codebook q through a head that is codebook q's embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, cast

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from moss_tts.backbone import Qwen3Backbone, RowShape, head_rows
from moss_tts.config import DepthDecoderConfig, LocalV15Config
from moss_tts.context.batch_cache import Cache
from moss_tts.device.kernels import LayerNorm, Rotary, attend, issue, swish
from moss_tts.device.mlx_lm import ConcatenateKVCache
from moss_tts.sampling import RowSampling, sample
from moss_tts.weights.layout import Layout, Stack


class DepthAttention(nn.Module):
    """Multi-head attention with biases; rotary pairs are even and odd dimensions."""

    def __init__(self, config: DepthDecoderConfig) -> None:
        super().__init__()
        self._heads = config.num_heads
        self._scale = (config.hidden_size // config.num_heads) ** -0.5
        self.c_attn = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.c_proj = nn.Linear(config.hidden_size, config.hidden_size)

    def __call__(self, x: mx.array, rows: RowShape, cache: Cache) -> mx.array:
        """(B * T, D) -> (B * T, D)."""
        heads = rows.by_head(self.c_attn(x), 3 * self._heads)
        qk, v = heads[:, : 2 * self._heads], heads[:, 2 * self._heads :]
        if rows.rope is not None:
            qk = rows.rope.rotate(qk, rows.rotation)
        k, v = cache.update_and_fetch(qk[:, self._heads :], v)
        out = attend(qk[:, : self._heads], k, v, scale=self._scale, mask=rows.mask, cache=cache)
        return cast(mx.array, self.c_proj(rows.flat(out)))


class DepthMLP(nn.Module):
    """Feed-forward of GPT-2 with SiLU."""

    def __init__(self, config: DepthDecoderConfig) -> None:
        super().__init__()
        self.fc_in = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc_out = nn.Linear(config.intermediate_size, config.hidden_size)

    def __call__(self, x: mx.array) -> mx.array:
        """(..., D) -> (..., D)."""
        return cast(mx.array, self.fc_out(swish(self.fc_in(x))))


class DepthBlock(nn.Module):
    """Pre-norm attention and feed-forward, each with a residual."""

    def __init__(self, config: DepthDecoderConfig) -> None:
        super().__init__()
        self.ln_1 = LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attn = DepthAttention(config)
        self.ln_2 = LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = DepthMLP(config)

    def __call__(self, x: mx.array, rows: RowShape, cache: Cache) -> mx.array:
        """(B * T, D) -> (B * T, D)."""
        x = x + self.attn(self.ln_1(x), rows, cache)
        return x + cast(mx.array, self.mlp(self.ln_2(x)))


class DepthDecoder(nn.Module):
    """GPT-2 over the channels of one frame, with rotary or learned positions."""

    def __init__(self, config: DepthDecoderConfig) -> None:
        super().__init__()
        self.h = [DepthBlock(config) for _ in range(config.num_layers)]
        self.ln_f = LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        head = config.hidden_size // config.num_heads
        positions = config.positions
        self._rope = Rotary(head, config.rope_base, traditional=True, positions=positions) if config.rotary else None
        if not config.rotary:
            self.wpe = nn.Embedding(config.positions, config.hidden_size)

    def __call__(self, x: mx.array, cache: Sequence[Cache]) -> mx.array:
        """Outputs (B, T, D) of T further channels."""
        batch, count, width = x.shape
        if "wpe" in self:
            x = x + self.wpe(mx.arange(cache[0].offset, cache[0].offset + count))
        rows = RowShape.of(batch, count, cache[0], self._rope)
        flat = x.reshape(-1, width)
        for block, block_cache in zip(self.h, cache, strict=True):
            flat = block(flat, rows, block_cache)
        return cast(mx.array, self.ln_f(flat)).reshape(batch, count, width)


class MossTTSLocalV15Model(nn.Module):
    """Local 4B, v1.5."""

    layout: ClassVar[Layout] = Layout(
        prefixes=(("transformer.embed_tokens.", "text_embedding."), ("transformer.", "backbone.")),
        stacks=(Stack("audio_embedding", "audio_embeddings.{}", first=0),),
        # Tied copies of embeddings: in the released file, absent from files that transformers 5 saved.
        dropped=("text_lm_head.", "audio_lm_heads."),
    )
    greedy_is_penalised: ClassVar[bool] = True

    def __init__(self, config: LocalV15Config) -> None:
        super().__init__()
        self._n_vq = config.n_vq
        self._codebook = config.audio_vocab_size
        self._offsets = mx.array(np.arange(config.n_vq, dtype=np.int32) * self._codebook)
        width = config.hidden_size
        self.text_embedding = nn.Embedding(config.vocab_size, width)
        self.audio_embedding = nn.Embedding(config.n_vq * self._codebook, width)
        self.backbone = Qwen3Backbone(config.backbone)
        self.local_transformer = DepthDecoder(config.depth)
        if config.binary_text_head:
            self.local_text_lm_head = nn.Linear(width, 2, bias=False)

    def __call__(self, rows: mx.array, cache: Sequence[Cache], n_vq: int, last_only: bool = False) -> mx.array:
        """Hidden states (B, T or 1, D) of T further rows (B, T, 1 + Q); a pad code adds nothing."""
        codes = rows[..., 1 : 1 + n_vq]
        voiced = codes < self._codebook
        audio = self.audio_embedding(mx.where(voiced, codes, 0) + self._offsets[:n_vq]) * voiced[..., None]
        return self.backbone(self.text_embedding(rows[..., 0]) + audio.sum(axis=-2), cache, last_only)

    def seen_in_prompt(self, rows: mx.array) -> mx.array:
        """The penalty looks at generated frames only: nothing of the prompt rows (B, T, 1 + Q) is seen."""
        return mx.zeros((rows.shape[0], self._n_vq, self._codebook), dtype=mx.bool_)

    def sample_next_channels(
        self,
        hidden: mx.array,
        uniforms: mx.array,
        text: RowSampling,
        audio: RowSampling,
        *,
        n_vq: int,
        text_choices: mx.array | None,
        seen: mx.array | None = None,
    ) -> mx.array:
        """Sample one row of each request: hidden (B, D), uniforms (B, 1 + Q) -> (B, 1 + Q) int32.

        Args:
            hidden: last backbone hidden states.
            uniforms: draws.
            text: sampling of the choice between `text_choices`.
            audio: sampling of the codebooks.
            n_vq: codebooks, all of them.
            text_choices: (2,) the assistant slot and audio_end; there is no other choice in this architecture.
            seen: (B, Q, audio_vocab) bool, codes that the penalty weakens.
        """
        assert text_choices is not None
        cache = self._depth_cache()
        state = self.local_transformer(hidden[:, None], cache)[:, 0]
        choice = sample(self._text_logits(state, text_choices)[:, None], uniforms[:, :1], text)[:, 0]
        row = [text_choices[choice]]
        for q in range(n_vq):
            weakened = None if seen is None else seen[:, q : q + 1]
            code = sample(self._code_logits(q, state)[:, None], uniforms[:, q + 1 : q + 2], audio, weakened)[:, 0]
            issue(code)
            row.append(code)
            if q + 1 < n_vq:
                embedded = self.audio_embedding(code + q * self._codebook)
                state = self.local_transformer(embedded[:, None], cache)[:, 0]
        return mx.stack(row, axis=-1)

    def depth_logits(self, hidden: mx.array, tokens: mx.array) -> tuple[mx.array, mx.array]:
        """Teacher-forced logits of all channels, nothing barred.

        Args:
            hidden: (N, D) backbone hidden states.
            tokens: (N, Q) the first Q channels of the row: text, which the decoder does not see, then codebooks 0..Q-2;
                of a pad code, which it never sees either, the last code stands in.

        Returns:
            Text logits (N, 2), or (N, V) without a binary head, and audio logits (N, Q, audio_vocab), float32.
        """
        codes = mx.minimum(tokens[:, 1:], self._codebook - 1)
        embedded = self.audio_embedding(codes + self._offsets[:-1])
        states = self.local_transformer(mx.concatenate([hidden[:, None], embedded], axis=1), self._depth_cache())
        audio = [self._code_logits(q, states[:, q]) for q in range(self._n_vq)]
        return self._text_logits(states[:, 0], slice(None)), mx.stack(audio, axis=1)

    def _depth_cache(self) -> list[Cache]:
        return [ConcatenateKVCache() for _ in self.local_transformer.h]

    def _text_logits(self, state: mx.array, choices: mx.array | slice) -> mx.array:
        if "local_text_lm_head" in self:
            return cast(mx.array, self.local_text_lm_head(state)).astype(mx.float32)
        return (state @ head_rows(self.text_embedding, choices).T).astype(mx.float32)

    def _code_logits(self, codebook: int, state: mx.array) -> mx.array:
        rows = slice(codebook * self._codebook, (codebook + 1) * self._codebook)
        return (state @ head_rows(self.audio_embedding, rows).T).astype(mx.float32)
