"""Weight files: reading safetensors, and the names and stacking that differ between upstream's files and this package.

A model declares a `Layout`; this module applies it in both directions, so that the strict check, the messages
that name a weight and the list of what upstream stores all come from one table.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from moss_tts.atomic import open_regular
from moss_tts.errors import CheckpointError, first_of
from moss_tts.strict import parse_json
from moss_tts.weights.headers import read_header
from moss_tts.weights.pickled import SUFFIX, read_pickled
from moss_tts.weights.stored import check_content

log = logging.getLogger(__name__)

Shapes = dict[str, tuple[int, ...]]
INDEX_FILE = "model.safetensors.index.json"
PICKLED_INDEX_FILE = "pytorch_model.bin.index.json"
# (index, whole file, all files) of a checkpoint's weights; the first form that exists is used.
_FORMS = (
    (INDEX_FILE, "model.safetensors", "model*.safetensors"),
    (PICKLED_INDEX_FILE, "pytorch_model.bin", "pytorch_model*.bin"),
)
# The longest JSON file is an index; one with a thousand tensors takes 100 KB.
MOST_JSON_BYTES = 2**23
SUFFIXES = ("weight", "scales", "biases")


@dataclass(frozen=True)
class Stack:
    """Per-codebook tensors of the file that become one of our tensors, joined along their rows.

    Attributes:
        target: the name of our module, such as "audio_head".
        source: the name of upstream's module with {} for the index, such as "lm_heads.{}".
        first: the index of the first tensor.
    """

    target: str
    source: str
    first: int

    def sources(self, count: int, suffix: str = "weight") -> list[str]:
        """Upstream's names of `count` tensors, in order."""
        return [f"{self.source.format(self.first + index)}.{suffix}" for index in range(count)]


class Names(Protocol):
    """What messages need to know of the names in a file."""

    def upstream_name(self, name: str) -> str:
        """The file's name of one of our tensors."""
        ...


