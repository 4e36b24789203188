"""config.json of a MOSS-Audio-Tokenizer, parsed strictly into frozen values.

Two generations of the codec share this format. v1 (24 kHz mono) has one attention context for all stages; v2
(48 kHz stereo) gives each stage its own and says how many channels there are, by which it is told apart.
A key that is neither used nor known to be harmless is an error, so that nothing upstream adds is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from math import prod
from typing import Any, TypeAlias

from moss_tts.errors import ConfigError
from moss_tts.strict import Raw, demand, integer, number, reject_unknown

MODEL_TYPES = frozenset({"moss-audio-tokenizer", "moss_audio_tokenizer", "speech_tokenizer"})
KNOWN_KEYS = frozenset(
    """
    sampling_rate sample_rate downsample_rate number_channels channels_numbers enable_channel_interleave
    causal_transformer_context_duration encoder_kwargs decoder_kwargs quantizer_kwargs quantizer_type
    """.split()
)
# Other spellings of a key: (ours, theirs).
ALIASES = {"number_channels": "channels_numbers", "sampling_rate": "sample_rate"}
# What the torch implementation computes in, and how; the caller's dtype decides that here.
RUNTIME_KEYS = frozenset(
    """
    attention_implementation attention_backend compute_dtype codec_compute_dtype codec_weight_dtype
    codec_load_dtype
    """.split()
)


@dataclass(frozen=True)
class PatchConfig:
    """Folds `size` steps into the channels (encoder) or back out of them (decoder)."""

    size: int


@dataclass(frozen=True)
class TransformerConfig:
    """One transformer stage.

    Attributes:
        window: steps a query sees, itself included.
        layer_scale: whether each residual branch has a learned scale.
    """

    input_dimension: int
    output_dimension: int
    d_model: int
    num_heads: int
    num_layers: int
    dim_feedforward: int
    window: int
    max_period: float = 10000.0
    layer_scale: bool = True

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.d_model // self.num_heads


StageConfig: TypeAlias = PatchConfig | TransformerConfig


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
    """

    sampling_rate: int
    channels: int
    downsample_rate: int
    encoder: tuple[StageConfig, ...]
    decoder: tuple[StageConfig, ...]
    quantizer: QuantizerConfig
    version: int

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

    @classmethod
    def from_dict(cls, raw: Raw) -> CodecConfig:
        """Parse a config.json, or the `codec_config` block of a speech model fused with its codec.

        Raises:
            ConfigError: unknown keys, an unsupported option, or sizes that contradict each other.
        """
        where = "codec config"
        if raw.get("model_type", "moss-audio-tokenizer") not in MODEL_TYPES:
            raise ConfigError(
                f"codec config: model_type {raw['model_type']!r} is not a codec of this family; "
                f"known: {', '.join(sorted(MODEL_TYPES))}."
            )
        reject_unknown(raw, KNOWN_KEYS | RUNTIME_KEYS, where)
        version = 2 if {"number_channels", "channels_numbers"} & set(raw) else 1
        raw = {**raw, **{key: raw[alias] for key, alias in ALIASES.items() if key not in raw and alias in raw}}
        channels = integer(raw, "number_channels", where, default=1, least=1)
        if channels > 1:
            demand(raw, "enable_channel_interleave", (True,), where)
        sampling_rate = integer(raw, "sampling_rate", where, least=1)
        downsample_rate = integer(raw, "downsample_rate", where, least=1)
        parse = _StageParser(version, raw.get("causal_transformer_context_duration", 10.0))
        config = cls(
            sampling_rate=sampling_rate,
            channels=channels,
            downsample_rate=downsample_rate,
            encoder=parse.encoder(_blocks(raw, "encoder_kwargs"), sampling_rate * channels),
            decoder=parse.decoder(_blocks(raw, "decoder_kwargs"), sampling_rate / downsample_rate),
            quantizer=_parse_quantizer(raw),
            version=version,
        )
        _check_chain(config)
        return config


