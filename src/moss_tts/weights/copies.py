"""Stored copies of embeddings, which upstream ties to them and this runtime does not keep.

A tool that trains or merges such a head alone leaves a file in which the two differ. Upstream's loader then takes the
embedding and drops the head in silence; here that is an error, and the caller may ask for the embedding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import mlx.core as mx

from moss_tts.errors import CheckpointError, RequestError
from moss_tts.weights.layout import listing

# The allowed values of `tied_heads`: None refuses heads that differ.
EMBEDDINGS: Final = "embeddings"
BITS = (2, 3, 4, 5, 6, 8)


def check_tied_heads(tied_heads: str | None) -> None:
    """Refuse a value of `tied_heads` that is not allowed.

    Raises:
        RequestError: neither None nor "embeddings".
    """
    if tied_heads not in (None, EMBEDDINGS):
        raise RequestError(f"tied_heads must be {EMBEDDINGS!r} or None, got {tied_heads!r}.")


def check_copies(weights: Mapping[str, mx.array], copies: Sequence[tuple[str, str]]) -> None:
    """Compare each stored copy with its embedding, one after the other.

    Two types are compared in the narrower one. A quantised copy of an embedding that is not quantised may differ by one
    step of its quantisation.

    Args:
        weights: tensors by upstream's names, lazily read.
        copies: (prefix of the copy's name, prefix of the embedding's).

    Raises:
        CheckpointError: copies that differ, by name.
    """
    differing = [name for name, original in _pairs(weights, copies) if not _same(weights, name, original)]
    if differing:
        one = len(differing) == 1
        raise CheckpointError(
            f"the checkpoint has {listing(differing)}, which {'differs from its' if one else 'differ from their'} "
            f"embedding though both are one tensor in this architecture. Probably a head was trained or merged alone. "
            f'tied_heads="{EMBEDDINGS}" (--tied-heads {EMBEDDINGS}) drops such heads, as upstream\'s loader does.'
        )


def _pairs(weights: Mapping[str, mx.array], copies: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    for name in weights:
        for copy, original in copies:
            embedding = original + name.removeprefix(copy)
            if name.startswith(copy) and name.endswith(".weight") and embedding in weights:
                yield name, embedding


def _same(weights: Mapping[str, mx.array], name: str, original: str) -> bool:
    copy, embedding, head = weights[name], weights[original], name.removesuffix("weight")
    scales = weights.get(f"{head}scales")
    if scales is not None and copy.dtype == mx.uint32 and mx.issubdtype(embedding.dtype, mx.floating):
        return _rounded(copy, scales, weights.get(f"{head}biases"), embedding)
    if copy.shape != embedding.shape:
        return False
    narrower = min(copy.dtype, embedding.dtype, key=lambda dtype: dtype.size)
    return mx.array_equal(copy.astype(narrower), embedding.astype(narrower), equal_nan=True).item() is True


def _rounded(packed: mx.array, scales: mx.array, biases: mx.array | None, embedding: mx.array) -> bool:
    width, groups = embedding.shape[-1], scales.shape[-1]
    bits = 32 * packed.shape[-1] // width
    if biases is None or packed.shape[:-1] != embedding.shape[:-1] or bits not in BITS or width % groups:
        return False
    restored = mx.dequantize(packed, scales, biases, group_size=width // groups, bits=bits)
    grouped = (*embedding.shape[:-1], groups, width // groups)
    wanted = embedding.astype(mx.float32).reshape(grouped)
    error = mx.abs(restored.astype(mx.float32).reshape(grouped) - wanted).max(axis=-1)
    # Scales and biases of 16 bits were rounded as well.
    step = mx.abs(scales.astype(mx.float32)) + mx.abs(wanted).max(axis=-1) / 128
    return bool((error <= step).all().item())
