"""Names and shapes of the weights of a sound model: upstream's and other converters' files to the modules here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import mlx.core as mx

from moss_tts.diffusion.decoder import SoundDecoder
from moss_tts.errors import CheckpointError
from moss_tts.weights.layout import load_strict

Weights = Mapping[str, mx.array]

# Modules of the transformer: (ours, upstream's own, published files').
_MODULES = (
    ("patch_embedding", "patch_embedding", "patch_embedding"),
    ("text_embedding.first", "text_embedding.0", "condition_embedder.text_embedder.linear_1"),
    ("text_embedding.last", "text_embedding.2", "condition_embedder.text_embedder.linear_2"),
    ("time_embedding.first", "time_embedding.0", "condition_embedder.time_embedder.linear_1"),
    ("time_embedding.last", "time_embedding.2", "condition_embedder.time_embedder.linear_2"),
    ("time_projection", "time_projection.1", "condition_embedder.time_proj"),
    ("head.head", "head.head", "proj_out"),
    ("head.modulation", "head.modulation", "scale_shift_table"),
)
# The same inside of each block.
_BLOCK_MODULES = (
    *((f"self_attn.{part}", f"self_attn.{part}", f"attn1.to_{part}") for part in "qkv"),
    ("self_attn.o", "self_attn.o", "attn1.to_out.0"),
    *((f"self_attn.norm_{part}", f"self_attn.norm_{part}", f"attn1.norm_{part}") for part in "qk"),
    *((f"cross_attn.{part}", f"cross_attn.{part}", f"attn2.to_{part}") for part in "qkv"),
    ("cross_attn.o", "cross_attn.o", "attn2.to_out.0"),
    *((f"cross_attn.norm_{part}", f"cross_attn.norm_{part}", f"attn2.norm_{part}") for part in "qk"),
    ("norm3", "norm3", "norm2"),
    ("ffn.first", "ffn.0", "ffn.net.0.proj"),
    ("ffn.last", "ffn.2", "ffn.net.2"),
    ("modulation", "modulation", "scale_shift_table"),
)
_BLOCK = re.compile(r"(blocks\.\d+\.)?(.+?)(\.(?:weight|bias|scales|biases))?")
# In front of all names of older fine-tunes.
_FINE_TUNE = "pipe.dit."
# Between the names of a sequence and of its entry, in files of mlx-community.
_ENTRY_OF_SEQUENCE = ".layers."


@dataclass(frozen=True)
class TransformerNames:
    """The names in one file.

    Attributes:
        published: whether they are those of published files, and not those of upstream's own modules.
    """

    published: bool = True

    @staticmethod
    def found_in(names: Mapping[str, object]) -> TransformerNames:
        """The names of a file with such tensors."""
        return TransformerNames(not any(name.endswith("head.modulation") for name in names))

    def our_name(self, name: str) -> str:
        """Our name of a tensor of the file; an unknown name stays."""
        plain = name.removeprefix(_FINE_TUNE).replace(_ENTRY_OF_SEQUENCE, ".")
        return self._renamed(plain, self._column, 0)

    def upstream_name(self, name: str) -> str:
        """The file's name of one of our tensors."""
        return self._renamed(name, 0, self._column)

    @property
    def _column(self) -> int:
        return 2 if self.published else 1

    @staticmethod
    def _renamed(name: str, old: int, new: int) -> str:
        match = _BLOCK.fullmatch(name)
        if match is None:
            return name
        block, module, kind = match.groups("")
        for row in _BLOCK_MODULES if block else _MODULES:
            if row[old] == module:
                return block + row[new] + kind
        return name


def transformer_weights(weights: Weights, names: TransformerNames) -> dict[str, mx.array]:
    """Weights of a transformer under our names. Modulations lose their first axis, the patch its axis of one value.

    Raises:
        CheckpointError: two tensors have one name.
    """
    named: dict[str, mx.array] = {}
    for name, weight in weights.items():
        ours = names.our_name(name)
        if ours in named:
            raise CheckpointError(f"the transformer has {ours} twice, once as {name}.")
        if ours.endswith("modulation") and weight.ndim == 3 and weight.shape[0] == 1:
            weight = weight[0]
        if ours == "patch_embedding.weight" and weight.ndim == 3 and 1 in weight.shape[1:]:
            weight = weight.reshape(weight.shape[0], -1)
        named[ours] = weight
    return named


