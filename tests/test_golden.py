"""Every golden folder against what upstream's own code computed.

MOSS_TTS_GOLDEN names a directory with one folder per checkpoint (default: tests/golden). Folders are told apart
by their config.json; nothing here knows a size.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from support.codec_golden import check_codec_golden
from support.golden_models import check_batch, check_greedy, check_prompt_logits, check_uncached

ROOT = Path(os.environ.get("MOSS_TTS_GOLDEN") or Path(__file__).parent / "golden")
FOLDERS = sorted(path.parent for path in ROOT.glob("*/config.json"))
MODEL_CHECKS = [check_prompt_logits, check_greedy, check_uncached, check_batch]
CHECKS: dict[str, list[Callable[[Path], None]]] = {
    "moss_tts_delay": MODEL_CHECKS,
    "moss_tts_local": MODEL_CHECKS,
    "moss-audio-tokenizer": [check_codec_golden],
}


def kind(folder: Path) -> str:
    return json.loads((folder / "config.json").read_text())["model_type"]


def test_there_are_goldens() -> None:
    assert FOLDERS, f"no golden folders under {ROOT}"


@pytest.mark.parametrize(
    ("folder", "check"),
    [
        pytest.param(folder, check, id=f"{folder.name}-{check.__name__}")
        for folder in FOLDERS
        for check in CHECKS.get(kind(folder), [])
    ],
)
def test_golden(folder: Path, check: Callable[[Path], None]) -> None:
    check(folder)
