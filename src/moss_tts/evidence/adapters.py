"""What the goldens of LoRA adapters ask for: upstream's results with adapters that are not merged into the weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from moss_tts.checkpoints.adapters import put_adapters, read_adapters
from moss_tts.checkpoints.loading import load_architecture, load_config
from moss_tts.evidence.comparing import require, same
from moss_tts.evidence.goldens import cases, golden
from moss_tts.evidence.speech import UPSTREAM, Upstream, greedy, left_padded, upstream
from moss_tts.rows import RowRequest
from moss_tts.rows import run as run_rows
from moss_tts.weights.layout import read_weights


def adapted(folder: Path, base: Path) -> Upstream:
    """Upstream's ways with the network of a base and all adapters of a folder."""
    architecture = load_architecture(base, load_config(base), read_weights(base), "float32")
    put_adapters(architecture, read_adapters({path.parent.name: path.parent for path in folder.glob("*/*.json")}))
    return UPSTREAM[type(architecture.config)](architecture.network, architecture.config)


def request_of(options: dict[str, Any]) -> RowRequest:
    """The greedy request of a case, with the weights of its adapters."""
    return replace(greedy(options), adapters=tuple(options["adapters"].items()))


def check_adapted_prompts(folder: Path, base: Path) -> None:
    """Hidden states and logits of every prompt are upstream's."""
    ways, wanted = adapted(folder, base), golden(folder)
    for name, options in cases(folder).items():
        with ways.model.adapters.using(ways.model.adapters.weights([request_of(options)])):
            ways.check_prompt(wanted, name)


def check_adapted_rows(folder: Path, base: Path) -> None:
    """Greedy rows of every prompt are upstream's."""
    ways = adapted(folder, base)
    for name in cases(folder):
        check_together(ways, folder, [name])


def check_adapted_batch(folder: Path, base: Path) -> None:
    """All cases as one batch, with other prompts, adapters and weights beside each, have upstream's rows."""
    check_together(adapted(folder, base), folder, list(cases(folder)))


def check_together(ways: Upstream, folder: Path, names: list[str]) -> None:
    """The rows of cases that are generated together."""
    wanted, options, config = golden(folder), cases(folder), ways.config
    prompts = [wanted[f"{name}.input_ids"][0] for name in names]
    requests = [request_of(options[name]) for name in names]
    most = max(options[name]["max_new_tokens"] for name in names)
    batch = ways.batch(left_padded(prompts, config), requests, config.n_vq)
    steps = list(islice(run_rows(batch), most))
    for row, (name, prompt) in enumerate(zip(names, prompts, strict=True)):
        rows = wanted[f"{name}.greedy"]
        made = np.stack([*prompt[ways.start(prompt) :], *(step[row] for step in steps)])
        same(made[: len(rows)], rows, f"greedy rows of {name}")
        length, right = ways.start_length(prompt), int(wanted[f"{name}.start_length"][0])
        require(length == right, f"start_length of {name} is {length} instead of {right}.")


def check_weight_0(folder: Path, base: Path) -> None:
    """Rows with weight 0, and rows beside one that has adapters, are the base's bit for bit."""
    bare, ways = upstream(base), adapted(folder, base)
    options = next(iter(cases(folder).values()))
    prompt = next(rows for name, rows in golden(folder).items() if name.endswith("input_ids"))
    names = ways.model.adapters.names
    wanted: tuple[dict[str, float], ...] = ({}, dict.fromkeys(names, 0.0), dict.fromkeys(names, 1.0))
    none, zero, one = (request_of(options | {"adapters": weights}) for weights in wanted)

    def hidden(ways: Upstream, *requests: RowRequest) -> mx.array:
        adapters = ways.model.adapters
        with adapters.using(adapters.weights(requests)):
            return ways.hidden(np.repeat(prompt, len(requests), axis=0))

    same(hidden(ways, none), hidden(bare, none), "a row without adapters")
    same(hidden(ways, zero), hidden(bare, none), "a row with weight 0")
    pair = hidden(ways, none, one)
    same(pair[0], hidden(bare, none, none)[0], "a row beside one with adapters")
    require(not bool(mx.allclose(pair[0], pair[1])), "a row with adapters is as one without.")


ADAPTER_CHECKS: list[Callable[[Path, Path], None]] = [
    check_adapted_prompts,
    check_adapted_rows,
    check_adapted_batch,
    check_weight_0,
]