def in_blocks(name: str) -> bool:
    """Whether a tensor (our name) belongs to a linear layer of a block, and not to a norm or a modulation."""
    return name.startswith("blocks.") and ".norm" not in name and not name.endswith("modulation")


# ------------------------------------------------------------------------------------------------ the decoder

_GAINS = (".weight_g", ".parametrizations.weight.original0")
_DIRECTIONS = (".weight_v", ".parametrizations.weight.original1")
# What the decoder consists of; files of the whole autoencoder have more.
DECODER_PARTS = ("decoder.", "post_quant_conv.")
_UNUSED_PARTS = ("encoder.", "quant_conv.")


class DecoderNames:
    """The names of the decoder's weights, which are ours, but for the spellings of weight norm."""

    def upstream_name(self, name: str) -> str:
        """The name in the file."""
        return name


def load_decoder(decoder: SoundDecoder, weights: Weights, kernel_first: bool = False) -> None:
    """Put the weights of an autoencoder into its decoder, weight norm folded in.

    Args:
        decoder: where they belong.
        weights: tensors by upstream's names; those of the encoder are left out.
        kernel_first: whether convolutions are (out, kernel, in), as converters for MLX write them, and not as torch
            does: (out, in, kernel), or (in, out, kernel) where they are transposed.

    Raises:
        CheckpointError: weights are missing, surplus or of another shape.
    """
    named = {name.replace(_ENTRY_OF_SEQUENCE, "."): weight for name, weight in weights.items()}
    kept = {name: weight for name, weight in named.items() if not name.startswith(_UNUSED_PARTS)}
    folded = _fold(kept)
    stretches = {name for name in folded if re.fullmatch(r"decoder\.model\.\d+\.block\.1\.weight", name)}
    shaped = {name: _shaped(name, weight, kernel_first, name in stretches) for name, weight in folded.items()}
    load_strict(decoder, shaped, DecoderNames())


def _fold(weights: Weights) -> dict[str, mx.array]:
    """Each gain and direction as one weight: the direction's length, over all axes but the first, becomes the gain."""
    folded: dict[str, mx.array] = {}
    for name, weight in weights.items():
        if gain := _gain_of(name):
            if gain not in weights or weights[gain].size != weight.shape[0]:
                raise CheckpointError(f"the autoencoder lacks {gain}, one value for each row of {name}.")
            rows = weight.astype(mx.float32).reshape(weight.shape[0], -1)
            lengths = mx.linalg.norm(rows, axis=1).reshape(-1, *[1] * (weight.ndim - 1))
            folded[_plain(name)] = weights[gain].astype(mx.float32).reshape(lengths.shape) * weight / lengths
        elif not name.endswith(_GAINS):
            folded[name] = weight.astype(mx.float32)
    return folded


def _gain_of(name: str) -> str | None:
    """The name of the gain that belongs to a direction."""
    for gain, direction in zip(_GAINS, _DIRECTIONS, strict=True):
        if name.endswith(direction):
            return name.removesuffix(direction) + gain
    return None


def _plain(direction: str) -> str:
    return next(direction.removesuffix(end) for end in _DIRECTIONS if direction.endswith(end)) + ".weight"


def _shaped(name: str, weight: mx.array, kernel_first: bool, transposed: bool) -> mx.array:
    """A tensor as its module here keeps it: kernels (kernel, in, out), alphas (channels,)."""
    if name.endswith(".alpha"):
        return weight.reshape(-1)
    if weight.ndim != 3:
        return weight
    if kernel_first:
        return weight.transpose(1, 2, 0)
    return weight.transpose(2, 0, 1) if transposed else weight.transpose(2, 1, 0)
