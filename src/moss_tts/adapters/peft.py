"""Adapters as PEFT saves them: adapter_config.json and adapter_model.safetensors, read strictly.

A setting or a tensor that would change the result in a way that is not done here is an error, never ignored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from time import monotonic
from typing import Any

import mlx.core as mx
import regex

from moss_tts.adapters import CONFIG, PICKLED, WEIGHTS
from moss_tts.errors import CheckpointError, shown
from moss_tts.strict import NUMBERS, is_integer, is_number
from moss_tts.weights.layout import first_names, read_json, read_safetensors

MOST_RANK = 4096
# Settings that change nothing here: what training alone uses, what the tensors' names say, and what is read below.
SETTINGS = frozenset(
    """
    alpha_pattern auto_mapping base_model_name_or_path bias corda_config eva_config exclude_modules fan_in_fan_out
    inference_mode init_lora_weights layers_pattern layers_to_transform loftq_config lora_alpha lora_dropout
    lora_ga_config megatron_core peft_type peft_version qalora_group_size r rank_pattern revision runtime_config
    target_modules task_type use_rslora velora_config
    """.split()
)
# Starts of training that leave the weights of the base as they are.
STARTS = (None, True, False, "gaussian", "eva", "orthogonal", "mica")
KEY = re.compile(r"(?:base_model\.model\.)?(.+)\.lora_([AB])(?:\.default)?\.weight")
# Patterns are regular expressions. Some of them take longer than anybody waits; this is for all of an adapter.
PATTERN_SECONDS = 0.5
MOST_CHARACTERS = 300
EXPLAINED = {
    "alora_invocation_tokens": "an adapter that begins to act at certain tokens (aLoRA)",
    "arrow_config": "a choice among adapters for each token (Arrow)",
    "ensure_weight_tying": "one adapter for a head and its embedding",
    "kasa_config": "a base that lost its smallest singular values (KaSA)",
    "layer_replication": "layers that occur twice",
    "lora_bias": "a bias beside the low-rank product",
    "modules_to_save": "modules that were trained whole",
    "monteclora_config": "matrices that are drawn at random (MonteCLoRA)",
    "target_parameters": "changes of parameters that are no linear layers",
    "trainable_token_indices": "trained embeddings",
    "use_bdlora": "block-diagonal matrices (BD-LoRA)",
    "use_dora": "a rescaling of the weights of the base (DoRA)",
    "use_qalora": "averages of groups of inputs (QALoRA)",
}


@dataclass(frozen=True)
class Pair:
    """One adapter's two matrices for one linear layer.

    Attributes:
        down: A, (r, in), as stored.
        up: B, (out, r), as stored.
        scale: the factor of their product.
    """

    down: mx.array
    up: mx.array
    scale: float


@dataclass(frozen=True)
class StoredAdapter:
    """An adapter as it is stored.

    Attributes:
        name: the caller's name for it.
        directory: where it lies.
        base: the class of the model that it was trained on, if the file says so.
        trained_on: the name of that model, a hub id or a path on another machine, if the file says so.
        pairs: its matrices by upstream's names of the linear layers.
    """

    name: str
    directory: Path
    base: str | None
    trained_on: str | None
    pairs: Mapping[str, Pair]

    @property
    def size(self) -> int:
        """The number of its values."""
        return sum(pair.down.size + pair.up.size for pair in self.pairs.values())

    def __str__(self) -> str:
        trained_on = "" if self.base is None else f", trained on a {self.base}"
        return f"adapter {shown(self.name)} ({self.directory}{trained_on})"


def read_adapter(name: str, directory: Path) -> StoredAdapter:
    """An adapter of a directory, with all values read and checked.

    Args:
        name: the caller's name for it.
        directory: the directory that PEFT wrote.

    Raises:
        CheckpointError: files that are missing or broken, or an adapter of a kind that is not supported.
    """
    _check_files(directory)
    config = read_json(directory / CONFIG)
    _check_settings(directory / CONFIG, config)
    halves = _halves(directory / WEIGHTS)
    patterns = Patterns(directory / CONFIG, config)
    pairs = {path: _pair(directory, config, patterns, path, sides) for path, sides in halves.items()}
    mapping = config.get("auto_mapping")
    base = _text(mapping.get("base_model_class") if isinstance(mapping, dict) else None)
    return StoredAdapter(name, directory, base, _text(config.get("base_model_name_or_path")), pairs)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _check_files(directory: Path) -> None:
    if not (directory / CONFIG).is_file():
        raise CheckpointError(f"{directory} is no adapter: it has no {CONFIG}. PEFT writes one with save_pretrained.")
    if not (directory / WEIGHTS).is_file():
        if (directory / PICKLED).is_file():
            raise CheckpointError(
                f"{directory} holds {PICKLED}, a pickle, which is not read. Load it with PEFT and save it again with "
                f"save_pretrained(..., safe_serialization=True), which writes {WEIGHTS}."
            )
        raise CheckpointError(f"{directory} is no complete adapter: it has no {WEIGHTS}.")


def _check_settings(path: Path, config: Mapping[str, Any]) -> None:
    if (kind := config.get("peft_type")) != "LORA":
        raise CheckpointError(f"{path} has peft_type {shown(kind)}; only LORA is supported.")
    if config.get("bias") not in (None, "none"):
        raise CheckpointError(
            f"{path} has bias {shown(config['bias'])}: trained biases are not supported, only 'none'."
        )
    start = config.get("init_lora_weights")
    if (start.lower() if isinstance(start, str) else start) not in STARTS:
        raise CheckpointError(
            f"{path} has init_lora_weights {shown(start)}, which changes the weights of the base; that is not "
            f"supported. Save the adapter again with path_initial_model_for_weight_conversion, which PEFT documents."
        )
    for key, value in config.items():
        if key not in SETTINGS and value not in (None, False, [], {}) and not key.startswith("megatron"):
            what = EXPLAINED.get(key, "something that is not known here")
            raise CheckpointError(f"{path} sets {shown(key)}, which means {what}; that is not supported.")
    for key in ("alpha_pattern", "rank_pattern"):
        if not isinstance(config.get(key) or {}, dict):
            raise CheckpointError(f"{path}: {key} must be an object of numbers by layer, got {shown(config[key])}.")
    if not isinstance(config.get("use_rslora") or False, bool):
        raise CheckpointError(f"{path}: use_rslora must be true or false, got {shown(config['use_rslora'])}.")


def _halves(path: Path) -> dict[str, dict[str, mx.array]]:
    """{layer: {"A": matrix, "B": matrix}} of a file."""
    weights = read_safetensors(path)
    if others := [key for key in weights if not KEY.fullmatch(key)]:
        raise CheckpointError(
            f"{path} holds {first_names(others)}: only lora_A and lora_B of linear layers are supported; trained "
            f"embeddings, biases, magnitudes (DoRA) and whole modules are not."
        )
    halves: dict[str, dict[str, mx.array]] = {}
    for key, weight in weights.items():
        layer, side = KEY.fullmatch(key).groups()  # type: ignore[union-attr]
        if halves.setdefault(layer, {}).setdefault(side, weight) is not weight:
            raise CheckpointError(f"{path} has lora_{side} of {layer} twice.")
        if len(layer) > MOST_CHARACTERS:
            raise CheckpointError(f"{path} names a layer with {len(layer)} characters: {shown(layer)}.")
        if not mx.issubdtype(weight.dtype, mx.floating):
            raise CheckpointError(
                f"{path}: {key} holds {weight.dtype}; only float32, float16 and bfloat16 are supported."
            )
        if not mx.isfinite(weight).all().item():
            raise CheckpointError(f"{path}: {key} holds values that are no finite numbers.")
    if not halves:
        raise CheckpointError(f"{path} holds no tensors.")
    return halves


def _pair(
    directory: Path, config: Mapping[str, Any], patterns: Patterns, layer: str, sides: Mapping[str, mx.array]
) -> Pair:
    if missing := {"A", "B"} - sides.keys():
        raise CheckpointError(f"{directory / WEIGHTS} lacks lora_{missing.pop()} of {layer}.")
    rank = patterns.value(layer, "rank_pattern", "r")
    alpha = patterns.value(layer, "alpha_pattern", "lora_alpha")
    if not is_integer(rank, 1, MOST_RANK):
        raise CheckpointError(
            f"{directory / CONFIG}: the rank must be in 1..{MOST_RANK}, got {shown(rank)} for {layer}."
        )
    if not is_number(alpha):
        raise CheckpointError(f"{directory / CONFIG}: lora_alpha must be {NUMBERS}, got {shown(alpha)} for {layer}.")
    down, up = sides["A"], sides["B"]
    if down.ndim != 2 or up.ndim != 2 or not len(down) == up.shape[1] == rank:
        raise CheckpointError(
            f"{directory / WEIGHTS}: lora_A and lora_B of {layer} have the shapes {tuple(down.shape)} and "
            f"{tuple(up.shape)}, and {CONFIG} gives that layer the rank {rank}."
        )
    scale = alpha / (sqrt(rank) if config.get("use_rslora") else rank)
    if not mx.isfinite(mx.abs(up).max().astype(mx.float32) * scale).item():
        raise CheckpointError(f"{directory / WEIGHTS}: lora_B of {layer} is too large for its scale, {scale:g}.")
    return Pair(down, up, scale)


class Patterns:
    """rank_pattern and alpha_pattern of an adapter_config.json.

    Args:
        path: that file.
        config: its content.
    """

    def __init__(self, path: Path, config: Mapping[str, Any]) -> None:
        self._path = path
        self._config = config
        self._seconds = PATTERN_SECONDS

    def value(self, layer: str, patterns: str, default: str) -> Any:
        """The value of a layer: that of the first pattern that the end of its name fits, or else the default.

        Raises:
            CheckpointError: a pattern that is no regular expression, or that takes too long.
        """
        for pattern, value in (self._config.get(patterns) or {}).items():
            if self._fits(pattern, layer, patterns):
                return value
        return self._config.get(default)

    def _fits(self, pattern: str, layer: str, patterns: str) -> bool:
        began = monotonic()
        try:
            if len(pattern) > MOST_CHARACTERS:
                raise regex.error(f"it has more than {MOST_CHARACTERS} characters")
            return regex.match(rf"(.*\.)?({pattern})$", layer, timeout=self._seconds) is not None
        except TimeoutError as error:
            raise CheckpointError(f"{self._path}: {patterns} has {shown(pattern)}, which takes too long.") from error
        except (regex.error, OverflowError, RecursionError) as error:
            raise CheckpointError(f"{self._path}: {patterns} has {shown(pattern)}: {error}.") from error
        finally:
            self._seconds = max(0.001, self._seconds - (monotonic() - began))
