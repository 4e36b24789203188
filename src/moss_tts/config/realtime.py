"""config.json of MossTTSRealtime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from moss_tts.config.common import MossConfig
from moss_tts.config.qwen3 import BackboneConfig
from moss_tts.errors import ConfigError
from moss_tts.strict import Raw, demand, integer, mapping

# Ids of each codebook that are no codes: pad, the beginning of speech, its end.
MARKS = 3
WHERE, LOCAL = "config.json", "local_config"


@dataclass(frozen=True)
class RealtimeConfig(MossConfig):
    """MossTTSRealtime: the text column comes from outside, and codebook 0 says where speech begins and ends.

    Attributes:
        depth: the depth transformer, as wide as the backbone.
        text_pad_token_id: the text id of rows for which there is no text left.
        max_positions: rows that a context may have.
    """

    backbone: BackboneConfig
    depth: BackboneConfig
    text_pad_token_id: int
    max_positions: int

    levels_references: ClassVar[bool] = False
    default_n_vq: ClassVar[int] = 16
    own_keys: ClassVar[frozenset[str]] = frozenset(
        "local_config rvq audio_pad_token reference_audio_pad text_pad".split()
    )

    @property
    def begin_code(self) -> int:
        """What codebook 0 holds on the row before the first frame."""
        return self.audio_pad_code + 1

    @property
    def end_code(self) -> int:
        """What codebook 0 holds in place of the frame after the last one."""
        return self.audio_pad_code + 2

    @property
    def table_size(self) -> int:
        """Ids of a codebook, those that are no codes among them."""
        return self.audio_vocab_size + MARKS

    @classmethod
    def _values(cls, raw: Raw) -> dict[str, Any]:
        local = mapping(raw, "local_config", WHERE)
        for key, default in (("rvq", cls.default_n_vq), ("audio_vocab_size", 1027), ("audio_pad_token", 1024)):
            demand(local, key, (raw.get(key, default), None), LOCAL)
        # Here upstream counts the three marks as well.
        table = integer(raw, "audio_vocab_size", WHERE, default=1027, least=MARKS + 1)
        named = {"rvq": "n_vq", "audio_pad_token": "audio_pad_code"}
        common = {ours: raw[theirs] for theirs, ours in named.items() if theirs in raw}
        values = super()._values({**raw, **common, "audio_vocab_size": table - MARKS})
        backbone: BackboneConfig = values["backbone"]
        return values | {
            "depth": BackboneConfig.from_dict(_depth(local, backbone), LOCAL),
            "max_positions": integer(raw["language_config"], "max_position_embeddings", WHERE, default=40960, least=1),
        }

    @classmethod
    def _ids(cls, raw: Raw, where: str) -> dict[str, int]:
        text_pad = integer(raw, "text_pad", where, default=151655)
        return {
            # Padding is never seen, so its id has no meaning.
            "pad_token_id": text_pad,
            "text_pad_token_id": text_pad,
            "audio_user_slot_token_id": integer(raw, "reference_audio_pad", where, default=151654),
        }

    def _check(self) -> None:
        super()._check()
        if self.depth.hidden_size != self.hidden_size:
            raise ConfigError(
                f"config.json: local_config.hidden_size {self.depth.hidden_size} must equal the backbone's width "
                f"{self.hidden_size}: nothing stands between the two."
            )


def _depth(local: Raw, backbone: BackboneConfig) -> Raw:
    """The depth transformer's block as one of a backbone, which it is but for its tables.

    "linear" positions are divided by a factor; of 1 they are ordinary ones.
    """
    ours = {"rvq", "audio_vocab_size", "audio_pad_token", "rope_type", "rope_parameters", "rope_scaling"}
    block = {key: value for key, value in local.items() if key not in ours}
    demand(local, "rope_type", ("linear", "default", None), LOCAL)
    for name in ("rope_parameters", "rope_scaling"):
        rope = local.get(name)
        if isinstance(rope, Mapping):
            demand(rope, "factor", (1, None), f"{LOCAL}.{name}")
            linear = rope.get("rope_type", rope.get("type")) == "linear"
            block[name] = {**rope, "rope_type": "default"} if linear else rope
        elif rope is not None:
            block[name] = rope
    return {**block, "vocab_size": backbone.vocab_size}
