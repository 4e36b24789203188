"""config.json of MossTTSLocal v1.5."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from moss_tts.config.qwen3 import BackboneConfig
from moss_tts.config.tied_heads import TiedHeadsConfig
from moss_tts.errors import ConfigError
from moss_tts.strict import Raw


@dataclass(frozen=True)
class LocalV15Config(TiedHeadsConfig):
    """MossTTSLocal v1.5: a Qwen3 backbone."""

    backbone: BackboneConfig
    binary_text_head: bool

    default_codec: ClassVar[str] = "OpenMOSS-Team/MOSS-Audio-Tokenizer-v2"
    default_n_vq: ClassVar[int] = 12
    own_keys: ClassVar[frozenset[str]] = TiedHeadsConfig.own_keys | frozenset(
        "local_text_head_mode local_hidden_size use_static_local_kv_cache".split()
    )
    aliases: ClassVar[Mapping[str, str]] = {"qwen3_config": "language_config", **TiedHeadsConfig.aliases}
    id_defaults: ClassVar[Mapping[str, int | None]] = {"audio_start_token_id": 151669, "audio_end_token_id": 151670}

    @classmethod
    def _values(cls, raw: Raw) -> dict[str, Any]:
        mode = str(raw.get("local_text_head_mode") or "full_vocab")
        if mode not in ("binary", "full_vocab"):
            raise ConfigError(f"config.json: local_text_head_mode must be 'binary' or 'full_vocab', got {mode!r}.")
        return super()._values(raw) | {"binary_text_head": mode == "binary"}
