"""config.json of MossTTSLocal v1.0."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from moss_tts.config.common import SlotConfig
from moss_tts.config.qwen3 import BackboneConfig
from moss_tts.strict import Raw, count, integer


@dataclass(frozen=True)
class LocalConfig(SlotConfig):
    """MossTTSLocal v1.0: a depth transformer samples the channels of a frame one after the other."""

    backbone: BackboneConfig
    local_num_layers: int
    local_hidden_size: int
    local_ffn_hidden_size: int
    additional_mlp_ffn_hidden_size: int

    # Local v1.0 inherits Delay's config class upstream, with a delay slot it never emits.
    own_keys: ClassVar[frozenset[str]] = frozenset(
        """
        local_num_layers local_hidden_size local_ffn_hidden_size additional_mlp_ffn_hidden_size
        audio_assistant_delay_slot_token_id
        """.split()
    )

    @classmethod
    def _values(cls, raw: Raw) -> dict[str, Any]:
        widths = cls.own_keys - {"audio_assistant_delay_slot_token_id", "local_num_layers"}
        own = {name: integer(raw, name, "config.json", least=1) for name in widths}
        return super()._values(raw) | own | {"local_num_layers": count(raw, "local_num_layers", "config.json")}

    @property
    def depth(self) -> BackboneConfig:
        """The depth transformer: heads of the backbone, its own width, layers and feed-forward."""
        return replace(
            self.backbone,
            hidden_size=self.local_hidden_size,
            num_hidden_layers=self.local_num_layers,
            intermediate_size=self.local_ffn_hidden_size,
        )
