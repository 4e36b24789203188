"""Adapters put beside the layers of a loaded network: which layer each of their matrices belongs to."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_unflatten

from moss_tts.adapters import CONFIG, WEIGHTS
from moss_tts.adapters.low_rank import Adaptable, Adapted, Adapters, Factors, LowRank
from moss_tts.adapters.peft import Pair, StoredAdapter, read_adapter
from moss_tts.architectures import Architecture
from moss_tts.atomic import expanded
from moss_tts.checkpoints import hub
from moss_tts.checkpoints.loading import JOINED
from moss_tts.checkpoints.names import HUB_ID, is_hub_name
from moss_tts.checkpoints.number_types import computed_dtype
from moss_tts.errors import CheckpointError, RequestError, shown
from moss_tts.weights.layout import first_names

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """Where a linear layer of upstream's network is in ours.

    Attributes:
        path: our layer, or upstream's name of a head that is an embedding.
        start: its first output there; joined layers have several.
        outputs: the number of its outputs.
        inputs: the width that it reads.
    """

    path: str
    start: int
    outputs: int
    inputs: int


def find_adapters(named: Mapping[str, str | Path], token: str | None = None) -> dict[str, Path]:
    """The directories of adapters; those of the hub are fetched if need be.

    Args:
        named: directories, or "ORG/REPO" or "ORG/REPO/FOLDER" of the hub, by the names that requests will use.
        token: hub token, if not the one that is logged in.

    Raises:
        RequestError: not a mapping of names to directories.
        CheckpointError: a directory that does not exist, or the hub does not give it.
    """
    if not isinstance(named, Mapping):
        raise RequestError(f'adapters must be a mapping such as {{"NAME": "DIRECTORY"}}, got {shown(named)}.')
    return {name: _found(name, given, token) for name, given in named.items()}


def _found(name: object, given: object, token: str | None) -> Path:
    if not isinstance(name, str) or not name.strip():
        raise RequestError(f"the name of an adapter must be a text, got {shown(name)}.")
    if not isinstance(given, str | Path):
        raise RequestError(f"adapter {shown(name)} must be given as a directory or a hub id, got {shown(given)}.")
    directory = expanded(given)
    if str(given) and directory.is_dir():
        return directory
    if directory.exists() or not is_hub_name(str(given)):
        raise CheckpointError(
            f"adapter {shown(name)}: there is no directory {shown(str(given))}. An adapter on the hub is named "
            f"ORG/REPO, or ORG/REPO/FOLDER."
        )
    return hub.fetch_files(str(given), (CONFIG, WEIGHTS), token)


def read_adapters(directories: Mapping[str, Path], base: str | None = None) -> list[StoredAdapter]:
    """The adapters of such directories, by their names.

    Args:
        directories: directories by name.
        base: the model that they are for. An adapter that names another one of the hub is used, with a warning.

    Raises:
        CheckpointError: an adapter that cannot be used.
    """
    adapters = [read_adapter(name, directory) for name, directory in directories.items()]
    for adapter in adapters:
        wanted = adapter.trained_on or ""
        if base is not None and wanted != base and HUB_ID.fullmatch(base) and HUB_ID.fullmatch(wanted):
            log.warning("adapter %s was trained on %s, and may misbehave on %s", shown(adapter.name), wanted, base)
    return adapters


def put_adapters(architecture: Architecture[Any, Any], stored: Sequence[StoredAdapter]) -> None:
    """Put adapters beside the layers of a network.

    Args:
        architecture: the network, settled as it runs.
        stored: the adapters.

    Raises:
        CheckpointError: an adapter that does not fit; the network is as it was then.
    """
    if not stored:
        return
    places = dict(places_of(architecture))
    dtype = computed_dtype(architecture.network)
    factors: dict[str, list[Factors]] = {}
    for owner, adapter in enumerate(stored):
        for pair, place in placed(architecture, adapter, places):
            up = (pair.up.astype(mx.float32) * pair.scale).astype(dtype)
            factors.setdefault(place.path, []).append(Factors(owner, place.start, pair.down.astype(dtype), up))
    adapters = Adapters([adapter.name for adapter in stored])
    outputs: dict[str, int] = {}
    for place in places.values():
        outputs[place.path] = max(outputs.get(place.path, 0), place.start + place.outputs)
    made = {path: LowRank(adapters, parts, outputs[path]) for path, parts in factors.items()}
    mx.eval([low_rank.parameters() for low_rank in made.values()])
    _install(architecture.network, adapters, made)


def placed(
    architecture: Architecture[Any, Any], adapter: StoredAdapter, places: Mapping[str, Place]
) -> list[tuple[Pair, Place]]:
    """The matrices of an adapter, each with its place.

    Args:
        architecture: the network.
        adapter: the adapter.
        places: the places of the network by name, from `places_of`.

    Raises:
        CheckpointError: the adapter does not fit the network.
    """
    found = {name: _place(architecture, name, places) for name in adapter.pairs}
    if lost := [name for name, place in found.items() if place is None]:
        raise CheckpointError(
            f"{adapter} changes {first_names(lost)}, and {architecture.name} has no such linear layers. Use it with "
            "the model that it was trained on."
        )
    pairs = []
    for name, place in found.items():
        assert place is not None
        pair = adapter.pairs[name]
        if (pair.down.shape[1], len(pair.up)) != (place.inputs, place.outputs):
            raise CheckpointError(
                f"{adapter} was made for a {name} of {pair.down.shape[1]} inputs and {len(pair.up)} outputs; this "
                f"{architecture.name} has {place.inputs} and {place.outputs} there. Use it with the model that it was "
                f"trained on."
            )
        pairs.append((pair, place))
    if len({place for _, place in pairs}) < len(pairs):
        raise CheckpointError(f"{adapter} has matrices for one layer under two names.")
    return pairs


def _place(architecture: Architecture[Any, Any], name: str, places: Mapping[str, Place]) -> Place | None:
    """The place of a layer by upstream's name, in the whole model or inside its language model."""
    inside = name.removeprefix("model.")
    inside = f"layers.{inside.removeprefix('h.')}" if inside.startswith("h.") else inside
    for path in (architecture.layout.our_path(name), f"backbone.{inside}"):
        if path in places:
            return places[path]
    return None


