"""Every golden folder of LoRA adapters against what upstream's own code computed with them, unmerged.

MOSS_TTS_GOLDEN_ADAPTERS names a directory with one folder per base (default: tests/golden_adapters); the base of the
same name lies in MOSS_TTS_GOLDEN (default: tests/golden).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from moss_tts.checkpoints.adapters import put_adapters, read_adapters
from moss_tts.checkpoints.loading import load_architecture, load_config
from moss_tts.config import DelayConfig
from moss_tts.rows import RowRequest
from moss_tts.weights.layout import read_weights
from support.golden_models import cases, close, golden, greedy, left_padded, rows_of, start_length, start_of_output

HERE = Path(__file__).parent
ROOT = Path(os.environ.get("MOSS_TTS_GOLDEN_ADAPTERS") or HERE / "golden_adapters")
BASES = Path(os.environ.get("MOSS_TTS_GOLDEN") or HERE / "golden")
FOLDERS = sorted(path for path in ROOT.glob("*") if path.is_dir())


def load(folder: Path, adapters: bool = True) -> tuple[Any, Any]:
    """The base of a folder, with all its adapters."""
    base = BASES / folder.name
    architecture = load_architecture(base, load_config(base), read_weights(base), "float32")
    if adapters:
        put_adapters(architecture, read_adapters({path.parent.name: path.parent for path in folder.glob("*/*.json")}))
    return architecture.network, architecture.config


def request_of(options: dict[str, Any]) -> RowRequest:
    return replace(greedy(options, 1.0), adapters=tuple(options["adapters"].items()))


def check_prompts(folder: Path) -> None:
    """Hidden states and logits of each prompt."""
    model, config = load(folder)
    wanted = golden(folder)
    for name, options in cases(folder).items():
        rows, cache = mx.array(wanted[f"{name}.input_ids"]), model.backbone.make_cache([0])
        with model.adapters.using(model.adapters.weights([request_of(options)])):
            if not isinstance(config, DelayConfig):
                close(model(rows, cache, config.n_vq)[0], wanted[f"{name}.global_hidden"])
                continue
            hidden = model(rows, cache)[0]
            text, audio = model.text_logits(hidden), model.audio_logits(hidden)
        close(text, wanted[f"{name}.logits_text"])
        close(mx.where(mx.isinf(audio), 0.0, audio).transpose(1, 0, 2), wanted[f"{name}.logits_audio"])


def check_rows(folder: Path) -> None:
    """Greedy rows of each case, alone."""
    model, config = load(folder)
    for name in cases(folder):
        check_together(model, config, folder, [name])


def check_batch(folder: Path) -> None:
    """Greedy rows of all cases as one batch: other prompts, adapters and weights beside each."""
    check_together(*load(folder), folder, list(cases(folder)))


def check_together(model: Any, config: Any, folder: Path, names: list[str]) -> None:
    wanted, options = golden(folder), cases(folder)
    prompts = [wanted[f"{name}.input_ids"][0] for name in names]
    requests = [request_of(options[name]) for name in names]
    most = max(options[name]["max_new_tokens"] for name in names)
    steps = list(islice(rows_of(model, config, left_padded(prompts, config), requests, config.n_vq), most))
    for row, (name, prompt) in enumerate(zip(names, prompts, strict=True)):
        greedy_rows = wanted[f"{name}.greedy"]
        made = np.stack([*prompt[start_of_output(prompt, config) :], *(step[row] for step in steps)])
        np.testing.assert_array_equal(made[: len(greedy_rows)], greedy_rows, name)
        assert start_length(prompt, config) == int(wanted[f"{name}.start_length"][0])


def check_weight_0(folder: Path) -> None:
    """Rows of the base bit for bit: without adapters, with weight 0, and beside a row that has adapters."""
    (bare, config), (model, _) = load(folder, adapters=False), load(folder)
    options = next(iter(cases(folder).values()))
    prompt = next(rows for name, rows in golden(folder).items() if name.endswith("input_ids"))[0]
    rows, none = mx.array(prompt)[None], request_of(options | {"adapters": {}})
    both = request_of(options | {"adapters": dict.fromkeys(model.adapters.names, 1.0)})
    zero = request_of(options | {"adapters": dict.fromkeys(model.adapters.names, 0.0)})

    def hidden(network: Any, *requests: RowRequest) -> mx.array:
        batch, more = mx.repeat(rows, len(requests), 0), () if isinstance(config, DelayConfig) else (config.n_vq,)
        with network.adapters.using(network.adapters.weights(requests)):
            return network(batch, network.backbone.make_cache([0] * len(requests)), *more)

    assert mx.array_equal(hidden(bare, none), hidden(model, none))
    assert mx.array_equal(hidden(bare, none), hidden(model, zero))
    pair = hidden(model, none, both)
    assert mx.array_equal(hidden(bare, none, none)[0], pair[0])
    assert not mx.allclose(pair[0], pair[1])


CHECKS: list[Callable[[Path], None]] = [check_prompts, check_rows, check_batch, check_weight_0]


def test_there_are_goldens() -> None:
    assert FOLDERS, f"no golden folders under {ROOT}"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
@pytest.mark.parametrize("check", CHECKS)
def test_golden_adapter(folder: Path, check: Callable[[Path], None]) -> None:
    check(folder)
