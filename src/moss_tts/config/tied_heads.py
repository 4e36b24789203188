"""What Local v1.5 and Nano have in common: heads that are embeddings, and a GPT-2 style depth decoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from moss_tts.config.common import SlotConfig
from moss_tts.config.gpt2 import GPT2Config
from moss_tts.errors import ConfigError
from moss_tts.strict import Raw, count, demand, mapping


@dataclass(frozen=True)
class TiedHeadsConfig(SlotConfig):
    """An architecture with a depth decoder of the backbone's width, which reads and writes by the same tables."""

    depth: GPT2Config

    default_sampling_rate: ClassVar[int] = 48000
    own_keys: ClassVar[frozenset[str]] = frozenset(
        "gpt2_config audio_codebook_sizes local_transformer_layers local_transformer_attn_implementation".split()
    )
    aliases: ClassVar[Mapping[str, str]] = {
        "audio_pad_token_id": "audio_pad_code",
        "audio_assistant_slot_token_id": "audio_assistant_gen_slot_token_id",
    }
    # Layers of the depth decoder where the file does not say; None: as gpt2_config does.
    default_depth_layers: ClassVar[int | None] = None

    @classmethod
    def _values(cls, raw: Raw) -> dict[str, Any]:
        where, key = "config.json", "local_transformer_layers"
        common = super()._values(raw)
        demand(raw, "audio_codebook_sizes", ([common["audio_vocab_size"]] * common["n_vq"], None), where)
        layers = cls.default_depth_layers if raw.get(key) is None else count(raw, key, where)
        # The depth decoder reads the backbone's output, and then at most one row for each codebook.
        depth = GPT2Config.from_dict(cls._gpt2(raw), layers=layers, positions=1 + common["n_vq"])
        return common | {"depth": depth}

    @classmethod
    def _gpt2(cls, raw: Raw) -> Raw:
        return mapping(raw, "gpt2_config", "config.json")

    def _check(self) -> None:
        super()._check()
        if self.depth.hidden_size != self.hidden_size:
            raise ConfigError(
                f"config.json: gpt2_config.n_embd {self.depth.hidden_size} must equal the backbone's width "
                f"{self.hidden_size}: the audio heads are tied to the embeddings."
            )
