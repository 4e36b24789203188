"""config.json of MossTTSDelay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from moss_tts.config.common import SlotConfig
from moss_tts.config.qwen3 import BackboneConfig


@dataclass(frozen=True)
class DelayConfig(SlotConfig):
    """MossTTSDelay: one backbone step per row, codebook q shifted by q rows."""

    backbone: BackboneConfig
    audio_assistant_delay_slot_token_id: int

    own_keys: ClassVar[frozenset[str]] = frozenset({"audio_assistant_delay_slot_token_id"})
    id_defaults: ClassVar[Mapping[str, int | None]] = {"audio_assistant_delay_slot_token_id": 151662}
