"""MossTTSDelay: a backbone over rows of 1 + Q channels, with one head per channel on its last hidden state.

The module knows nothing of prompts, sampling or the delay pattern: it maps rows to hidden states and hidden
states to logits. The per-codebook tables of the checkpoint are stacked at load, so that all codebooks are one
gather on the way in and one product on the way out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, cast

import mlx.core as mx
import numpy as np

from moss_tts.adapters.low_rank import Adaptable
from moss_tts.backbone import Qwen3Backbone, head_product
from moss_tts.config import DelayConfig
from moss_tts.context.batch_cache import Cache
from moss_tts.device.kernels import Embedding, Linear
from moss_tts.weights.layout import Layout, Stack


class MossTTSDelayModel(Adaptable):
    """Delay 8B, TTSD, VoiceGenerator and SoundEffect."""

    layout: ClassVar[Layout] = Layout(
        prefixes=(
            ("language_model.embed_tokens.", "text_embedding."),
            ("language_model.", "backbone."),
            ("lm_heads.0.", "text_head."),
        ),
        stacks=(Stack("audio_embedding", "emb_ext.{}", first=0), Stack("audio_head", "lm_heads.{}", first=1)),
        aliases=(
            ("model.language_model.", "language_model."),
            ("model.emb_ext.", "emb_ext."),
            ("model.lm_heads.", "lm_heads."),
            ("model.", "language_model."),  # files fused with their codec
        ),
        # Local's groups, present in files that were saved from a common base class.
        dropped=(
            "local_transformer.",
            "speech_embedding_to_local_mlp.",
            "local_to_speech_embedding_mlps.",
            "layer_norm_before_lm_heads.",
        ),
    )

    def __init__(self, config: DelayConfig) -> None:
        super().__init__()
        self._codebook = config.audio_vocab_size + 1
        self._offsets = mx.array(np.arange(config.n_vq, dtype=np.int32) * self._codebook)
        width = config.hidden_size
        self.text_embedding = Embedding(config.vocab_size, width)
        self.audio_embedding = Embedding(config.n_vq * self._codebook, width)
        self.backbone = Qwen3Backbone(config.backbone)
        self.text_head = Linear(width, config.vocab_size, bias=False)
        self.audio_head = Linear(width, config.n_vq * self._codebook, bias=False)

    def __call__(self, rows: mx.array, cache: Sequence[Cache], last_only: bool = False) -> mx.array:
        """Hidden states (B, T or 1, D) of T further rows (B, T, 1 + Q).

        The embedding is the sum over all channels, pad codes included: they are learned.
        """
        audio = self.audio_embedding(rows[..., 1:] + self._offsets).sum(axis=-2)
        return self.backbone(self.text_embedding(rows[..., 0]) + audio, cache, last_only)

    def text_logits(self, hidden: mx.array, ids: mx.array | None = None) -> mx.array:
        """(..., D) -> (..., V) float32, or (..., K) for the K text ids asked for."""
        if ids is None:
            return cast(mx.array, self.text_head(hidden)).astype(mx.float32)
        return head_product(self.text_head, hidden, ids).astype(mx.float32)

    def audio_logits(self, hidden: mx.array) -> mx.array:
        """(..., D) -> (..., Q, audio_vocab + 1) float32; the pad code, last, is -inf."""
        logits = self.audio_head(hidden).astype(mx.float32)
        logits = logits.reshape(*hidden.shape[:-1], -1, self._codebook)
        return mx.where(mx.arange(self._codebook) == self._codebook - 1, -mx.inf, logits)
