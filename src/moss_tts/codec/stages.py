"""The stages of a codec as its config describes them: their widths, rates and weights.

A new kind of stage is a class here with an entry in KINDS, and a network with an entry in network.py: no other code
asks for the kind of a stage.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from moss_tts.errors import ConfigError
from moss_tts.strict import Raw, count, demand, integer, number, reject_unknown

Shapes: TypeAlias = dict[str, tuple[int, ...]]


class StageConfig(Protocol):
    """A stage of the encoder or of the decoder."""

    @property
    def size(self) -> int:
        """Steps on its faster side for one step on its slower side."""
        ...

    @property
    def square_projections(self) -> tuple[str, ...]:
        """Names of the weights that only a codec of the second generation has here."""
        ...

    def rate_after(self, rate: float) -> float:
        """Steps per second after it, if `rate` come in."""
        ...

    def steps_after(self, steps: int) -> int:
        """The number of steps after it, if `steps` come in, which are whole frames."""
        ...

    def width_after(self, width: int) -> int | None:
        """The number of channels after it; None if it cannot take `width` channels."""
        ...

    def shapes(self, version: int, /) -> Shapes:
        """Names and shapes of its weights in a checkpoint of this generation, named as the second one does."""
        ...


@dataclass(frozen=True)
class Surroundings:
    """Facts about the codec that a stage needs to read its own block of config.json.

    Attributes:
        version: generation of the codec.
        down: whether the stage belongs to the encoder.
        rate: steps per second that come in.
        context_duration: seconds of context of stages that name none.
        where: names the block in messages.
    """

    version: int
    down: bool
    rate: float
    context_duration: Any
    where: str


@dataclass(frozen=True)
class PatchConfig:
    """Folds `size` steps into the channels (down) or back out of them."""

    size: int
    down: bool

    @classmethod
    def from_dict(cls, block: Raw, around: Surroundings) -> PatchConfig:
        """Parse a block of config.json.

        Raises:
            ConfigError: unknown keys, or no size.
        """
        reject_unknown(block, frozenset({"module_type", "patch_size"}), around.where)
        return cls(integer(block, "patch_size", around.where, least=1), around.down)

    @property
    def square_projections(self) -> tuple[str, ...]:
        """None: it has no weights."""
        return ()

    def rate_after(self, rate: float) -> float:
        """Fewer steps per second going down, more going up."""
        return rate / self.size if self.down else rate * self.size

    def steps_after(self, steps: int) -> int:
        """Fewer steps going down, more going up."""
        return steps // self.size if self.down else steps * self.size

    def width_after(self, width: int) -> int | None:
        """More channels going down; going up, they have to divide into the steps."""
        if self.down:
            return width * self.size
        return None if width % self.size else width // self.size

    def shapes(self, _version: int, /) -> Shapes:
        """None: it has no weights."""
        return {}


SIZES = ("input_dimension", "output_dimension", "d_model", "num_heads", "dim_feedforward")
# Released codecs have 10 s and less.
MOST_CONTEXT_SECONDS = 600.0
SUPPORTED: dict[str, tuple[Any, ...]] = {
    "causal": (True,),
    "norm": ("layer_norm",),
    "positional_embedding": ("rope",),
    "gating": ("none",),
}
# conv_layout is the axis order of upstream's tensors between stages.
TRANSFORMER_KEYS = frozenset(
    {"module_type", "context_duration", "conv_layout", "layer_scale", "max_period", "num_layers", *SIZES, *SUPPORTED}
)
# The scale of a residual branch, and the product that has its rows multiplied by it.
SCALED = (("layer_scale_1.scale", "self_attn.out_proj.weight"), ("layer_scale_2.scale", "ffn.2.weight"))


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

    @classmethod
    def from_dict(cls, block: Raw, around: Surroundings) -> TransformerConfig:
        """Parse a block of config.json.

        Raises:
            ConfigError: unknown keys, an unsupported option, or sizes that contradict each other.
        """
        where = around.where
        reject_unknown(block, TRANSFORMER_KEYS, where)
        for key, allowed in SUPPORTED.items():
            demand(block, key, allowed, where)
        duration = number(block, "context_duration", where, around.context_duration, most=MOST_CONTEXT_SECONDS)
        config = cls(
            **{key: integer(block, key, where, least=1) for key in SIZES},
            num_layers=count(block, "num_layers", where),
            window=_window(duration, around),
            max_period=number(block, "max_period", where, 10000),
            layer_scale=block.get("layer_scale") is not None,
        )
        if config.d_model % config.num_heads or config.head_dim % 2:
            raise ConfigError(
                f"{where}: d_model {config.d_model} does not divide into {config.num_heads} heads of even width."
            )
        return config

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.d_model // self.num_heads

    @property
    def size(self) -> int:
        """Always 1: it does not change the rate."""
        return 1

    @property
    def square_projections(self) -> tuple[str, ...]:
        """The projections that change no width."""
        return tuple(name for name, (rows, columns) in self._projections().items() if rows == columns)

    def rate_after(self, rate: float) -> float:
        """The same rate."""
        return rate

    def steps_after(self, steps: int) -> int:
        """The same number."""
        return steps

    def width_after(self, width: int) -> int | None:
        """The config names both widths."""
        return self.output_dimension if width == self.input_dimension else None

    def shapes(self, version: int) -> Shapes:
        """Projections and layers; the first generation has no projections that change no width."""
        absent = self.square_projections if version == 1 else ()
        shapes: Shapes = {name: shape for name, shape in self._projections().items() if name not in absent}
        layer = self._layer_shapes()
        for index in range(self.num_layers):
            shapes |= {f"transformer.layers.{index}.{name}": shape for name, shape in layer.items()}
        return shapes

    def _projections(self) -> dict[str, tuple[int, int]]:
        return {
            "input_proj.weight": (self.d_model, self.input_dimension),
            "output_proj.weight": (self.output_dimension, self.d_model),
        }

    def _layer_shapes(self) -> Shapes:
        width, hidden = self.d_model, self.dim_feedforward
        layer: Shapes = {
            "self_attn.in_proj.weight": (3 * width, width),
            "self_attn.out_proj.weight": (width, width),
            "ffn.0.weight": (hidden, width),
            "ffn.2.weight": (width, hidden),
        }
        vectors = ["norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"]
        vectors += [scale for scale, _ in SCALED] if self.layer_scale else []
        return layer | dict.fromkeys(vectors, (width,))


def _window(duration: float, around: Surroundings) -> int:
    steps = around.rate * duration
    # v1 truncates, v2 rounds.
    window = int(steps) if around.version == 1 else round(steps)
    if window < 1:
        raise ConfigError(f"{around.where}: a context of {duration} s is shorter than one step at {around.rate:g} Hz.")
    return window


# Upstream's name of a kind of stage -> the class that reads it.
KINDS: Mapping[str, Callable[[Raw, Surroundings], StageConfig]] = {
    "PatchedPretransform": PatchConfig.from_dict,
    "Transformer": TransformerConfig.from_dict,
}


def parse_stage(block: Raw, around: Surroundings) -> StageConfig:
    """Parse a block of encoder_kwargs or decoder_kwargs.

    Raises:
        ConfigError: no known kind of stage, or see the kinds.
    """
    kind = block.get("module_type")
    if not isinstance(kind, str) or kind not in KINDS:
        names = " nor ".join(repr(name) for name in KINDS)
        raise ConfigError(f"{around.where}: module_type {kind!r} is neither {names}.")
    return KINDS[kind](block, around)
