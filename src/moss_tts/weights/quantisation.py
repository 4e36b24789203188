"""How precisely each layer of a network is kept: one precision for all, or recipes that protect important layers.

The architecture decides which layers may be quantised at all (loading.quantizable).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx

from moss_tts.errors import CheckpointError, RequestError, shown

# Mode -> default group size and bits, as in mlx-lm.
MODES = {"affine": (64, 4), "mxfp4": (32, 4), "nvfp4": (16, 4), "mxfp8": (32, 8)}
AFFINE_BITS = (2, 3, 4, 5, 6, 8)
AFFINE_GROUPS = (32, 64, 128)
# What a `quantization` block may say, of all layers or of one; mlx divides by a group size without looking at it.
SETTINGS = {"group_size": (16, *AFFINE_GROUPS), "bits": AFFINE_BITS, "mode": tuple(MODES)}
# Their values where the block says nothing, as in mlx-lm. All other keys of the block name layers.
DEFAULTS: Mapping[str, Any] = {"group_size": 64, "bits": 4, "mode": "affine"}
LAYER = re.compile(r"backbone\.layers\.(\d+)\.")


def check_settings(settings: Mapping[str, Any]) -> None:
    """Refuse settings of a `quantization` block that mlx does not have.

    Raises:
        CheckpointError: one of them is out of range.
    """
    for key, allowed in SETTINGS.items():
        if key in settings and settings[key] not in allowed:
            known = ", ".join(map(str, allowed))
            raise CheckpointError(
                f"the quantization block of config.json has {key} = {shown(settings[key])}; allowed: {known}."
            )


@dataclass(frozen=True)
class Precision:
    """How a quantised layer is stored, as in the `quantization` block of config.json."""

    bits: int
    group_size: int
    mode: str = "affine"

    @classmethod
    def of(cls, bits: int | None, group_size: int | None, mode: str = "affine") -> Precision:
        """The precision that was asked for, completed by the defaults of the mode.

        Raises:
            RequestError: a combination that mlx does not have.
        """
        if mode not in MODES:
            raise RequestError(f"q_mode must be one of {', '.join(MODES)}, got {mode!r}.")
        usual_group, usual_bits = MODES[mode]
        precision = cls(bits or usual_bits, group_size or usual_group, mode)
        bits_allowed = AFFINE_BITS if mode == "affine" else (usual_bits,)
        groups_allowed = AFFINE_GROUPS if mode == "affine" else (usual_group,)
        for name, value, allowed in (
            ("q_bits", precision.bits, bits_allowed),
            ("q_group_size", precision.group_size, groups_allowed),
        ):
            if value not in allowed:
                raise RequestError(f"{name} must be {_one_of(allowed)} in mode {mode}, got {value}.")
        return precision

    @property
    def block(self) -> dict[str, Any]:
        """The entry for config.json."""
        return {"group_size": self.group_size, "bits": self.bits, "mode": self.mode}

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether a matrix (out, in) divides into groups; mlx packs 32 values at a time, whatever the group is."""
        return len(shape) == 2 and shape[1] % max(self.group_size, 32) == 0

    def quantize(self, weight: mx.array) -> tuple[mx.array, ...]:
        """(out, in) -> packed values, scales and, in mode affine, biases."""
        return tuple(mx.quantize(weight, group_size=self.group_size, bits=self.bits, mode=self.mode))

    def nbytes(self, shape: tuple[int, ...], dtype: mx.Dtype) -> int:
        """Bytes of a matrix with scales of that type."""
        rows, width = shape
        per_group = 2 * dtype.size if self.mode == "affine" else 1
        return rows * (width * self.bits // 8 + width // self.group_size * per_group)


@dataclass(frozen=True)
class Recipe:
    """How many bits each layer gets.

    The value and down projections carry the most error into the residual stream, in the first and the last eighth
    of the layers most of all; the depth transformer runs once per codebook, so that its errors add up within a
    frame; the text head decides when speech ends. If `high` is more than `low`, these layers get `high`.
    """

    low: Precision
    high: Precision

    def precision(self, path: str, layers: int) -> Precision:
        """The precision of the module at `path` (our names), if the backbone has so many layers."""
        return self.high if self._protects(path, layers) else self.low

    def _protects(self, path: str, layers: int) -> bool:
        if path.startswith(("local_transformer.", "text_head")):
            return True
        match = LAYER.match(path)
        if match is None or not path.endswith(("v_proj", "down_proj", "fc_out")):
            return False
        # The same layers as in mlx-lm and llama.cpp: both ends, and every third between them.
        index, eighth = int(match[1]), layers // 8
        return index < eighth or index >= 7 * layers // 8 or (index - eighth) % 3 == 2


# Name -> bits of most layers and of the protected ones. All but the last are mlx-lm's.
MIXED = {"mixed_2_6": (2, 6), "mixed_3_4": (3, 4), "mixed_3_6": (3, 6), "mixed_4_6": (4, 6), "mixed_4_8": (4, 8)}


def recipe_of(
    name: str | None = None, bits: int | None = None, group_size: int | None = None, mode: str = "affine"
) -> Recipe:
    """The recipe of the given flags.

    Args:
        name: the name of a mixed recipe, which sets the bits itself; None for one precision everywhere.
        bits: the bits of a uniform recipe.
        group_size: weights that share a scale.
        mode: affine, mxfp4, nvfp4 or mxfp8.

    Raises:
        RequestError: no such recipe, or flags that contradict each other.
    """
    if name is None:
        uniform = Precision.of(bits, group_size, mode)
        return Recipe(uniform, uniform)
    if name not in MIXED:
        raise RequestError(f"quant_predicate must be one of {', '.join(MIXED)}, got {name!r}.")
    if mode != "affine":
        raise RequestError(f"the recipe {name} exists in mode affine only, not in {mode}.")
    if bits is not None:
        raise RequestError(f"the recipe {name} sets the bits itself; leave out q_bits = {bits}.")
    low, high = (Precision.of(count, group_size) for count in MIXED[name])
    return Recipe(low, high)


def asked_recipe(
    quantize: bool,
    name: str | None,
    bits: int | None,
    group_size: int | None,
    mode: str | None,
    calibrate: Path | None = None,
) -> Recipe | None:
    """The recipe of convert's flags; None if nothing is to be quantised.

    Raises:
        RequestError: see recipe_of; a flag of quantisation without --quantize; calibration in a mode that is not
            affine.
    """
    flags = {
        "quant_predicate": name,
        "q_bits": bits,
        "q_group_size": group_size,
        "q_mode": mode,
        "calibrate": calibrate,
    }
    if calibrate is not None and mode not in (None, "affine"):
        raise RequestError(f"calibrate exists in mode affine only, not in {mode}.")
    if quantize:
        return recipe_of(name, bits, group_size, mode or "affine")
    if given := [flag for flag, value in flags.items() if value is not None]:
        raise RequestError(f"{' and '.join(given)} needs --quantize (-q): without it nothing is quantised.")
    return None


def _one_of(values: tuple[int, ...]) -> str:
    return " or ".join(filter(None, [", ".join(map(str, values[:-1])), str(values[-1])]))
