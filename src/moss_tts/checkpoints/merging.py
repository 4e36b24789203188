"""Adapters baked into the weights of a copy, row by row, where that is exact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from moss_tts.adapters.peft import StoredAdapter
from moss_tts.architectures import Architecture
from moss_tts.checkpoints.adapters import Place, placed, places_of
from moss_tts.errors import CheckpointError
from moss_tts.weights.layout import first_names
from moss_tts.weights.stored import StoredTensor


@dataclass(frozen=True, eq=False)
class MergedTensor(StoredTensor):
    """A tensor of a file with products of adapters added.

    Attributes:
        products: (down, up) of each adapter; up holds scale and weight.
    """

    products: tuple[tuple[mx.array, mx.array], ...] = ()

    def rows(self, first: int, last: int) -> mx.array:
        """Rows first..last - 1, computed in float32 and rounded once, to the type of the tensor."""
        rows = super().rows(first, last)
        total = rows.astype(mx.float32)
        for down, up in self.products:
            total = total + up[first:last] @ down
        return total.astype(rows.dtype)


def merged(
    architecture: Architecture[Any, Any],
    tensors: Mapping[str, StoredTensor],
    adapters: Sequence[tuple[StoredAdapter, float]],
) -> dict[str, StoredTensor]:
    """The tensors of a checkpoint with adapters baked in.

    Args:
        architecture: the checkpoint's network; its weights are not read.
        tensors: the tensors of its files by name.
        adapters: the adapters with their weights.

    Raises:
        CheckpointError: an adapter that does not fit, or that cannot be baked in exactly.
    """
    places = dict(places_of(architecture))
    products: dict[Place, list[tuple[mx.array, mx.array]]] = {}
    for adapter, weight in adapters:
        for pair, place in placed(architecture, adapter, places):
            if place.path.startswith(tuple(copy for copy, _ in architecture.layout.copies)):
                raise CheckpointError(
                    f"{adapter} changes the head {place.path}, which is an embedding in {architecture.name}: baked in, "
                    f"it would change what the model reads as well. Use it unmerged, with --lora of generate or serve."
                )
            up = pair.up.astype(mx.float32) * (pair.scale * weight)
            products.setdefault(place, []).append((pair.down.astype(mx.float32), up))
    names = {places.get(architecture.layout.our_path(name.removesuffix(".weight"))): name for name in tensors}
    if lost := [place.path for place in products if place not in names]:
        raise CheckpointError(f"the files of the checkpoint have no tensor of their own for {first_names(lost)}.")
    return dict(tensors) | {
        names[place]: _with_products(tensors[names[place]], tuple(added)) for place, added in products.items()
    }


def _with_products(tensor: StoredTensor, products: tuple[tuple[mx.array, mx.array], ...]) -> MergedTensor:
    mx.eval(products)
    return MergedTensor(**vars(tensor), products=products)
