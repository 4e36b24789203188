"""The network: a backbone over rows, and a depth transformer that draws the codes of a frame one after the other.

For codebook q the depth transformer sees the backbone's hidden state as it is, and its own embeddings of the q codes
drawn so far. It is causal and has rotary positions. There is no head for text: the text column is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, cast

import mlx.core as mx
import numpy as np

from moss_tts.adapters.low_rank import Adaptable
from moss_tts.backbone import Qwen3Backbone
from moss_tts.config import RealtimeConfig
from moss_tts.context.batch_cache import Cache
from moss_tts.device.kernels import Embedding, Linear, issue
from moss_tts.device.mlx_lm import ConcatenateKVCache
from moss_tts.sampling import RowSampling, sample
from moss_tts.weights.layout import Layout, Stack


class MossTTSRealtimeNetwork(Adaptable):
    """Realtime 1.7B."""

    layout: ClassVar[Layout] = Layout(
        prefixes=(
            ("embed_tokens.0.", "text_embedding."),
            ("language_model.", "backbone."),
            ("local_transformer.model.embed_tokens.", "local_embeddings."),
            ("local_transformer.model.", "local_transformer."),
            ("local_transformer.local_lm_heads.", "local_lm_heads."),
        ),
        stacks=(Stack("audio_embedding", "embed_tokens.{}", first=1),),
        # The backbone's own text embedding is never used.
        dropped=("language_model.embed_tokens.",),
    )

    def __init__(self, config: RealtimeConfig) -> None:
        super().__init__()
        self._codes, self._table, self._end = config.audio_vocab_size, config.table_size, config.end_code
        self._offsets = mx.array(np.arange(config.n_vq, dtype=np.int32) * config.table_size)
        width = config.hidden_size
        self.text_embedding = Embedding(config.vocab_size, width)
        self.audio_embedding = Embedding(config.n_vq * config.table_size, width)
        self.backbone = Qwen3Backbone(config.backbone)
        self.local_embeddings = [Embedding(config.table_size, width) for _ in range(config.n_vq - 1)]
        self.local_transformer = Qwen3Backbone(config.depth, positions=config.n_vq)
        self.local_lm_heads = [Linear(width, config.table_size, bias=False) for _ in range(config.n_vq)]

    def __call__(self, rows: mx.array, cache: Sequence[Cache], last_only: bool = False) -> mx.array:
        """Hidden states (B, T or 1, D) of T further rows (B, T, 1 + Q); pad and marks have embeddings like codes."""
        audio = self.audio_embedding(rows[..., 1:] + self._offsets).sum(axis=-2)
        return self.backbone(self.text_embedding(rows[..., 0]) + audio, cache, last_only)

    def depth_logits(self, hidden: mx.array, codes: mx.array) -> mx.array:
        """Teacher-forced logits (N, Q, table) of all codebooks, float32, nothing barred.

        Args:
            hidden: (N, D) backbone hidden states.
            codes: (N, Q - 1 or more) the codes of the frames.
        """
        embedded = [table(codes[:, q]) for q, table in enumerate(self.local_embeddings)]
        states = self.local_transformer(mx.stack([hidden, *embedded], axis=1), self._depth_cache())
        return mx.stack([self._logits(q, states[:, q]) for q in range(len(self.local_lm_heads))], axis=1)

    def draw_frame(
        self, hidden: mx.array, uniforms: mx.array, sampling: RowSampling, seen: mx.array | None = None
    ) -> mx.array:
        """Draw one frame of each request, codebook by codebook.

        What training never had as a label is barred: everything but codes, and in codebook 0 the mark of the end.

        Args:
            hidden: (B, D) last hidden state of each request.
            uniforms: (B, Q) draws.
            sampling: the settings of all codebooks.
            seen: (B, Q, table) bool, ids that the penalty weakens.

        Returns:
            (B, Q) int32.
        """
        cache, frame, state = self._depth_cache(), list[mx.array](), hidden
        for q in range(len(self.local_lm_heads)):
            state = self.local_transformer(state[:, None], cache)[:, 0]
            weakened = None if seen is None else seen[:, q : q + 1]
            code = sample(self._drawable(q, state)[:, None], uniforms[:, q : q + 1], sampling, weakened)[:, 0]
            issue(code)
            frame.append(code)
            if q < len(self.local_embeddings):
                state = self.local_embeddings[q](code)
        return mx.stack(frame, axis=-1)

    def _drawable(self, codebook: int, state: mx.array) -> mx.array:
        """Logits (N, table) of what may be drawn in a codebook, the others minus infinity."""
        ids = mx.arange(self._table)
        allowed = (ids < self._codes) | (ids == self._end) if codebook == 0 else ids < self._codes
        return mx.where(allowed, self._logits(codebook, state), -mx.inf)

    def _logits(self, codebook: int, state: mx.array) -> mx.array:
        return cast(mx.array, self.local_lm_heads[codebook](state)).astype(mx.float32)

    def _depth_cache(self) -> list[Cache]:
        return [ConcatenateKVCache() for _ in self.local_transformer.layers]
