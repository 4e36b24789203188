"""config.json of a MOSS-TTS checkpoint, parsed strictly into frozen values.

`parse_config` tells the architectures apart and returns the config class of one of them; everything that
differs between architectures hangs on that class, so no other code asks which one it is.

Sizes and special ids come from the file. A key that is neither used nor known to be harmless is an error:
an option that upstream adds later must not be dropped in silence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self

from moss_tts.errors import ConfigError
from moss_tts.strict import Raw, demand, integer, mapping, number, optional, reject_unknown
from moss_tts.text.preparation import TextPreparation


@dataclass(frozen=True)
class BackboneConfig:
    """A Qwen3 decoder: grouped-query attention with q/k norms, SwiGLU, RMS norms, no biases."""

    hidden_size: int
    num_hidden_layers: int
    intermediate_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    rms_norm_eps: float = 1e-6
    rope_theta: float = 1e6

    @classmethod
    def from_dict(cls, raw: Raw, where: str = "language_config") -> Self:
        """Parse the `language_config` block.

        Raises:
            ConfigError: unknown keys, a feature Qwen3 checkpoints of this family do not use, or bad sizes.
        """
        known = {field.name for field in fields(cls)}
        known |= {"rope_parameters", "rope_scaling", "attention_bias", "hidden_act", "layer_types"}
        known |= {"sliding_window", "use_sliding_window", "pad_token_id"}
        reject_unknown(raw, frozenset(known), where)
        demand(raw, "attention_bias", (False, None), where)
        demand(raw, "hidden_act", ("silu",), where)
        demand(raw, "use_sliding_window", (False, None), where)
        if set(raw.get("layer_types") or ["full_attention"]) != {"full_attention"}:
            raise ConfigError(f"{where}: layer_types may hold full_attention only, got {raw['layer_types']!r}.")
        hidden = integer(raw, "hidden_size", where, least=1)
        heads = integer(raw, "num_attention_heads", where, least=1)
        config = cls(
            hidden_size=hidden,
            num_hidden_layers=integer(raw, "num_hidden_layers", where, least=1),
            intermediate_size=integer(raw, "intermediate_size", where, least=1),
            num_attention_heads=heads,
            num_key_value_heads=integer(raw, "num_key_value_heads", where, default=heads, least=1),
            head_dim=integer(raw, "head_dim", where, default=hidden // heads, least=1),
            vocab_size=integer(raw, "vocab_size", where, least=1),
            rms_norm_eps=number(raw, "rms_norm_eps", where, 1e-6),
            rope_theta=_rope_theta(raw, where),
        )
        if heads % config.num_key_value_heads:
            raise ConfigError(
                f"{where}: {heads} attention heads do not divide among {config.num_key_value_heads} key/value heads."
            )
        return config


def _rope_theta(raw: Raw, where: str) -> float:
    """rope_theta stands at the top, or (transformers 5) inside rope_parameters or rope_scaling."""
    rope = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise ConfigError(f"{where}: rope_type {kind!r} is not supported; allowed: 'default'.")
    return number({**raw, **rope}, "rope_theta", where, 1e6)


@dataclass(frozen=True)
class MossConfig:
    """What the architectures have in common. Ids default to upstream's (models.md section 1)."""

    backbone: BackboneConfig
    n_vq: int
    audio_vocab_size: int
    audio_pad_code: int
    pad_token_id: int
    im_start_token_id: int
    im_end_token_id: int
    audio_start_token_id: int
    audio_end_token_id: int
    audio_user_slot_token_id: int
    audio_assistant_gen_slot_token_id: int
    sampling_rate: int
    audio_tokenizer_name_or_path: str | None
    codec_config: Raw | None
    quantization: Raw | None
    text_preparation: TextPreparation | None

    # Where the codec is when the file does not name one.
    default_codec: ClassVar[str] = "OpenMOSS-Team/MOSS-Audio-Tokenizer"
    # Keys of the file that an architecture has beside the common ones.
    own_keys: ClassVar[frozenset[str]] = frozenset()
    id_defaults: ClassVar[Mapping[str, int]] = {}

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
        reject_unknown(raw, COMMON_KEYS | cls.own_keys, "config.json")
        config = cls(**cls._values(raw))
        config._check()
        return config

    @classmethod
    def _values(cls, raw: Raw) -> dict[str, Any]:
        where = "config.json"
        audio_vocab = integer(raw, "audio_vocab_size", where, default=1024, least=1)
        backbone = BackboneConfig.from_dict(mapping(raw, "language_config", where))
        for key, inner in (("hidden_size", backbone.hidden_size), ("vocab_size", backbone.vocab_size)):
            demand(raw, key, (inner, None), where)
        ids = {name: integer(raw, name, where, default) for name, default in {**ID_DEFAULTS, **cls.id_defaults}.items()}
        # VoiceGenerator's config calls the slot gen_token_id.
        if "gen_token_id" in raw:
            ids["audio_assistant_gen_slot_token_id"] = integer(raw, "gen_token_id", where)
        return {
            "backbone": backbone,
            "n_vq": integer(raw, "n_vq", where, default=32, least=1),
            "audio_vocab_size": audio_vocab,
            "audio_pad_code": integer(raw, "audio_pad_code", where, default=audio_vocab),
            "sampling_rate": integer(raw, "sampling_rate", where, default=24000, least=1),
            "audio_tokenizer_name_or_path": optional(raw, "audio_tokenizer_name_or_path", str, "a name", where),
            "codec_config": optional(raw, "codec_config", Mapping, "an object", where),
            "quantization": optional(raw, "quantization", Mapping, "an object", where),
            "text_preparation": _text_preparation(raw, where),
            **ids,
        }

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


