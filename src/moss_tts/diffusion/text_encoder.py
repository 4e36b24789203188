"""The text encoder: a Qwen3 decoder that stops at its last hidden state."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn

from moss_tts.backbone import Qwen3Backbone
from moss_tts.config.qwen3 import BackboneConfig
from moss_tts.weights.layout import Layout

# The head is not used, whether it is tied to the embeddings or not.
LAYOUT = Layout((("model.embed_tokens.", "embed_tokens."), ("model.", "backbone.")), (), dropped=("lm_head.",))


class TextEncoder(nn.Module):
    """Token ids to hidden states."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.backbone = Qwen3Backbone(config)

    def __call__(self, ids: list[int]) -> mx.array:
        """Ids of n tokens -> (n, D), after the final norm; each token sees those before it."""
        return self.backbone(self.embed_tokens(mx.array([ids])), self.backbone.make_cache([0]))[0]
