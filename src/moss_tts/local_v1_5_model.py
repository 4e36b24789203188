"""MossTTSLocal v1.5, and what it has in common with Nano: heads that are embeddings, and a GPT-2 style depth decoder.

The depth decoder has the backbone's width and starts from its hidden state as it is. Its first output chooses between
another frame and the end; a later one gives each codebook through a head that is that codebook's embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, cast

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from moss_tts.adapters.low_rank import Adaptable
from moss_tts.backbone import Decoder, GPT2Decoder, Qwen3Backbone, head_product, head_rows
from moss_tts.config import LocalV15Config, TiedHeadsConfig
from moss_tts.context.batch_cache import Cache
from moss_tts.device.compiled_decoder import CompiledDepth
from moss_tts.device.kernels import issue
from moss_tts.device.mlx_lm import ConcatenateKVCache
from moss_tts.sampling import RowSampling, sample
from moss_tts.weights.layout import Layout, Stack

AUDIO_EMBEDDINGS = Stack("audio_embedding", "audio_embeddings.{}", first=0)
DEPTH_PREFIXES = (
    ("local_transformer.h.", "local_transformer.layers."),
    ("local_transformer.ln_f.", "local_transformer.norm."),
)


def tied_copies(text_embedding: str) -> tuple[tuple[str, str], ...]:
    """Copies of embeddings: in the released files, absent from those that transformers saved."""
    return ("text_lm_head.", text_embedding), ("audio_lm_heads.", "audio_embeddings.")


class TiedHeadsModel(Adaptable):
    """A backbone over rows, and a depth decoder of the same width.

    Args:
        config: sizes.
        backbone: a backbone of that width.
    """

    greedy_is_penalised: ClassVar[bool] = True
    keeps_ties: ClassVar[bool] = False

    def __init__(self, config: TiedHeadsConfig, backbone: Decoder) -> None:
        super().__init__()
        self._n_vq = config.n_vq
        self._codebook = config.audio_vocab_size
        self._offsets = mx.array(np.arange(config.n_vq, dtype=np.int32) * self._codebook)
        self._width = width = config.hidden_size
        self.text_embedding = nn.Embedding(config.vocab_size, width)
        self.audio_embedding = nn.Embedding(config.n_vq * self._codebook, width)
        self.backbone = backbone
        self.local_transformer = GPT2Decoder(config.depth)
        self._depth_in_c: CompiledDepth | None = None

    def __call__(self, rows: mx.array, cache: Sequence[Cache], n_vq: int, last_only: bool = False) -> mx.array:
        """Hidden states (B, T or 1, D) of T further rows (B, T, 1 + Q), of which n_vq codebooks are read."""
        audio = self._embedded(rows[..., 1 : 1 + n_vq]).sum(axis=-2)
        return self.backbone(self.text_embedding(rows[..., 0]) + audio, cache, last_only)

    def settle(self, text_choices: mx.array) -> bool:
        """Let C compute what it can of rows, with the weights that there are now.

        Args:
            text_choices: see `sample_next_channels`.

        Returns:
            Whether single rows of the backbone are computed in C, which needs a BatchCache.
        """
        depth = self.local_transformer.settle(adapters=self.adapters)
        opening = self._opening(mx.zeros((1, self._width)), text_choices[:1])[0, 1:]
        tables = self.audio_embedding.weight, self._choices_head(text_choices), opening
        self._depth_in_c = None
        if depth is not None and all(table.dtype == mx.float32 for table in tables):
            self._depth_in_c = CompiledDepth(depth, *tables, codebooks=self._n_vq, keeps_ties=self.keeps_ties)
        return isinstance(self.backbone, GPT2Decoder) and self.backbone.settle(adapters=self.adapters) is not None

    @property
    def _dtype(self) -> mx.Dtype:
        """The type to compute in; embeddings may be quantised."""
        return cast(mx.Dtype, self.backbone.norm.weight.dtype)

    @property
    def draws_in_c(self) -> bool:
        """Whether C draws the codes, so that a row is there when `sample_next_channels` returns."""
        return self._depth_in_c is not None

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
            n_vq: codebooks to sample; the others get the pad code.
            text_choices: (2,) the assistant slot and audio_end; there is no other choice in these architectures.
            seen: (B, Q, audio_vocab) bool, codes that the penalty weakens.
        """
        assert text_choices is not None
        if self._depth_in_c is not None and self.adapters.current is None:
            drawn = self._depth_in_c.draw(hidden, uniforms, text, audio, n_vq, seen)
            return self._padded(mx.concatenate([text_choices[mx.array(drawn[:, :1])], mx.array(drawn[:, 1:])], axis=1))
        cache = self._depth_cache()
        # This is computed as if speech went on; rows that end now ignore it.
        slots = mx.broadcast_to(text_choices[:1], hidden.shape[:1])
        states = self.local_transformer(self._opening(hidden, slots), cache)
        choice = sample(self._text_logits(states[:, 0], text_choices)[:, None], uniforms[:, :1], text)[:, 0]
        row, state = [text_choices[choice]], states[:, -1]
        for q in range(n_vq):
            weakened = None if seen is None else seen[:, q : q + 1]
            code = sample(self._code_logits(q, state)[:, None], uniforms[:, q + 1 : q + 2], audio, weakened)[:, 0]
            issue(code)
            row.append(code)
            if q + 1 < n_vq:
                embedded = self.audio_embedding(code + q * self._codebook)
                state = self.local_transformer(embedded[:, None], cache)[:, 0]
        return self._padded(mx.stack(row, axis=-1))

    def _padded(self, row: mx.array) -> mx.array:
        """Rows (B, 1 + n_vq) -> (B, 1 + Q), with the pad code for codebooks that were not sampled."""
        missing = 1 + self._n_vq - row.shape[1]
        return mx.pad(row, [(0, 0), (0, missing)], constant_values=self._codebook) if missing else row

    def depth_logits(self, hidden: mx.array, tokens: mx.array) -> tuple[mx.array, mx.array]:
        """Teacher-forced logits of all channels, nothing barred.

        Args:
            hidden: (N, D) backbone hidden states.
            tokens: (N, Q) the first Q channels of the row: text, then codebooks 0..Q-2.

        Returns:
            Text logits (N, 2), or (N, V) without a binary head, and audio logits (N, Q, audio_vocab), float32.
        """
        opening = self._opening(hidden, tokens[:, 0])
        inputs = mx.concatenate([opening, self._embedded(tokens[:, 1:])], axis=1)
        states = self.local_transformer(inputs, self._depth_cache())
        first = opening.shape[1] - 1
        audio = [self._code_logits(q, states[:, first + q]) for q in range(self._n_vq)]
        return self._text_logits(states[:, 0], slice(None)), mx.stack(audio, axis=1)

    def _opening(self, hidden: mx.array, text: mx.array) -> mx.array:
        """What the depth decoder reads before the first code, (B, 1 or 2, D), of hidden states and text ids (B,)."""
        raise NotImplementedError

    def _embedded(self, codes: mx.array) -> mx.array:
        """Codes (..., K) of the first K codebooks -> (..., K, D); a pad code is a zero vector."""
        voiced = codes < self._codebook
        return self.audio_embedding(mx.where(voiced, codes, 0) + self._offsets[: codes.shape[-1]]) * voiced[..., None]

    def _depth_cache(self) -> list[Cache]:
        return [ConcatenateKVCache() for _ in self.local_transformer.layers]

    def _choices_head(self, choices: mx.array) -> mx.array:
        """The rows (2, D) of the head that chooses between these text ids."""
        return head_rows(self.text_embedding, choices, self._dtype)

    def _text_logits(self, state: mx.array, choices: mx.array | slice) -> mx.array:
        logits = head_product(self.text_embedding, state, choices)
        return self.adapters.head("text_lm_head", state, logits, choices).astype(mx.float32)

    def _code_logits(self, codebook: int, state: mx.array) -> mx.array:
        rows = slice(codebook * self._codebook, (codebook + 1) * self._codebook)
        logits = head_product(self.audio_embedding, state, rows)
        return self.adapters.head(f"audio_lm_heads.{codebook}", state, logits).astype(mx.float32)


