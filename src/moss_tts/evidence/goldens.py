"""The files of a golden: a tiny checkpoint that upstream's code saved, and what that code computed from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from moss_tts.checkpoints.loading import load_architecture, load_config
from moss_tts.weights.layout import read_weights

HERE = Path(__file__).parent


def folders(name: str = "golden") -> list[Path]:
    """The goldens that come with this package; in a clone, those of its tests.

    Args:
        name: "golden", or "golden_adapters" for those of LoRA adapters.
    """
    packaged = HERE / name
    root = packaged if packaged.is_dir() else HERE.parents[2] / "tests" / name
    return sorted(path for path in root.glob("*") if path.is_dir())


def kind_of(folder: Path) -> str:
    """model_type of the folder's config.json, _class_name of its model_index.json, or words for their absence."""
    config, index = folder / "config.json", folder / "model_index.json"
    if index.exists() and not config.exists():
        return str(json.loads(index.read_text())["_class_name"])
    return str(json.loads(config.read_text())["model_type"]) if config.exists() else "none: there is no config.json"


def golden(folder: Path) -> dict[str, np.ndarray]:
    """What upstream computed, by its name."""
    stored: dict[str, mx.array] = mx.load(str(folder / "golden.safetensors"))  # type: ignore[assignment]
    return {name: np.array(value) for name, value in stored.items()}


def cases(folder: Path) -> dict[str, dict[str, Any]]:
    """The options of each case, by its name."""
    return json.loads((folder / "cases.json").read_text())


def prompt_of(folder: Path, case: str = "start") -> np.ndarray:
    """A prompt (T, 1 + Q) of a golden; the one without a reference is called start, and plain in Nano's."""
    wanted = golden(folder)
    return wanted[f"{case}.input_ids" if f"{case}.input_ids" in wanted else "plain.input_ids"][0]


def load(folder: Path) -> tuple[Any, Any]:
    """The network of a folder in float32, and its config."""
    architecture = load_architecture(folder, load_config(folder), read_weights(folder), "float32")
    return architecture.network, architecture.config