@dataclass(frozen=True)
class _StageParser:
    """Reads stage lists; the step rate on the way through them gives each stage its window."""

    version: int
    default_context: float

    def encoder(self, blocks: list[Raw], rate: float) -> tuple[StageConfig, ...]:
        return self._stages(blocks, rate, "encoder_kwargs", lambda rate, size: rate / size)

    def decoder(self, blocks: list[Raw], rate: float) -> tuple[StageConfig, ...]:
        return self._stages(blocks, rate, "decoder_kwargs", lambda rate, size: rate * size)

    def _stages(
        self, blocks: list[Raw], rate: float, key: str, after: Callable[[float, int], float]
    ) -> tuple[StageConfig, ...]:
        stages: list[StageConfig] = []
        for index, block in enumerate(blocks):
            stage = self._stage(block, rate, f"codec config, {key}[{index}]")
            rate = after(rate, stage.size) if isinstance(stage, PatchConfig) else rate
            stages.append(stage)
        return tuple(stages)

    def _stage(self, block: Raw, rate: float, where: str) -> StageConfig:
        kind = block.get("module_type")
        if kind == "PatchedPretransform":
            reject_unknown(block, frozenset({"module_type", "patch_size"}), where)
            return PatchConfig(integer(block, "patch_size", where, least=1))
        if kind == "Transformer":
            return self._transformer(block, rate, where)
        raise ConfigError(f"{where}: module_type {kind!r} is neither 'PatchedPretransform' nor 'Transformer'.")

    def _transformer(self, block: Raw, rate: float, where: str) -> TransformerConfig:
        sizes = (
            "input_dimension",
            "output_dimension",
            "d_model",
            "num_heads",
            "num_layers",
            "dim_feedforward",
        )
        options = {"causal", "norm", "positional_embedding", "gating", "layer_scale", "max_period"}
        # conv_layout is the axis order of upstream's tensors between stages.
        reject_unknown(block, frozenset({"module_type", "context_duration", "conv_layout", *sizes, *options}), where)
        for key, allowed in SUPPORTED.items():
            demand(block, key, allowed, where)
        config = TransformerConfig(
            **{key: integer(block, key, where, least=1) for key in sizes},
            window=self._window(rate, number(block, "context_duration", where, self.default_context), where),
            max_period=number(block, "max_period", where, 10000),
            layer_scale=block.get("layer_scale") is not None,
        )
        if config.d_model % config.num_heads or config.head_dim % 2:
            raise ConfigError(
                f"{where}: d_model {config.d_model} does not divide into {config.num_heads} heads of even width."
            )
        return config

    def _window(self, rate: float, duration: float, where: str) -> int:
        steps = rate * duration
        # v1 truncates, v2 rounds.
        window = int(steps) if self.version == 1 else round(steps)
        if window < 1:
            raise ConfigError(f"{where}: a context of {duration} s is shorter than one step at {rate:g} Hz.")
        return window


SUPPORTED: dict[str, tuple[Any, ...]] = {
    "causal": (True,),
    "norm": ("layer_norm",),
    "positional_embedding": ("rope",),
    "gating": ("none",),
}
# The training-time variant reads the same at inference.
QUANTIZER_TYPES = ("rlfq", "random_prefix_rlfq")


def _parse_quantizer(raw: Raw) -> QuantizerConfig:
    where = "codec config, quantizer_kwargs"
    block = raw.get("quantizer_kwargs")
    if not isinstance(block, Mapping):
        raise ConfigError(f"{where} must be an object, got {block!r}.")
    names = [field.name for field in fields(QuantizerConfig)]
    reject_unknown(block, frozenset({"quantizer_type", "quantizer_dropout", *names}), where)
    demand(block, "quantizer_type", QUANTIZER_TYPES, where)
    if "quantizer_type" not in block:
        demand(raw, "quantizer_type", QUANTIZER_TYPES, "codec config")
    return QuantizerConfig(**{name: integer(block, name, where, least=1) for name in names})


def _check_chain(config: CodecConfig) -> None:
    """Widths must meet from samples to quantizer and back, and the patches must multiply to one frame."""
    _check_widths("encoder_kwargs", _inputs_and_outputs(config.encoder, 1, down=True), config.quantizer.input_dim)
    start = config.quantizer.output_dim
    _check_widths("decoder_kwargs", _inputs_and_outputs(config.decoder, start, down=False), 1)
    frame = config.downsample_rate * config.channels
    for key, stages in (("encoder_kwargs", config.encoder), ("decoder_kwargs", config.decoder)):
        patches = prod(stage.size for stage in stages if isinstance(stage, PatchConfig))
        if patches != frame:
            raise ConfigError(
                f"codec config: the patches of {key} multiply to {patches}, but a frame is "
                f"{config.downsample_rate} samples of {config.channels} channels = {frame}."
            )


def _inputs_and_outputs(stages: tuple[StageConfig, ...], width: int, down: bool) -> list[tuple[int, int]]:
    """(width it takes, width it gives) of every stage, after a first entry for what comes in."""
    widths = [(width, width)]
    for stage in stages:
        given = widths[-1][1]
        if isinstance(stage, TransformerConfig):
            widths.append((stage.input_dimension, stage.output_dimension))
        elif down:
            widths.append((given, given * stage.size))
        else:
            widths.append((given if given % stage.size == 0 else -1, given // stage.size))
    return widths


def _check_widths(key: str, widths: list[tuple[int, int]], last: int) -> None:
    for index, ((_, given), (taken, _)) in enumerate(pairwise(widths)):
        if given != taken:
            raise ConfigError(f"codec config: {key}[{index}] cannot take the width {given} that reaches it.")
    if widths[-1][1] != last:
        raise ConfigError(f"codec config: {key} ends at width {widths[-1][1]}, but {last} is needed.")


def _blocks(raw: Raw, key: str) -> list[Raw]:
    blocks = raw.get(key)
    if not isinstance(blocks, list) or not all(isinstance(block, Mapping) for block in blocks):
        raise ConfigError(f"codec config: {key} must be a list of objects, got {type(blocks).__name__}.")
    return blocks
