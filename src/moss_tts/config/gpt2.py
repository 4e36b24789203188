"""Sizes of a GPT-2 style decoder: the depth transformer of Local v1.5, both decoders of Nano."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from moss_tts.errors import ConfigError
from moss_tts.strict import Raw, count, demand, integer, number, reject_unknown

OWN_KEYS = frozenset(
    """
    n_embd n_head n_inner n_layer activation_function layer_norm_epsilon position_embedding_type rope_base
    pad_token_id vocab_size
    """.split()
)


@dataclass(frozen=True)
class GPT2Config:
    """A decoder with biases and layer norms (upstream's `gpt2_config`).

    Attributes:
        vocab_size: the size of the text vocabulary; 0 if the block names none.
        positions: rows of a sequence at most; 0 where there is no bound.
        activation: "silu" or "gelu_new".
        rotary: whether positions are rotary; else they are learned.
    """

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    vocab_size: int
    positions: int
    layer_norm_eps: float
    activation: str
    rotary: bool
    rope_base: float

    @property
    def num_key_value_heads(self) -> int:
        """Heads of keys: as many as of queries."""
        return self.num_attention_heads

    @property
    def head_dim(self) -> int:
        """Width of a head."""
        return self.hidden_size // self.num_attention_heads

    @classmethod
    def from_dict(cls, raw: Raw, *, layers: int | None = None, positions: int = 0) -> Self:
        """Parse `gpt2_config`.

        Args:
            raw: the block.
            layers: beats the block's n_layer.
            positions: see the class.

        Raises:
            ConfigError: unknown keys, unsupported features or bad sizes.
        """
        where = "gpt2_config"
        reject_unknown(raw, OWN_KEYS, where)
        demand(raw, "activation_function", ("silu", "gelu_new"), where)
        demand(raw, "position_embedding_type", ("rope", "absolute"), where)
        demand(raw, "scale_attn_weights", (True,), where)
        demand(raw, "scale_attn_by_inverse_layer_idx", (False,), where)
        width = integer(raw, "n_embd", where, least=1)
        heads = integer(raw, "n_head", where, least=1)
        if width % heads:
            raise ConfigError(f"{where}: n_embd {width} does not divide among {heads} heads.")
        return cls(
            hidden_size=width,
            num_hidden_layers=layers or count(raw, "n_layer", where, default=1),
            num_attention_heads=heads,
            intermediate_size=integer(raw, "n_inner", where, default=4 * width, least=1),
            vocab_size=integer(raw, "vocab_size", where, default=0),
            positions=positions,
            layer_norm_eps=number(raw, "layer_norm_epsilon", where, 1e-6),
            activation=raw.get("activation_function", "silu"),
            rotary=raw.get("position_embedding_type", "absolute") == "rope",
            rope_base=number(raw, "rope_base", where, 10000.0),
        )