def places_of(architecture: Architecture[Any, Any]) -> Iterator[tuple[str, Place]]:
    """(name, place) of all linear layers; heads of codebooks have upstream's names."""
    layout, n_vq = architecture.layout, architecture.config.n_vq
    blank = architecture.network_class(architecture.config)
    present = {path for path, _ in architecture.network.named_modules()}
    shapes = {path: module.weight.shape for path, module in blank.named_modules() if isinstance(module, nn.Linear)}
    sources = {stack.target: stack.sources(n_vq, "") for stack in layout.stacks}
    for path, (outputs, inputs) in shapes.items():
        if path in sources:
            for index, source in enumerate(sources[path]):
                rows = outputs // n_vq
                yield source.removesuffix("."), Place(path, index * rows, rows, inputs)
        elif path in present:
            yield path, Place(path, 0, outputs, inputs)
        else:
            yield path, _joined_place(path, shapes)
    for copy, original in layout.copies:
        yield from _tied_places(copy, original, architecture, blank)


def _joined_place(path: str, shapes: Mapping[str, Sequence[int]]) -> Place:
    """The place of a layer that was joined with others that share its input."""
    parent, _, key = path.rpartition(".")
    names = next(names for names in JOINED if key in names)
    before = names[: names.index(key)]
    start = sum(shapes[f"{parent}.{name}"][0] for name in before)
    return Place(f"{parent}.{'_'.join(names)}", start, *shapes[path])


def _tied_places(
    copy: str, original: str, architecture: Architecture[Any, Any], blank: nn.Module
) -> Iterator[tuple[str, Place]]:
    """The heads that are embeddings, by upstream's names: adapters change the head alone."""
    layout, n_vq = architecture.layout, architecture.config.n_vq
    for stack in layout.stacks:
        if stack.source.startswith(original):
            rows, width = blank[stack.target].weight.shape
            for source in stack.sources(n_vq, ""):
                name = copy + source.removeprefix(original).removesuffix(".")
                yield name, Place(name, 0, rows // n_vq, width)
            return
    name = copy.removesuffix(".")
    yield name, Place(name, 0, *blank[layout.our_path(original.removesuffix("."))].weight.shape)


def _install(network: Adaptable, adapters: Adapters, made: Mapping[str, LowRank]) -> None:
    beside = [(path, Adapted(layer, made[path])) for path, layer in network.named_modules() if path in made]
    network.update_modules(tree_unflatten(beside))
    adapters.heads.update({path: made[path] for path in made.keys() - dict(beside).keys()})
    network.adapters = adapters