@dataclass(frozen=True)
class Layout:
    """How a checkpoint of one architecture names its tensors.

    Attributes:
        prefixes: (upstream's prefix, our prefix); the first that fits is used.
        stacks: per-codebook tensors that are joined.
        aliases: (other spelling of a prefix, upstream's) of fused or re-saved files.
        dropped: prefixes of tensors that are not used.
        copies: (prefix of a stored copy, prefix of the embedding that is kept for both).
    """

    prefixes: tuple[tuple[str, str], ...]
    stacks: tuple[Stack, ...]
    aliases: tuple[tuple[str, str], ...] = ()
    dropped: tuple[str, ...] = ()
    copies: tuple[tuple[str, str], ...] = ()

    def sanitize(self, weights: Mapping[str, mx.array], n_vq: int) -> dict[str, mx.array]:
        """Weights under our names, from a file of upstream, a fused or re-saved file, or a file of this package.

        Raises:
            CheckpointError: a codebook's tensor is missing, or a tensor is there twice under two names.
        """
        named = _renamed(weights, self.aliases)
        kept = {name: weight for name, weight in named.items() if not self._is_dropped(name)}
        for stack in self.stacks:
            kept |= _join(stack, kept, n_vq)
        return _renamed(kept, self.prefixes)

    def our_path(self, path: str) -> str:
        """Our name of a module, from its name in a file."""
        return _replace_prefix(_replace_prefix(f"{path}.", self.aliases), self.prefixes).removesuffix(".")

    def joined_paths(self, n_vq: int) -> dict[str, str]:
        """Our names of joined modules, by upstream's names of their parts."""
        return {source.removesuffix("."): stack.target for stack in self.stacks for source in stack.sources(n_vq, "")}

    def drops(self, name: str) -> bool:
        """Whether a tensor of the file is not used."""
        return self._is_dropped(_replace_prefix(name, self.aliases))

    def _is_dropped(self, name: str) -> bool:
        copies = [copy for copy, _ in self.copies]
        return name.startswith((*self.dropped, *copies, "codec_model.")) or name.endswith("num_batches_tracked")

    def upstream_shapes(self, model: nn.Module, n_vq: int) -> Shapes:
        """Names and shapes that upstream stores for this (unquantised) model; nothing is evaluated."""
        shapes: Shapes = {}
        for name, (rows, *rest) in parameter_shapes(model).items():
            stack = next((stack for stack in self.stacks if name == f"{stack.target}.weight"), None)
            if stack is None:
                shapes[self.upstream_name(name)] = (rows, *rest)
            else:
                shapes |= dict.fromkeys(stack.sources(n_vq), (rows // n_vq, *rest))
        return shapes

    def upstream_name(self, name: str) -> str:
        """Upstream's name of one of our tensors that is not stacked."""
        return _replace_prefix(name, tuple((ours, theirs) for theirs, ours in self.prefixes))


def _renamed(weights: Mapping[str, mx.array], table: tuple[tuple[str, str], ...]) -> dict[str, mx.array]:
    renamed: dict[str, mx.array] = {}
    for name, weight in weights.items():
        if (new := _replace_prefix(name, table)) in renamed:
            raise CheckpointError(f"the checkpoint has {new} twice, once as {name}.")
        renamed[new] = weight
    return renamed


def _replace_prefix(name: str, table: tuple[tuple[str, str], ...]) -> str:
    for old, new in table:
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


def _join(stack: Stack, weights: dict[str, mx.array], count: int) -> dict[str, mx.array]:
    """Take the per-codebook tensors out of `weights` and return them joined."""
    if f"{stack.target}.weight" in weights:
        return {}
    joined = {}
    for suffix in SUFFIXES:
        names = stack.sources(count, suffix)
        missing = [name for name in names if name not in weights]
        if len(missing) == count and suffix != "weight":
            continue
        if missing:
            raise CheckpointError(f"the checkpoint lacks {first_names(missing)}.")
        parts = [weights.pop(name) for name in names]
        if other := next((name for name, part in zip(names, parts, strict=True) if part.shape != parts[0].shape), None):
            raise CheckpointError(
                f"the checkpoint has {other} and {names[0]} in different shapes; all codebooks must be stored alike."
            )
        # The strict check refuses what no axis can be joined along.
        joined[f"{stack.target}.{suffix}"] = mx.concatenate(parts) if parts[0].ndim else mx.stack(parts)
    return joined


def parameter_shapes(model: nn.Module) -> Shapes:
    """Names and shapes of a module's parameters; nothing is evaluated."""
    flat: list[tuple[str, mx.array]] = tree_flatten(model.parameters())  # type: ignore[assignment]
    return {name: tuple(value.shape) for name, value in flat}


def leaves(model: nn.Module) -> list[nn.Module]:
    """The modules that hold no other modules."""
    flat: list[tuple[str, nn.Module]] = tree_flatten(model.leaf_modules(), is_leaf=nn.Module.is_module)  # type: ignore[assignment]
    return [module for _, module in flat]


def read_leaves(model: nn.Module) -> None:
    """Read the weights of a module, layer by layer.

    Layers draw their first weights from MLX's random key, and nobody computes these. The key itself is computed here:
    otherwise each model that is loaded would make a chain of keys longer, which is never freed.
    """
    for module in leaves(model):
        mx.eval(module.parameters())
    mx.eval(mx.random.state)


def load_strict(model: nn.Module, weights: Mapping[str, mx.array], layout: Names) -> None:
    """Put weights (our names) into the module.

    Raises:
        CheckpointError: weights are missing, surplus, of another shape, or integers in place of fractions; the message
            has their names as upstream writes them.
    """
    own: list[tuple[str, mx.array]] = tree_flatten(model.parameters())  # type: ignore[assignment]
    floating = {name for name, value in own if mx.issubdtype(value.dtype, mx.floating)}
    expected = {name: tuple(value.shape) for name, value in own}
    problems = []
    if missing := [layout.upstream_name(name) for name in expected if name not in weights]:
        problems.append(f"lacks {first_names(missing)}")
    if surplus := [layout.upstream_name(name) for name in weights if name not in expected]:
        problems.append(f"has weights this architecture does not know: {first_names(surplus)}")
    shared = expected.keys() & weights.keys()
    if wrong := sorted(name for name in shared if tuple(weights[name].shape) != expected[name]):
        name = wrong[0]
        problems.append(
            f"has {layout.upstream_name(name)} of shape {tuple(weights[name].shape)} where config.json asks "
            f"for {expected[name]}" + (f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else "")
        )
    if whole := sorted(name for name in shared & floating if not mx.issubdtype(weights[name].dtype, mx.floating)):
        names = first_names([layout.upstream_name(name) for name in whole])
        problems.append(f"has {names} in whole numbers, which must be floating-point numbers")
    if problems:
        raise CheckpointError(f"the checkpoint {'; it '.join(problems)}.")
    model.load_weights(list(weights.items()), strict=True)


def first_names(names: Iterable[str]) -> str:
    """The first names in order, and how many more there are."""
    return first_of(sorted(names), 3)


# ---------------------------------------------------------------------------------------------------- files


def read_weights(directory: Path) -> dict[str, mx.array]:
    """All tensors of a checkpoint directory. Values of safetensors are read only when they are evaluated.

    Raises:
        CheckpointError: no weights, a shard that the index names is missing, or a file is broken or cut off.
    """
    return read_files(weight_files(directory))


def read_files(files: Iterable[Path]) -> dict[str, mx.array]:
    """All tensors of some files; see `read_weights`.

    Raises:
        CheckpointError: a file is broken or cut off, or a tensor is in two of them.
    """
    weights: dict[str, mx.array] = {}
    for path in files:
        found = read_pickled(path) if is_pickled(path) else read_safetensors(path)
        if twice := sorted(found.keys() & weights.keys()):
            raise CheckpointError(f"{path.parent} has {first_names(twice)} in two files.")
        weights |= found
    return weights


def is_pickled(path: Path) -> bool:
    """Whether a weight file is one of torch.save, and not a safetensors file."""
    return path.suffix == SUFFIX


def read_safetensors(path: Path) -> dict[str, mx.array]:
    """All tensors of a safetensors file. Values are read only when they are evaluated.

    Raises:
        CheckpointError: the file is broken or cut off.
    """
    read_header(path)
    try:
        return cast(dict[str, mx.array], mx.load(str(path)))
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def weight_files(directory: Path) -> list[Path]:
    """The weight files of a checkpoint, shards in order: safetensors, or else pytorch_model*.bin.

    Raises:
        CheckpointError: there are none, or a shard that the index names is missing and there is no whole file either.
    """
    for names in _FORMS:
        if files := _files(directory, *names):
            return files
    raise CheckpointError(f"{directory} holds no model*.safetensors, and no pytorch_model*.bin either.")


def _files(directory: Path, index_name: str, whole_name: str, pattern: str) -> list[Path]:
    """The files of one form; none if there is neither an index nor a file."""
    index, whole = directory / index_name, directory / whole_name
    if not index.is_file():
        return sorted(directory.glob(pattern))
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise CheckpointError(f"{index} must hold a weight_map from weights to files.")
    names = sorted(set(weight_map.values()))
    if outside := [name for name in names if Path(name).name != name]:
        raise CheckpointError(f"{index} names files that are not beside it: {first_names(outside)}.")
    if others := [name for name in names if Path(name).suffix != whole.suffix]:
        raise CheckpointError(f"{index} names files that are no {whole.suffix} files: {first_names(others)}.")
    missing = [name for name in names if not (directory / name).is_file()]
    if missing and whole.is_file():
        log.warning("%s names shards that are not there: %s; %s was read", index, first_names(missing), whole.name)
        return [whole]
    if missing or not names:
        raise CheckpointError(f"{index} names shards that are not there: {first_names(missing) or 'none at all'}.")
    return [directory / name for name in names]


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        CheckpointError: it does not exist, is not a file, is too long, is not JSON, or is not an object.
    """
    check_content(path)
    try:
        with open_regular(path) as file:
            content = file.read(MOST_JSON_BYTES + 1) or b""
        if len(content) > MOST_JSON_BYTES:
            raise ValueError(f"it is longer than {MOST_JSON_BYTES} bytes")
        value = parse_json(content)
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {error}.") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} must hold a JSON object, not {type(value).__name__}.")
    return value
