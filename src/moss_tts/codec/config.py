"""config.json of a MOSS-Audio-Tokenizer, parsed strictly into frozen values.

Two generations of the codec share this format. v1 (24 kHz mono) has one attention context for all stages; v2
and Nano (48 kHz stereo) give each stage its own, and they alone state the number of channels: that key tells the two
generations apart.
A key that is neither used nor known to be harmless is an error, so that nothing upstream adds is dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from math import prod
from typing import Any

from moss_tts.codec.stages import StageConfig, Surroundings, parse_stage
from moss_tts.errors import ConfigError, shown
from moss_tts.strict import Raw, count, demand, integer, optional, reject_unknown

MODEL_TYPES = ("moss-audio-tokenizer", "moss_audio_tokenizer", "speech_tokenizer")
KNOWN_KEYS = frozenset(
    """
    sampling_rate sample_rate downsample_rate number_channels channels_numbers enable_channel_interleave
    causal_transformer_context_duration encoder_kwargs decoder_kwargs quantizer_kwargs quantizer_type quantization
    quantization_config
    """.split()
)
# Other spellings of a key: (ours, theirs).
ALIASES = {"number_channels": "channels_numbers", "sampling_rate": "sample_rate"}
# Keys that set types and kernels of the torch implementation; here the caller's dtype decides.
RUNTIME_KEYS = frozenset(
    """
    attention_implementation attention_backend compute_dtype codec_compute_dtype codec_weight_dtype
    codec_load_dtype
    """.split()
)
MOST_CHANNELS = 8
MOST_STAGES = 64
# Keys that upstream writes and never reads when it encodes or decodes; reversed_decoder_kwargs is encoder_kwargs.
UNREAD_KEYS = frozenset({"code_dim", "reversed_decoder_kwargs"})
TRAINING_KEYS = frozenset({"quantizer_dropout", "codebook_loss_weight", "commitment_loss_weight"})


@dataclass(frozen=True)
class QuantizerConfig:
    """The residual quantizer: `num_quantizers` codebooks in a space of `rvq_dim`."""

    input_dim: int
    rvq_dim: int
    output_dim: int
    num_quantizers: int
    codebook_size: int
    codebook_dim: int


@dataclass(frozen=True)
class CodecConfig:
    """A whole codec.

    Attributes:
        downsample_rate: samples per channel of one frame.
        version: generation of upstream's code that wrote the checkpoint, 1 or 2. It decides how weights are
            named on disk and whether a stage has projections where the widths agree (v2 does).
        quantization: how the layers are stored that are quantised, as in the config.json of a speech model.
    """

    sampling_rate: int
    channels: int
    downsample_rate: int
    encoder: tuple[StageConfig, ...]
    decoder: tuple[StageConfig, ...]
    quantizer: QuantizerConfig
    version: int
    quantization: Raw | None = None

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sampling_rate / self.downsample_rate

    @property
    def num_quantizers(self) -> int:
        """Codebooks Q."""
        return self.quantizer.num_quantizers

    @property
    def codebook_size(self) -> int:
        """Entries of a codebook; also the code that stands for "none" and decodes to nothing."""
        return self.quantizer.codebook_size

    @property
    def stages(self) -> dict[str, StageConfig]:
        """All stages, under the prefix of their weights."""
        halves = (("encoder", self.encoder), ("decoder", self.decoder))
        return {f"{half}.{index}.": stage for half, stages in halves for index, stage in enumerate(stages)}

    @classmethod
    def from_dict(cls, raw: Raw) -> CodecConfig:
        """Parse a config.json, or the `codec_config` block of a speech model fused with its codec.

        Raises:
            ConfigError: unknown keys, an unsupported option, or sizes that contradict each other.
        """
        where = "codec config"
        if (kind := raw.get("model_type", "moss-audio-tokenizer")) not in MODEL_TYPES:
            raise ConfigError(
                f"codec config: model_type {shown(kind)} is not a codec of this family; "
                f"known: {', '.join(MODEL_TYPES)}."
            )
        reject_unknown(raw, KNOWN_KEYS | RUNTIME_KEYS | UNREAD_KEYS, where)
        version = 2 if {"number_channels", "channels_numbers"} & set(raw) else 1
        raw = {**raw, **{key: raw[alias] for key, alias in ALIASES.items() if key not in raw and alias in raw}}
        channels = integer(raw, "number_channels", where, default=1, least=1, most=MOST_CHANNELS)
        if channels > 1:
            demand(raw, "enable_channel_interleave", (True,), where)
        sampling_rate = integer(raw, "sampling_rate", where, least=1)
        downsample_rate = integer(raw, "downsample_rate", where, least=1, most=sampling_rate)
        context = _default_context(raw, version)
        down = Surroundings(version, down=True, rate=sampling_rate * channels, context_duration=context, where=where)
        up = replace(down, down=False, rate=sampling_rate / downsample_rate)
        config = cls(
            sampling_rate=sampling_rate,
            channels=channels,
            downsample_rate=downsample_rate,
            encoder=_parse_stages(raw, "encoder_kwargs", down),
            decoder=_parse_stages(raw, "decoder_kwargs", up),
            quantizer=_parse_quantizer(raw),
            version=version,
            quantization=optional(raw, "quantization", dict, "an object", where),
        )
        _check_chain(config)
        return config


def _default_context(raw: Raw, version: int) -> Any:
    """Seconds of context of stages that name none. The second generation takes the smallest that its encoder names."""
    named = [block.get("context_duration") for block in _blocks(raw, "encoder_kwargs")] if version == 2 else []
    numbers = [seconds for seconds in named if isinstance(seconds, int | float)]
    return min(numbers) if numbers else raw.get("causal_transformer_context_duration", 10.0)


def _parse_stages(raw: Raw, key: str, first: Surroundings) -> tuple[StageConfig, ...]:
    """The stages of one half; the step rate on the way through them gives each its window."""
    stages: list[StageConfig] = []
    rate = first.rate
    for index, block in enumerate(_blocks(raw, key)):
        stage = parse_stage(block, replace(first, rate=rate, where=f"codec config, {key}[{index}]"))
        rate = stage.rate_after(rate)
        stages.append(stage)
    return tuple(stages)


# The training-time variant reads the same at inference.
QUANTIZER_TYPES = ("rlfq", "random_prefix_rlfq")


def _parse_quantizer(raw: Raw) -> QuantizerConfig:
    where = "codec config, quantizer_kwargs"
    block = raw.get("quantizer_kwargs")
    if not isinstance(block, Mapping):
        raise ConfigError(f"{where} must be an object, got {shown(block)}.")
    names = [field.name for field in fields(QuantizerConfig)]
    reject_unknown(block, TRAINING_KEYS | {"quantizer_type", *names}, where)
    demand(block, "quantizer_type", QUANTIZER_TYPES, where)
    if "quantizer_type" not in block:
        demand(raw, "quantizer_type", QUANTIZER_TYPES, "codec config")
    sizes = {name: integer(block, name, where, least=1) for name in names}
    return QuantizerConfig(**sizes | {"num_quantizers": count(block, "num_quantizers", where)})


def _check_chain(config: CodecConfig) -> None:
    """Widths must meet from samples to quantizer and back, and the patches must multiply to one frame."""
    _check_widths("encoder_kwargs", config.encoder, 1, config.quantizer.input_dim)
    _check_widths("decoder_kwargs", config.decoder, config.quantizer.output_dim, 1)
    frame = config.downsample_rate * config.channels
    for key, stages in (("encoder_kwargs", config.encoder), ("decoder_kwargs", config.decoder)):
        patches = prod(stage.size for stage in stages)
        if patches != frame:
            raise ConfigError(
                f"codec config: the patches of {key} multiply to {patches}, but a frame is "
                f"{config.downsample_rate} samples of {config.channels} channels = {frame}."
            )


def _check_widths(key: str, stages: tuple[StageConfig, ...], width: int, last: int) -> None:
    for index, stage in enumerate(stages):
        following = stage.width_after(width)
        if following is None:
            raise ConfigError(f"codec config: {key}[{index}] cannot take the width {width} that reaches it.")
        width = following
    if width != last:
        raise ConfigError(f"codec config: {key} ends at width {width}, but {last} is needed.")


def _blocks(raw: Raw, key: str) -> list[Raw]:
    blocks = raw.get(key)
    if isinstance(blocks, list) and len(blocks) > MOST_STAGES:
        raise ConfigError(f"codec config: {key} has {len(blocks)} stages; at most {MOST_STAGES} are allowed.")
    if not isinstance(blocks, list) or not all(isinstance(block, Mapping) for block in blocks):
        raise ConfigError(f"codec config: {key} must be a list of objects, got {type(blocks).__name__}.")
    return blocks
