"""Sizes of a GPT-2 style decoder, the depth transformer of Local v1.5."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from moss_tts.errors import ConfigError
from moss_tts.strict import Raw, demand, integer, number, reject_unknown


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
