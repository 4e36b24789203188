"""MossTTSLocal v1.0: a backbone over rows, and a depth transformer that samples a row channel by channel.

For channel c the depth transformer sees MLP_in of the backbone's hidden state and of the c tokens sampled so
far; MLP_out[c], a norm and head c give the logits. It is causal and has no positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, cast

import mlx.core as mx
import numpy as np

from moss_tts.adapters.low_rank import Adaptable
from moss_tts.backbone import Qwen3Backbone, SwiGLU, head_product
from moss_tts.config import LocalConfig
from moss_tts.context.batch_cache import Cache
from moss_tts.device.kernels import Embedding, Linear, RMSNorm, issue
from moss_tts.device.mlx_lm import ConcatenateKVCache
from moss_tts.sampling import RowSampling, sample, seen_in
from moss_tts.weights.layout import Layout, Stack


class MossTTSLocalModel(Adaptable):
    """Local 1.7B, the first generation."""

    layout: ClassVar[Layout] = Layout(
        prefixes=(("model.language_model.", "backbone."), ("model.embedding_list.0.", "text_embedding.")),
        stacks=(Stack("audio_embedding", "model.embedding_list.{}", first=1),),
        # The backbone's own text embedding is never used.
        dropped=("model.language_model.embed_tokens.",),
    )
    greedy_is_penalised: ClassVar[bool] = False
    keeps_ties: ClassVar[bool] = False

    def __init__(self, config: LocalConfig) -> None:
        super().__init__()
        self._codebook = config.audio_vocab_size + 1
        self._offsets = mx.array(np.arange(config.n_vq, dtype=np.int32) * self._codebook)
        width, depth, adapter = config.hidden_size, config.depth, config.additional_mlp_ffn_hidden_size
        channels = 1 + config.n_vq
        self.text_embedding = Embedding(config.vocab_size, width)
        self.audio_embedding = Embedding(config.n_vq * self._codebook, width)
        self.backbone = Qwen3Backbone(config.backbone)
        self.local_transformer = Qwen3Backbone(depth, rotary=False)
        self.speech_embedding_to_local_mlp = SwiGLU(width, adapter, depth.hidden_size)
        self.local_to_speech_embedding_mlps = [SwiGLU(depth.hidden_size, adapter, width) for _ in range(channels)]
        self.layer_norm_before_lm_heads = [RMSNorm(width, eps=1e-6) for _ in range(channels)]
        self.lm_heads = [Linear(width, config.vocab_size, bias=False)] + [
            Linear(width, self._codebook, bias=False) for _ in range(config.n_vq)
        ]

    def __call__(self, rows: mx.array, cache: Sequence[Cache], n_vq: int, last_only: bool = False) -> mx.array:
        """Hidden states (B, T or 1, D) of T further rows (B, T, 1 + Q), of which n_vq codebooks are read."""
        audio = self.audio_embedding(rows[..., 1 : 1 + n_vq] + self._offsets[:n_vq]).sum(axis=-2)
        return self.backbone(self.text_embedding(rows[..., 0]) + audio, cache, last_only)

    def seen_in_prompt(self, rows: mx.array) -> mx.array:
        """What the penalty knows of prompt rows (B, T, 1 + Q): each codebook's own column, pad codes included."""
        return seen_in(rows[..., 1:], self._codebook)

    def depth_logits(self, hidden: mx.array, tokens: mx.array) -> tuple[mx.array, mx.array]:
        """Teacher-forced logits of all channels, nothing barred.

        Args:
            hidden: (N, D) backbone hidden states.
            tokens: (N, Q) the first Q channels of the row: text, then codebooks 0..Q-2.

        Returns:
            Text logits (N, V) and audio logits (N, Q, audio_vocab + 1), float32.
        """
        embedded = [self.text_embedding(tokens[:, 0])]
        embedded += [self._embed_code(c - 1, tokens[:, c]) for c in range(1, tokens.shape[1])]
        inputs = self.speech_embedding_to_local_mlp(mx.stack([hidden, *embedded], axis=1))
        outputs = self.local_transformer(inputs, self._depth_cache())
        logits = [self._head(channel, outputs[:, channel]) for channel in range(len(self.lm_heads))]
        return logits[0], mx.stack(logits[1:], axis=1)

    def sample_next_channels(
        self,
        hidden: mx.array,
        uniforms: mx.array,
        text: RowSampling,
        audio: RowSampling,
        *,
        n_vq: int,
        text_choices: mx.array | None = None,
        seen: mx.array | None = None,
    ) -> mx.array:
        """Sample one row of each request, channel by channel.

        Args:
            hidden: (B, D) last backbone hidden state of each request.
            uniforms: (B, 1 + Q) draws.
            text: sampling of the text channel.
            audio: sampling of the codebooks.
            n_vq: codebooks to sample; the unused ones are fed back as 0, a valid code.
            text_choices: (K,) the only text ids to choose from; None is the whole vocabulary.
            seen: (B, Q, audio_vocab + 1) bool, codes that the penalty weakens.

        Returns:
            (B, 1 + Q) int32.
        """
        cache = self._depth_cache()
        state = self._depth_step(hidden, cache)
        token = self._sample_text(state, uniforms[:, :1], text, text_choices)
        row = [token]
        embedded = self.text_embedding(token)
        for c in range(n_vq):
            state = self._depth_step(embedded, cache)
            # The pad code is the last one; it is never sampled.
            logits = self._head(c + 1, state)[..., :-1]
            weakened = None if seen is None else seen[:, c : c + 1, :-1]
            token = sample(logits[:, None], uniforms[:, c + 1 : c + 2], audio, weakened)[:, 0]
            issue(token)
            row.append(token)
            embedded = self._embed_code(c, token)
        unused = [mx.zeros_like(token)] * (len(self.lm_heads) - 1 - n_vq)
        return mx.stack(row + unused, axis=-1)

    def _sample_text(
        self, state: mx.array, uniforms: mx.array, text: RowSampling, choices: mx.array | None
    ) -> mx.array:
        if choices is None:
            return sample(self._head(0, state)[:, None], uniforms, text)[:, 0]
        normed = self.layer_norm_before_lm_heads[0](self.local_to_speech_embedding_mlps[0](state))
        logits = head_product(self.lm_heads[0], normed, choices).astype(mx.float32)
        return choices[sample(logits[:, None], uniforms, text)[:, 0]]

    def _embed_code(self, codebook: int, code: mx.array) -> mx.array:
        return cast(mx.array, self.audio_embedding(code + codebook * self._codebook))

    def _depth_step(self, embedded: mx.array, cache: Sequence[Cache]) -> mx.array:
        """One more channel: (B, D) -> depth output (B, depth width)."""
        return self.local_transformer(self.speech_embedding_to_local_mlp(embedded)[:, None], cache)[:, 0]

    def _depth_cache(self) -> list[Cache]:
        return [ConcatenateKVCache() for _ in self.local_transformer.layers]

    def _head(self, channel: int, state: mx.array) -> mx.array:
        """Depth output (N, depth width) -> logits of the channel, float32."""
        normed = self.layer_norm_before_lm_heads[channel](self.local_to_speech_embedding_mlps[channel](state))
        return cast(mx.array, self.lm_heads[channel](normed)).astype(mx.float32)
