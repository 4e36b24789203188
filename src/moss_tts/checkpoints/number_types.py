"""The types of numbers: which one a network computes in, and in which ones its weights are kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import mlx.core as mx
import mlx.nn as nn

from moss_tts.device.kernels import keeps_stored_type
from moss_tts.errors import RequestError

DTYPES = {"float32": mx.float32, "bfloat16": mx.bfloat16}


def compute_dtype(asked: str | None, stored: mx.Dtype) -> mx.Dtype:
    """The type to compute in.

    As asked; else float32 on a CPU, where half precision has no fast path; else as stored, but never float16,
    which overflows in the backbone.

    Raises:
        RequestError: asked for a type that cannot be computed in.
    """
    if asked is not None:
        if asked not in DTYPES:
            why = " (it overflows in the backbone)" if asked == "float16" else ""
            raise RequestError(f"dtype must be one of {', '.join(DTYPES)}, got {asked!r}{why}.")
        return DTYPES[asked]
    if mx.default_device() == mx.cpu:
        return mx.float32
    return mx.bfloat16 if stored == mx.float16 else stored


def stored_dtype(weights: Mapping[str, mx.array]) -> mx.Dtype:
    """The type of most floating-point values."""
    sizes: dict[mx.Dtype, int] = {}
    for weight in weights.values():
        if mx.issubdtype(weight.dtype, mx.floating):
            sizes[weight.dtype] = sizes.get(weight.dtype, 0) + weight.size
    return max(sizes, key=lambda dtype: sizes[dtype], default=mx.float32)


def cast_weights(network: nn.Module, dtype: mx.Dtype) -> None:
    """Turn weights into the type to compute in, but for those that the device multiplies as they are stored."""
    for _, module in network.named_modules():
        arrays = [(name, value) for name, value in module.items() if isinstance(value, mx.array)]
        for name, array in arrays:
            floating = mx.issubdtype(array.dtype, mx.floating)
            if floating and not keeps_stored_type(module, name, array, dtype):
                module[name] = array.astype(dtype)


def computed_dtype(network: nn.Module) -> mx.Dtype:
    """The type that a loaded network computes in."""
    return cast(mx.Dtype, network["backbone"]["norm"].weight.dtype)
