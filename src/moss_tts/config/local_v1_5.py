"""config.json of MossTTSLocal v1.5."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from moss_tts.config.common import MossConfig
from moss_tts.config.gpt2 import DepthDecoderConfig
from moss_tts.errors import ConfigError
from moss_tts.strict import Raw, demand, integer, mapping


@dataclass(frozen=True)
class LocalV15Config(MossConfig):
    """MossTTSLocal v1.5: a depth decoder of the backbone's width, heads tied to embeddings."""

    depth: DepthDecoderConfig
    binary_text_head: bool

    default_codec: ClassVar[str] = "OpenMOSS-Team/MOSS-Audio-Tokenizer-v2"
    own_keys: ClassVar[frozenset[str]] = frozenset(
        """
        qwen3_config gpt2_config audio_codebook_sizes audio_pad_token_id audio_assistant_slot_token_id
        local_text_head_mode local_transformer_layers local_hidden_size local_transformer_attn_implementation
        use_static_local_kv_cache
        """.split()
    )
    id_defaults: ClassVar[Mapping[str, int]] = {"audio_start_token_id": 151669, "audio_end_token_id": 151670}

    @classmethod
    def _values(cls, raw: Raw) -> dict[str, Any]:
        where = "config.json"
        n_vq = integer(raw, "n_vq", where, default=12, least=1)
        audio_vocab = integer(raw, "audio_vocab_size", where, default=1024, least=1)
        demand(raw, "audio_codebook_sizes", ([audio_vocab] * n_vq, None), where)
        mode = str(raw.get("local_text_head_mode") or "full_vocab")
        if mode not in ("binary", "full_vocab"):
            raise ConfigError(f"{where}: local_text_head_mode must be 'binary' or 'full_vocab', got {mode!r}.")
        slot = raw.get("audio_assistant_gen_slot_token_id") or raw.get("audio_assistant_slot_token_id")
        common = super()._values(
            {
                "sampling_rate": 48000,
                **{key: value for key, value in raw.items() if value is not None},
                "n_vq": n_vq,
                "language_config": raw.get("qwen3_config") or raw.get("language_config"),
                "audio_pad_code": raw.get("audio_pad_code") or raw.get("audio_pad_token_id"),
                "audio_assistant_gen_slot_token_id": slot,
            }
        )
        key = "local_transformer_layers"
        layers = None if raw.get(key) is None else integer(raw, key, where, least=1)
        depth = DepthDecoderConfig.from_dict(mapping(raw, "gpt2_config", where), n_vq, layers)
        return common | {"depth": depth, "binary_text_head": mode == "binary"}

    def _check(self) -> None:
        super()._check()
        if self.depth.hidden_size != self.hidden_size:
            raise ConfigError(
                f"config.json: gpt2_config.n_embd {self.depth.hidden_size} must equal the backbone's width "
                f"{self.hidden_size}: the audio heads are tied to the embeddings."
            )
