"""MossTTSNano: backbone and depth decoder are GPT-2 of the same blocks, with rotary positions."""

from __future__ import annotations

from typing import ClassVar

import mlx.core as mx

from moss_tts.backbone import GPT2Decoder
from moss_tts.config import NanoConfig
from moss_tts.local_v1_5_model import AUDIO_EMBEDDINGS, DEPTH_PREFIXES, TiedHeadsModel, tied_copies
from moss_tts.weights.layout import Layout


class MossTTSNanoModel(TiedHeadsModel):
    """Nano 0.1B. Its depth decoder reads the text channel between the hidden state and the codes."""

    layout: ClassVar[Layout] = Layout(
        prefixes=(
            ("transformer.wte.", "text_embedding."),
            ("transformer.h.", "backbone.layers."),
            ("transformer.ln_f.", "backbone.norm."),
            *DEPTH_PREFIXES,
        ),
        stacks=(AUDIO_EMBEDDINGS,),
        # The depth decoder's own text embedding is never used.
        dropped=("local_transformer.wte.",),
        copies=tied_copies("transformer.wte."),
    )
    keeps_ties: ClassVar[bool] = True

    def __init__(self, config: NanoConfig) -> None:
        super().__init__(config, GPT2Decoder(config.backbone))

    def _opening(self, hidden: mx.array, text: mx.array) -> mx.array:
        return mx.stack([hidden, self.text_embedding(text)], axis=1)