class MossTTSLocalV15Model(TiedHeadsModel):
    """Local 4B, v1.5. Its depth decoder does not read the text channel."""

    layout: ClassVar[Layout] = Layout(
        prefixes=(
            ("transformer.embed_tokens.", "text_embedding."),
            ("transformer.", "backbone."),
            *DEPTH_PREFIXES,
        ),
        stacks=(AUDIO_EMBEDDINGS,),
        copies=tied_copies("transformer.embed_tokens."),
    )

    def __init__(self, config: LocalV15Config) -> None:
        super().__init__(config, Qwen3Backbone(config.backbone))
        if config.binary_text_head:
            self.local_text_lm_head = nn.Linear(config.hidden_size, 2, bias=False)

    def _opening(self, hidden: mx.array, text: mx.array) -> mx.array:  # noqa: ARG002
        return hidden[:, None]

    def _choices_head(self, choices: mx.array) -> mx.array:
        if "local_text_lm_head" in self:
            return head_rows(self.local_text_lm_head, slice(None), self._dtype)
        return super()._choices_head(choices)

    def _text_logits(self, state: mx.array, choices: mx.array | slice) -> mx.array:
        if "local_text_lm_head" in self:
            return cast(mx.array, self.local_text_lm_head(state)).astype(mx.float32)
        return super()._text_logits(state, choices)
