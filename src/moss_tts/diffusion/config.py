"""Sizes of a sound model: model_index.json, transformer/config.json and the settings of its autoencoder.

A value that the network here does not have is refused, and so are sizes that contradict each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from moss_tts.checkpoints.names import PIPELINE_INDEX, check_pipeline
from moss_tts.config.qwen3 import BackboneConfig
from moss_tts.errors import ConfigError, shown
from moss_tts.strict import Raw, count, demand, integer, number, optional, reject_unknown

# Rows of text that the transformer attends to: tokens, then padding.
TEXT_ROWS = 512
# What upstream writes and does not read, and what its older releases read.
_UNREAD_INDEX = "_diffusers_version dit_variant text_encoder_type scheduler text_encoder tokenizer transformer vae"
_UNREAD_AUTOENCODER = "n_codebooks codebook_size codebook_dim quantizer_dropout _class_name _diffusers_version"
# Settings of upstream's network that say nothing about this one, and parts of it that this one does not have.
_UNREAD_TRANSFORMER = "has_image_pos_emb in_dim_control_adapter require_vae_embedding require_clip_embedding"
_OTHER_PARTS = "has_image_input has_ref_conv add_control_adapter seperated_timestep fuse_vae_embedding_in_latents"
# Noise is drawn in blocks of 16 values, and upstream has rotary positions for so many latents.
LEAST_LATENTS, MOST_LATENTS = 16, 16384
_MOST_SECONDS, _MOST_RATE, _MOST_STRIDE, _MOST_STAGES = 3600, 768_000, 1024, 16


@dataclass(frozen=True)
class PipelineConfig:
    """model_index.json.

    Attributes:
        sample_rate: the sample rate of the sound, in Hz.
        max_seconds: the length that every sound is computed in, and the longest that can be asked for.
        quantization: how the blocks of the transformer are kept; None where they are not quantised.
    """

    sample_rate: int
    max_seconds: int
    quantization: Raw | None

    @classmethod
    def from_dict(cls, raw: Raw) -> PipelineConfig:
        """Parse the file.

        Raises:
            ConfigError: another pipeline, unknown keys, or values out of range.
        """
        check_pipeline(raw)
        known = "_class_name sample_rate max_inference_seconds vae_type quantization mlx_quantization"
        reject_unknown(raw, frozenset(f"{known} {_UNREAD_INDEX}".split()), PIPELINE_INDEX)
        demand(raw, "vae_type", ("dac",), PIPELINE_INDEX)
        block = raw.get("quantization") or raw.get("mlx_quantization")
        return cls(
            integer(raw, "sample_rate", PIPELINE_INDEX, default=48000, least=1, most=_MOST_RATE),
            integer(raw, "max_inference_seconds", PIPELINE_INDEX, default=30, least=1, most=_MOST_SECONDS),
            optional({"quantization": block}, "quantization", dict, "an object", PIPELINE_INDEX),
        )


@dataclass(frozen=True)
class TransformerConfig:
    """transformer/config.json.

    Attributes:
        channels: channels of the latents, C.
        text_width: width of the text encoder's hidden states, D.
        time_width: values that describe a time.
        width: d.
        hidden: width inside the feed-forward layers.
        heads: heads of attention.
        layers: blocks.
        eps: the small number of all norms.
    """

    channels: int
    text_width: int
    time_width: int
    width: int
    hidden: int
    heads: int
    layers: int
    eps: float

    @property
    def head_dim(self) -> int:
        """Width of a head."""
        return self.width // self.heads

    @classmethod
    def from_dict(cls, raw: Raw) -> TransformerConfig:
        """Parse the file.

        Raises:
            ConfigError: unknown keys, another kind of transformer, or sizes that do not fit each other.
        """
        where = "transformer/config.json"
        sizes = "in_dim out_dim text_dim freq_dim eps dim ffn_dim num_heads num_layers"
        kinds = f"_class_name _diffusers_version patch_size vae_type {_OTHER_PARTS} {_UNREAD_TRANSFORMER}"
        reject_unknown(raw, frozenset(f"{sizes} {kinds}".split()), where)
        demand(raw, "patch_size", ([1], (1,), 1), where)
        for part in _OTHER_PARTS.split():
            demand(raw, part, (False,), where)
        demand(raw, "vae_type", ("dac",), where)
        size = {key: integer(raw, key, where, least=1) for key in sizes.split() if key not in ("eps", "num_layers")}
        demand(raw, "out_dim", (size["in_dim"],), where)
        if size["dim"] % size["num_heads"] or size["dim"] // size["num_heads"] % 2 or size["freq_dim"] % 2:
            raise ConfigError(
                f"{where}: dim = {size['dim']} must divide into num_heads = {size['num_heads']} heads of an even "
                f"width, and freq_dim = {size['freq_dim']} must be even."
            )
        return cls(
            channels=size["in_dim"],
            text_width=size["text_dim"],
            time_width=size["freq_dim"],
            width=size["dim"],
            hidden=size["ffn_dim"],
            heads=size["num_heads"],
            layers=count(raw, "num_layers", where),
            eps=number(raw, "eps", where, 1e-6),
        )


@dataclass(frozen=True)
class AutoencoderConfig:
    """The settings of the autoencoder, of which only the decoder is used.

    Attributes:
        channels: channels of the latents, C.
        width: width after the first convolution; every stage halves it.
        strides: samples of each stage per sample of the one before it.
        sample_rate: the sample rate of the sound, in Hz.
    """

    channels: int
    width: int
    strides: tuple[int, ...]
    sample_rate: int

    @property
    def hop(self) -> int:
        """Samples of one latent."""
        return prod(self.strides)

    @classmethod
    def from_dict(cls, raw: Raw, where: str) -> AutoencoderConfig:
        """Parse the settings.

        Args:
            raw: the settings, from the weight file or from vae/config.json.
            where: where they come from, for messages.

        Raises:
            ConfigError: unknown keys, an autoencoder with codebooks, or sizes that do not fit each other.
        """
        known = "encoder_dim encoder_rates latent_dim decoder_dim decoder_rates sample_rate continuous"
        reject_unknown(raw, frozenset(f"{known} {_UNREAD_AUTOENCODER}".split()), where)
        if raw.get("continuous") is not True:
            raise ConfigError(f"{where}: continuous must be true, got {shown(raw.get('continuous'))}.")
        down, up = _strides(raw, "encoder_rates", where), _strides(raw, "decoder_rates", where)
        width = integer(raw, "decoder_dim", where, least=1)
        if prod(down) != prod(up) or width % 2 ** len(up):
            raise ConfigError(
                f"{where}: encoder_rates multiply to {prod(down)} and decoder_rates to {prod(up)}, which must be the "
                f"same; decoder_dim = {width} must be divisible by 2 to the power of {len(up)} stages."
            )
        channels = integer(raw, "latent_dim", where, least=1)
        return cls(channels, width, up, integer(raw, "sample_rate", where, least=1, most=_MOST_RATE))


def _strides(raw: Raw, key: str, where: str) -> tuple[int, ...]:
    strides = optional(raw, key, list | tuple, "a list of integers", where) or ()  # type: ignore[arg-type]
    if not 0 < len(strides) <= _MOST_STAGES:
        raise ConfigError(f"{where}: {key} must have 1..{_MOST_STAGES} entries, got {len(strides)}.")
    return tuple(integer({key: stride}, key, where, least=1, most=_MOST_STRIDE) for stride in strides)


@dataclass(frozen=True)
class SoundConfig:
    """All parts of a sound model together.

    Attributes:
        pipeline: model_index.json.
        transformer: transformer/config.json.
        text_encoder: text_encoder/config.json.
        autoencoder: the settings of the autoencoder.
    """

    pipeline: PipelineConfig
    transformer: TransformerConfig
    text_encoder: BackboneConfig
    autoencoder: AutoencoderConfig

    def __post_init__(self) -> None:
        for what, value, other, wanted in (
            ("text_dim of transformer/config.json", self.transformer.text_width, "hidden_size", self._text_width),
            ("in_dim of transformer/config.json", self.transformer.channels, "latent_dim", self.autoencoder.channels),
            (f"sample_rate of {PIPELINE_INDEX}", self.sample_rate, "sample_rate", self.autoencoder.sample_rate),
        ):
            if value != wanted:
                part = "text encoder" if other == "hidden_size" else "autoencoder"
                raise ConfigError(f"{what} is {value}, but {other} of the {part} is {wanted}; they must be equal.")
        if not LEAST_LATENTS <= self.latent_frames <= MOST_LATENTS:
            raise ConfigError(
                f"{PIPELINE_INDEX}: a sound would have {self.latent_frames} latents of {self.autoencoder.hop} samples; "
                f"{LEAST_LATENTS}..{MOST_LATENTS} are possible."
            )

    @property
    def _text_width(self) -> int:
        return self.text_encoder.hidden_size

    @property
    def sample_rate(self) -> int:
        """The sample rate of the sound, in Hz."""
        return self.pipeline.sample_rate

    @property
    def latent_frames(self) -> int:
        """Latents T of every sound, however short it is."""
        return self.sample_rate * self.pipeline.max_seconds // self.autoencoder.hop


def text_encoder_config(raw: Raw) -> BackboneConfig:
    """text_encoder/config.json.

    Raises:
        ConfigError: it is no Qwen3 of the kind that is known here.
    """
    where = "text_encoder/config.json"
    demand(raw, "model_type", ("qwen3",), where)
    return BackboneConfig.from_dict(raw, where)
