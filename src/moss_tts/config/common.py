"""What the configs of all architectures have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol, Self

from moss_tts.config.qwen3 import BackboneConfig
from moss_tts.errors import ConfigError
from moss_tts.strict import Raw, count, demand, integer, mapping, optional, reject_unknown
from moss_tts.text.preparation import TextPreparation


class DecoderSizes(Protocol):
    """What every kind of backbone says of itself."""

    @property
    def hidden_size(self) -> int:
        """Width D."""
        ...

    @property
    def num_hidden_layers(self) -> int:
        """Blocks."""
        ...

    @property
    def num_key_value_heads(self) -> int:
        """Heads of keys and values."""
        ...

    @property
    def head_dim(self) -> int:
        """Width of a head."""
        ...

    @property
    def vocab_size(self) -> int:
        """Text vocabulary V."""
        ...


@dataclass(frozen=True)
class MossConfig:
    """What all architectures have in common. Ids default to upstream's."""

    backbone: DecoderSizes
    n_vq: int
    audio_vocab_size: int
    audio_pad_code: int
    pad_token_id: int
    audio_user_slot_token_id: int
    sampling_rate: int
    audio_tokenizer_name_or_path: str | None
    codec_config: Raw | None
    quantization: Raw | None
    text_preparation: TextPreparation | None

    # Where the codec is when the file does not name one.
    default_codec: ClassVar[str] = "OpenMOSS-Team/MOSS-Audio-Tokenizer"
    # Whether references are brought to the loudness that the model heard in training.
    levels_references: ClassVar[bool] = True
    # Whether long texts may be cut by tokens, so that a plan of one needs the tokenizer.
    counts_tokens: ClassVar[bool] = False
    default_n_vq: ClassVar[int] = 32
    default_sampling_rate: ClassVar[int] = 24000
    # Keys of the file that an architecture has beside the common ones, and names of its own (theirs -> ours) for those.
    own_keys: ClassVar[frozenset[str]] = frozenset()
    aliases: ClassVar[Mapping[str, str]] = {}

    @property
    def codec_name(self) -> str:
        """Directory or hub id of the codec, where none is beside the weights."""
        return self.audio_tokenizer_name_or_path or self.default_codec

    @property
    def hidden_size(self) -> int:
        """Width D of the backbone."""
        return self.backbone.hidden_size

    @property
    def vocab_size(self) -> int:
        """Text vocabulary V."""
        return self.backbone.vocab_size

    @classmethod
    def from_dict(cls, raw: Raw) -> Self:
        """Parse a whole config.json of this architecture.

        Raises:
            ConfigError: unknown keys, missing or contradicting values.
        """
        reject_unknown(raw, COMMON_KEYS | cls.own_keys | set(cls.aliases), "config.json")
        named = {ours: raw[theirs] for theirs, ours in cls.aliases.items() if raw.get(theirs) is not None}
        config = cls(**cls._values({**raw, **named}))
        config._check()
        return config

    @classmethod
    def _values(cls, raw: Raw) -> dict[str, Any]:
        where = "config.json"
        audio_vocab = integer(raw, "audio_vocab_size", where, default=1024, least=1)
        backbone = cls._backbone(raw)
        for key, inner in (("hidden_size", backbone.hidden_size), ("vocab_size", backbone.vocab_size)):
            demand(raw, key, (inner, None), where)
        return {
            "backbone": backbone,
            "n_vq": count(raw, "n_vq", where, default=cls.default_n_vq),
            "audio_vocab_size": audio_vocab,
            "audio_pad_code": integer(raw, "audio_pad_code", where, default=audio_vocab),
            "sampling_rate": integer(raw, "sampling_rate", where, default=cls.default_sampling_rate, least=1),
            "audio_tokenizer_name_or_path": optional(raw, "audio_tokenizer_name_or_path", str, "a name", where),
            "codec_config": optional(raw, "codec_config", Mapping, "an object", where),
            "quantization": optional(raw, "quantization", Mapping, "an object", where),
            "text_preparation": _text_preparation(raw, where),
            **cls._ids(raw, where),
        }

    @classmethod
    def _ids(cls, raw: Raw, where: str) -> dict[str, int]:
        """The special ids, by the names of their fields."""
        raise NotImplementedError

    @classmethod
    def _backbone(cls, raw: Raw) -> DecoderSizes:
        return BackboneConfig.from_dict(mapping(raw, "language_config", "config.json"))

    def _check(self) -> None:
        if self.audio_pad_code != self.audio_vocab_size:
            raise ConfigError(
                f"config.json: audio_pad_code must be audio_vocab_size ({self.audio_vocab_size}), "
                f"got {self.audio_pad_code}."
            )
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("_token_id") and value >= self.vocab_size:
                raise ConfigError(
                    f"config.json: {field.name} = {value} is outside the vocabulary of {self.vocab_size}."
                )


@dataclass(frozen=True)
class SlotConfig(MossConfig):
    """An architecture that writes the text column itself: slots say which rows are audio."""

    im_start_token_id: int
    im_end_token_id: int
    audio_start_token_id: int
    audio_end_token_id: int
    audio_assistant_gen_slot_token_id: int

    # Ids where the file has none; None: it must have them.
    id_defaults: ClassVar[Mapping[str, int | None]] = {}

    @classmethod
    def _ids(cls, raw: Raw, where: str) -> dict[str, int]:
        ids = {name: integer(raw, name, where, default) for name, default in {**ID_DEFAULTS, **cls.id_defaults}.items()}
        # VoiceGenerator's config calls the slot gen_token_id.
        if "gen_token_id" in raw:
            ids["audio_assistant_gen_slot_token_id"] = integer(raw, "gen_token_id", where)
        return ids


def _text_preparation(raw: Raw, where: str) -> TextPreparation | None:
    key = "text_preparation"
    return None if raw.get(key) is None else TextPreparation.from_dict(mapping(raw, key, where))


ID_DEFAULTS = {
    "pad_token_id": 151643,
    "im_start_token_id": 151644,
    "im_end_token_id": 151645,
    "audio_start_token_id": 151652,
    "audio_end_token_id": 151653,
    "audio_user_slot_token_id": 151654,
    "audio_assistant_gen_slot_token_id": 151656,
}
COMMON_KEYS = frozenset(ID_DEFAULTS) | frozenset(
    """
    language_config n_vq audio_vocab_size audio_pad_code sampling_rate hidden_size vocab_size gen_token_id
    audio_tokenizer_name_or_path codec_config quantization quantization_config text_preparation
    """.split()
)