@dataclass(frozen=True)
class DelayConfig(MossConfig):
    """MossTTSDelay: one backbone step per row, codebook q shifted by q rows."""

    audio_assistant_delay_slot_token_id: int

    own_keys: ClassVar[frozenset[str]] = frozenset({"audio_assistant_delay_slot_token_id"})
    id_defaults: ClassVar[Mapping[str, int]] = {"audio_assistant_delay_slot_token_id": 151662}


@dataclass(frozen=True)
class LocalConfig(MossConfig):
    """MossTTSLocal v1.0: a depth transformer samples the channels of a frame one after the other."""

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
        own = cls.own_keys - {"audio_assistant_delay_slot_token_id"}
        return super()._values(raw) | {name: integer(raw, name, "config.json", least=1) for name in own}

    @property
    def depth(self) -> BackboneConfig:
        """The depth transformer: heads of the backbone, its own width, layers and feed-forward."""
        return replace(
            self.backbone,
            hidden_size=self.local_hidden_size,
            num_hidden_layers=self.local_num_layers,
            intermediate_size=self.local_ffn_hidden_size,
        )


@dataclass(frozen=True)
class DepthDecoderConfig:
    """The GPT-2 style depth decoder of Local v1.5 (upstream's `gpt2_config`)."""

    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    positions: int
    layer_norm_eps: float
    rotary: bool
    rope_base: float

    @classmethod
    def from_dict(cls, raw: Raw, n_vq: int, layers: int | None) -> Self:
        """Parse `gpt2_config`.

        Args:
            raw: the block.
            n_vq: codebooks Q; the decoder runs over at most 1 + Q channels.
            layers: `local_transformer_layers`, which beats the block's n_layer.

        Raises:
            ConfigError: unknown keys, unsupported features or bad sizes.
        """
        where = "gpt2_config"
        own = "n_embd n_head n_inner n_layer activation_function layer_norm_epsilon position_embedding_type rope_base"
        reject_unknown(raw, frozenset(own.split()) | {"pad_token_id", "vocab_size"}, where)
        demand(raw, "activation_function", ("silu",), where)
        demand(raw, "position_embedding_type", ("rope", "absolute"), where)
        demand(raw, "scale_attn_weights", (True,), where)
        demand(raw, "scale_attn_by_inverse_layer_idx", (False,), where)
        width = integer(raw, "n_embd", where, least=1)
        heads = integer(raw, "n_head", where, least=1)
        if width % heads:
            raise ConfigError(f"{where}: n_embd {width} does not divide among {heads} heads.")
        return cls(
            hidden_size=width,
            num_layers=layers or integer(raw, "n_layer", where, default=1, least=1),
            num_heads=heads,
            intermediate_size=integer(raw, "n_inner", where, default=4 * width, least=1),
            positions=n_vq + 1,
            layer_norm_eps=number(raw, "layer_norm_epsilon", where, 1e-6),
            rotary=raw.get("position_embedding_type", "absolute") == "rope",
            rope_base=number(raw, "rope_base", where, 10000.0),
        )


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


def parse_config(raw: Raw) -> MossConfig:
    """The config class of the checkpoint that `raw` (its config.json) describes.

    Raises:
        ConfigError: not a MOSS-TTS checkpoint, an unsupported member of the family, or inconsistent values.
    """
    return config_class(raw).from_dict(raw)


def config_class(raw: Raw) -> type[MossConfig]:
    """Tell the architectures apart.

    Upstream uses model_type "moss_tts_delay" for Delay and for Local v1.0: only the latter has
    `local_num_layers`.
    """
    kind = raw.get("model_type")
    if kind == "moss_tts_delay":
        return DelayConfig if raw.get("local_num_layers") is None else LocalConfig
    if kind == "moss_tts_local" or "gpt2_config" in raw:
        return LocalV15Config
    if kind == "moss-audio-tokenizer":
        raise ConfigError("this is the codec (MOSS-Audio-Tokenizer), not a speech model; give the model's directory.")
    raise ConfigError(
        f"config.json has model_type {kind!r}; supported: 'moss_tts_delay' (MOSS-TTS, TTSD, VoiceGenerator, "
        "SoundEffect and Local v1.0), 'moss_tts_local' (Local v1.5)."
    )
