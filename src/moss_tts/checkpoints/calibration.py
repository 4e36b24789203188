"""The inputs of a checkpoint's layers while it speaks, by which gptq.py rounds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_unflatten

from moss_tts.architectures import Architecture
from moss_tts.checkpoints.gptq import Moments
from moss_tts.checkpoints.loading import JOINED
from moss_tts.errors import RequestError
from moss_tts.speaking.engine import SpeechJob

# Options of Model.generate for each text, unless it has its own. This many frames are enough, and a pass is short.
OPTIONS: Mapping[str, Any] = {"max_tokens": 150, "seed": 0}


class Calibration:
    """A network reads its own rows again, for each block of layers that is asked for.

    So only the network and the moments of one block are in memory.

    Args:
        architecture: the architecture with its network, which is not quantised.
        said: prompts (T, 1 + Q), and the rows (N, 1 + Q) that followed them.
    """

    def __init__(self, architecture: Architecture[Any, Any], said: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        self._architecture, self._said = architecture, said
        self._block, self._moments = "", dict[str, Moments]()

    def factor(self, path: str) -> np.ndarray:
        """The factor for the inputs of the linear layer at `path` (our names), as gptq.quantize takes it."""
        block = path.rsplit(".", 2)[0]
        if block != self._block:
            self._block, self._moments = block, self._listen(block)
        return self._moments[path].factor

    def _listen(self, block: str) -> dict[str, Moments]:
        """Moments of the inputs of a block's layers, under the names that they had before they were joined."""
        network = self._architecture.network
        layers = linear_layers(network, block)
        listeners = {path: Listener(layer) for path, layer in layers}
        network.update_modules(tree_unflatten(list(listeners.items())))
        try:
            for prompt, rows in self._said:
                self._architecture.teacher_forced_logits(prompt, rows)
        finally:
            network.update_modules(tree_unflatten(layers))
        return {name: listener.moments for path, listener in listeners.items() for name in unjoined(path)}


class Listener(nn.Module):
    """Wraps a layer and records its inputs."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.moments = Moments(layer["weight"].shape[1])

    def __call__(self, x: mx.array) -> mx.array:
        """(..., in) -> (..., out)."""
        self.moments.add(np.array(x.astype(mx.float32)).reshape(-1, x.shape[-1]).astype(np.float64))
        return self.layer(x)


def linear_layers(network: nn.Module, block: str) -> list[tuple[str, nn.Module]]:
    """The linear layers at or below a path."""
    return [
        (path, module)
        for path, module in network.named_modules()
        if isinstance(module, nn.Linear) and (path == block or path.startswith(f"{block}."))
    ]


def unjoined(path: str) -> list[str]:
    """Paths of the layers that were joined into the one at `path`."""
    parent, _, last = path.rpartition(".")
    parts = next((names for names in JOINED if "_".join(names) == last), (last,))
    return [f"{parent}.{name}" if parent else name for name in parts]


def spoken(architecture: Architecture[Any, Any], jobs: Iterable[SpeechJob]) -> list[tuple[np.ndarray, np.ndarray]]:
    """The prompts (T, 1 + Q) of jobs, and the rows (N, 1 + Q) that a network answers them with."""
    return [(job.prompt, architecture.generate_rows(job.prompt, job.request)) for job in jobs]


def read_requests(file: Path) -> list[dict[str, Any]]:
    """The texts of a file, one per line; a line may also be a JSON object with fields of Model.generate.

    Raises:
        RequestError: no text, or a line that is no JSON object although it begins like one.
    """
    found = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if not (text := line.strip()):
            continue
        try:
            found.append(json.loads(text) if text.startswith("{") else {"text": text})
        except json.JSONDecodeError as error:
            raise RequestError(
                f"{file}, line {number} begins like a JSON object, but is not valid JSON: {error}."
            ) from error
    if not found:
        raise RequestError(f"{file} has no text: write one text per line; 16 or more give a better result.")
    return found
