"""config.json of MossTTSNano."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from moss_tts.config.common import ID_DEFAULTS
from moss_tts.config.gpt2 import GPT2Config
from moss_tts.config.tied_heads import TiedHeadsConfig
from moss_tts.strict import Raw, demand


@dataclass(frozen=True)
class NanoConfig(TiedHeadsConfig):
    """MossTTSNano: backbone and depth decoder of the same blocks."""

    backbone: GPT2Config

    default_codec: ClassVar[str] = "OpenMOSS-Team/MOSS-Audio-Tokenizer-Nano"
    levels_references: ClassVar[bool] = False
    counts_tokens: ClassVar[bool] = True
    default_n_vq: ClassVar[int] = 8
    default_depth_layers: ClassVar[int | None] = 4
    own_keys: ClassVar[frozenset[str]] = TiedHeadsConfig.own_keys | frozenset(
        "audio_tokenizer_type model_architecture tokenizer_use_fast".split()
    )
    aliases: ClassVar[Mapping[str, str]] = {
        "audio_tokenizer_sample_rate": "sampling_rate",
        "audio_tokenizer_pretrained_name_or_path": "audio_tokenizer_name_or_path",
        **TiedHeadsConfig.aliases,
    }
    # Upstream's defaults are ids of Qwen's tokenizer, which Nano does not have.
    id_defaults: ClassVar[Mapping[str, int | None]] = dict.fromkeys(ID_DEFAULTS)

    @classmethod
    def _values(cls, raw: Raw) -> dict[str, Any]:
        demand(raw, "model_architecture", ("global_local_transformer", None), "config.json")
        return super()._values(raw)

    @classmethod
    def _backbone(cls, raw: Raw) -> GPT2Config:
        return GPT2Config.from_dict(cls._gpt2(raw))

    @classmethod
    def _gpt2(cls, raw: Raw) -> Raw:
        block = super()._gpt2(raw)
        demand(block, "position_embedding_type", ("rope",), "gpt2_config")
        # What transformers' GPT2Config says where a file does not.
        return {
            "activation_function": "gelu_new",
            "layer_norm_epsilon": 1e-5,
            "position_embedding_type": "rope",
            "n_layer": 12,
            **block,
        }
