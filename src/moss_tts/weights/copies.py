"""Stored copies of embeddings, which upstream ties to them and this runtime does not keep.

A tool that trains or merges such a head alone leaves a file in which the two differ. Upstream's loader then takes the
embedding and drops the head in silence; here that is an error, and the caller may ask for the embedding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import mlx.core as mx

from moss_tts.errors import CheckpointError, RequestError
from moss_tts.weights.layout import SUFFIXES, first_names
from moss_tts.weights.quantisation import MODES, SETTINGS

# The allowed values of `tied_heads`: None refuses heads that differ.
EMBEDDINGS: Final = "embeddings"
# Rows that are compared at once: a whole text vocabulary in float32 would take more memory than some models.
ROWS = 4096


def check_tied_heads(tied_heads: str | None) -> None:
    """Refuse a value of `tied_heads` that is not allowed.

    Raises:
        RequestError: neither None nor "embeddings".
    """
    if tied_heads not in (None, EMBEDDINGS):
        raise RequestError(f"tied_heads must be {EMBEDDINGS!r} or None, got {tied_heads!r}.")


def check_copies(
    weights: Mapping[str, mx.array],
    copies: Sequence[tuple[str, str]],
    width: int,
    quantization: Mapping[str, Any] | None = None,
) -> None:
    """Compare each stored copy with its embedding, one after the other.

    Two types are compared in the narrower one. Where one or both are quantised, they may differ by a step of that.

    Args:
        weights: tensors by upstream's names, lazily read.
        copies: (prefix of the copy's name, prefix of the embedding's).
        width: the number of values in a row of an embedding.
        quantization: the block of that name in config.json.

    Raises:
        CheckpointError: copies that differ, by name, or tensors with such names that are no copies.
    """
    stored = dict(stored_copies(weights, copies))
    known = {name.removesuffix("weight") + suffix for name in stored for suffix in SUFFIXES}
    prefixes = tuple(copy for copy, _ in copies)
    if strays := [name for name in weights if name.startswith(prefixes) and name not in known]:
        raise CheckpointError(f"the checkpoint has weights this architecture does not know: {first_names(strays)}.")
    differing = []
    for name, original in stored.items():
        copy, embedding = (Table.stored(weights, key, width, quantization or {}) for key in (name, original))
        if copy is None or embedding is None or not copy.repeats(embedding):
            differing.append(name)
    if differing:
        one = len(differing) == 1
        raise CheckpointError(
            f"the checkpoint has {first_names(differing)}, which {'differs from its' if one else 'differ from their'} "
            f"embedding though both are one tensor in this architecture. Probably a head was trained or merged alone. "
            f'tied_heads="{EMBEDDINGS}" (--tied-heads {EMBEDDINGS}) drops such heads, as upstream\'s loader does.'
        )


def stored_copies(names: Iterable[str], copies: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """(name of a stored copy, name of its embedding), of the tensors of a file."""
    present = set(names)
    for name in present:
        for copy, original in copies:
            embedding = original + name.removeprefix(copy)
            if name.startswith(copy) and name.endswith(".weight") and embedding in present:
                yield name, embedding


@dataclass(frozen=True)
class Table:
    """A matrix (rows, width) as it is stored.

    Attributes:
        weight: its values, packed if it is quantised.
        scales: the scales of its groups; None if it is not quantised.
        biases: the biases of its groups, in mode affine.
        settings: group_size, bits and mode.
    """

    weight: mx.array
    scales: mx.array | None = None
    biases: mx.array | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def stored(
        cls, weights: Mapping[str, mx.array], name: str, width: int, quantization: Mapping[str, Any]
    ) -> Table | None:
        """A tensor of a file; None if its shapes are none of a matrix of that width."""
        stem = name.removesuffix("weight")
        weight, scales, biases = weights[name], weights.get(f"{stem}scales"), weights.get(f"{stem}biases")
        if scales is None or weight.dtype != mx.uint32:
            return cls(weight) if weight.ndim == 2 and weight.shape[1] == width else None
        override = quantization.get(stem.removesuffix("."))
        mode = (override if isinstance(override, Mapping) else quantization).get("mode", "affine")
        shapes = [array.shape for array in (weight, scales, biases) if array is not None]
        if mode not in MODES or (mode == "affine") != (biases is not None) or {len(shape) for shape in shapes} != {2}:
            return None
        if len({shape[0] for shape in shapes}) > 1 or not scales.shape[1]:
            return None
        settings = {"group_size": width // scales.shape[1], "bits": 32 * weight.shape[1] // width, "mode": mode}
        if any(settings[key] not in allowed for key, allowed in SETTINGS.items()):
            return None
        return cls(weight, scales, biases, settings)

    def repeats(self, other: Table) -> bool:
        """Whether both hold the same values, as far as their types can tell."""
        count = len(self.weight)
        return len(other.weight) == count and all(
            self.part(first)._near(other.part(first)) for first in range(0, count, ROWS)
        )

    def part(self, first: int) -> Table:
        """Up to ROWS rows from that one on."""
        rows = slice(first, first + ROWS)
        scales, biases = (None if array is None else array[rows] for array in (self.scales, self.biases))
        return Table(self.weight[rows], scales, biases, self.settings)

    def _near(self, other: Table) -> bool:
        if self.scales is None and other.scales is None:
            narrower = min(self.weight.dtype, other.weight.dtype, key=lambda dtype: dtype.size)
            left, right = self.weight.astype(narrower), other.weight.astype(narrower)
            return mx.array_equal(left, right, equal_nan=True).item() is True
        left, right = self._values(), other._values()
        # Scales and biases of 16 bits were rounded as well.
        allowed = 2 * (self._rounding(right) + other._rounding(left)) + mx.abs(right).max(axis=1, keepdims=True) / 128
        return (mx.abs(left - right) <= allowed).all().item() is True

    def _values(self) -> mx.array:
        """(rows, width) in float32."""
        if self.scales is None:
            return self.weight.astype(mx.float32)
        scales, biases = self.scales, self.biases
        if biases is not None:
            scales, biases = scales.astype(mx.float32), biases.astype(mx.float32)
        return mx.dequantize(self.weight, scales, biases, **self.settings).astype(mx.float32)

    def _rounding(self, values: mx.array) -> mx.array:
        """(rows, 1): how far values (rows, width) move at most when they are stored as this table is."""
        if self.scales is None:
            return mx.zeros((len(values), 1))
        restored = mx.dequantize(*mx.quantize(values, **self.settings), **self.settings)
        return mx.abs(restored - values).max(axis=1, keepdims=True)
