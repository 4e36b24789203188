"""The plan of a conversion: how each tensor of a checkpoint is written, from headers alone.

Names stay those of the source. convert.py writes what is planned here, and inspection.py says what it would need.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from moss_tts.adapters.low_rank import Wanted
from moss_tts.adapters.peft import StoredAdapter
from moss_tts.architectures import ARCHITECTURES
from moss_tts.checkpoints import gptq
from moss_tts.checkpoints.loading import CODEC_PREFIX, quantizable_modules, unread_network
from moss_tts.checkpoints.merging import merged
from moss_tts.config import MossConfig
from moss_tts.errors import RequestError
from moss_tts.weights.layout import SUFFIXES, read_weights
from moss_tts.weights.quantisation import Precision, Recipe
from moss_tts.weights.shards import Output, Slot, stored_tensors
from moss_tts.weights.stored import StoredTensor


@dataclass(frozen=True)
class Plan:
    """The plan of a copy.

    Attributes:
        outputs: the weights, in the order of the source's files.
        recipe: how layers are quantised; None if none is.
        dtype: the type of other weights; None keeps the stored type.
        precisions: the file's name of each quantised module -> its precision.
        calibrated: whether they are rounded by their inputs (GPTQ).
        adapters: (name, weight) of each adapter that is baked in.
    """

    outputs: tuple[Output, ...]
    recipe: Recipe | None
    dtype: mx.Dtype | None
    precisions: Mapping[str, Precision]
    calibrated: bool = False
    adapters: Wanted = ()

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(output.nbytes for output in self.outputs)

    @property
    def bits_per_weight(self) -> float:
        """Bits in the file per value of the source, scales included."""
        return 8 * self.nbytes / sum(prod(output.source.shape) for output in self.outputs)

    @property
    def block(self) -> dict[str, Any] | None:
        """The `quantization` block of config.json: the precision of most layers, and the others by name."""
        if self.recipe is None:
            return None
        usual = self.recipe.low
        return usual.block | {name: one.block for name, one in self.precisions.items() if one != usual}


# Path of a layer (our names) -> the factor of its inputs that gptq.quantize rounds by.
Factors = Callable[[str], np.ndarray]


def plan(
    directory: Path,
    config: MossConfig,
    recipe: Recipe | None = None,
    dtype: mx.Dtype | None = None,
    factors: Factors | None = None,
    adapters: Sequence[tuple[StoredAdapter, float]] = (),
) -> Plan:
    """Plan how each tensor of a checkpoint is written; only headers are read.

    Args:
        directory: the directory of the source.
        config: its config.
        recipe: how to quantise; None quantises nothing.
        dtype: the type of other weights and of scales; None keeps the stored types. A fused codec keeps its own.
        factors: gives the factors of a calibration when a layer is written; None rounds each weight by itself.
        adapters: adapters with weights, which are baked into the copy.

    Raises:
        CheckpointError: broken files, weights that do not fit the config, or an adapter that cannot be baked in.
        RequestError: the source is quantised already.
    """
    if (recipe is not None or adapters) and config.quantization is not None:
        raise RequestError(f"{directory} is quantised already; convert the model it was made from.")
    kind = ARCHITECTURES[type(config)]
    network, _ = unread_network(config, read_weights(directory))
    may = set() if recipe is None else quantizable_modules(network, kind.protected)
    outputs, precisions = [], {}
    tensors = stored_tensors(directory)
    if adapters:
        tensors = merged(kind(config, network), tensors, adapters)
    for name, tensor in tensors.items():
        module = name.removesuffix(".weight")
        path = kind.layout.our_path(module)
        if name.startswith(CODEC_PREFIX):
            outputs.append(cast_tensor(name, tensor, None))
        elif module != name and path in may and (precision := _precision(path, tensor, recipe, config)):
            precisions[module] = precision
            factor = None if factors is None else partial(factors, path)
            outputs.append(quantised_tensor(module, tensor, precision, dtype, factor))
        elif not kind.layout.drops(name):
            outputs.append(cast_tensor(name, tensor, dtype))
    if recipe is not None and not precisions:
        raise RequestError(
            f"no layer of {directory} has a width that is a multiple of {recipe.low.group_size}; use a smaller group."
        )
    baked = tuple((adapter.name, weight) for adapter, weight in adapters)
    return Plan(tuple(outputs), recipe, dtype, precisions, factors is not None, baked)


def _precision(path: str, tensor: StoredTensor, recipe: Recipe | None, config: MossConfig) -> Precision | None:
    """The precision of a module that may be quantised; None if it does not divide into groups."""
    if recipe is None:
        return None
    precision = recipe.precision(path, config.backbone.num_hidden_layers)
    return precision if precision.fits(tensor.shape) else None


def cast_tensor(name: str, tensor: StoredTensor, dtype: mx.Dtype | None) -> Output:
    """How a tensor is written as it is, in another type if it has floats; None keeps its own."""
    kept = dtype is None or not mx.issubdtype(tensor.dtype, mx.floating)
    slot = Slot(name, tensor.dtype if kept else dtype, tensor.shape)  # type: ignore[arg-type]
    return Output(tensor, (slot,), lambda rows: [rows.astype(slot.dtype)])


def quantised_tensor(
    module: str,
    tensor: StoredTensor,
    precision: Precision,
    dtype: mx.Dtype | None,
    factor: Callable[[], np.ndarray] | None = None,
) -> Output:
    """How the matrix of a module is written quantised.

    Args:
        module: the file's name of the module.
        tensor: the matrix.
        precision: how it is quantised.
        dtype: the type of its scales; None is the stored type.
        factor: see `plan`.
    """
    stored = dtype or tensor.dtype
    # mlx knows the shapes; a row is enough to ask.
    parts = precision.quantize(mx.zeros((1, tensor.shape[1]), stored))
    names = [f"{module}.{suffix}" for suffix in SUFFIXES[: len(parts)]]
    slots = [Slot(name, part.dtype, (tensor.shape[0], part.shape[1])) for name, part in zip(names, parts, strict=True)]

    def make(rows: mx.array) -> tuple[mx.array, ...]:
        rows = rows.astype(stored)
        return precision.quantize(rows) if factor is None else gptq.quantize(rows, factor(), precision)

    return Output(tensor, tuple(slots), make)
