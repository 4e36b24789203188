"""Sizes of a Qwen3 decoder, the backbone of most architectures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Self

from moss_tts.errors import ConfigError, shown
from moss_tts.strict import Raw, count, demand, integer, number, optional, reject_unknown


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
        kinds = optional(raw, "layer_types", list, "a list", where)
        if kinds and any(kind != "full_attention" for kind in kinds):
            raise ConfigError(f"{where}: layer_types may hold full_attention only, got {shown(kinds)}.")
        hidden = integer(raw, "hidden_size", where, least=1)
        heads = integer(raw, "num_attention_heads", where, least=1)
        config = cls(
            hidden_size=hidden,
            num_hidden_layers=count(raw, "num_hidden_layers", where),
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
    blocks = [optional(raw, key, Mapping, "an object", where) for key in ("rope_parameters", "rope_scaling")]  # type: ignore[type-abstract]
    rope = blocks[0] or blocks[1] or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise ConfigError(f"{where}: rope_type {shown(kind)} is not supported; allowed: 'default'.")
    return number({**raw, **rope}, "rope_theta", where, 1e6)
