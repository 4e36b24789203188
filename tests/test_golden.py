"""Every golden folder against what upstream's own code computed.

MOSS_TTS_GOLDEN names a directory with one folder per checkpoint (default: tests/golden). Folders are told apart
by their config.json; nothing here knows a size. A folder of a kind that is not known fails.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from support.codec_golden import check_codec_golden, check_published_codec
from support.golden_models import check_batch, check_greedy, check_prompt_logits, check_uncached
from support.nano_golden import (
    check_nano_batch,
    check_nano_greedy,
    check_nano_logits,
    check_nano_prompts,
    check_nano_sampling,
    check_published_nano,
)
from support.sound_golden import SOUND_CHECKS

ROOT = Path(os.environ.get("MOSS_TTS_GOLDEN") or Path(__file__).parent / "golden")
FOLDERS = sorted(path for path in ROOT.glob("*") if path.is_dir())
MODEL_CHECKS = [check_prompt_logits, check_greedy, check_uncached, check_batch]
CHECKS: dict[str, list[Callable[[Path], None]]] = {
    "moss_tts_delay": MODEL_CHECKS,
    "moss_tts_local": MODEL_CHECKS,
    "moss_tts_nano": [
        check_nano_greedy,
        check_nano_logits,
        check_nano_batch,
        check_nano_prompts,
        check_nano_sampling,
        check_published_nano,
    ],
    "moss-audio-tokenizer": [check_codec_golden, check_published_codec],
    "MossSoundEffectPipeline": SOUND_CHECKS,
}


def kind(folder: Path) -> str:
    """model_type of the folder's config.json, _class_name of its model_index.json, or words for their absence."""
    config, index = folder / "config.json", folder / "model_index.json"
    if index.exists() and not config.exists():
        return str(json.loads(index.read_text())["_class_name"])
    return str(json.loads(config.read_text())["model_type"]) if config.exists() else "none: there is no config.json"


def check_is_known(folder: Path) -> None:
    """The one check of a folder that no other check is for."""
    pytest.fail(f"{folder} is a golden of a kind that nothing here compares: model_type {kind(folder)}")


def test_there_are_goldens() -> None:
    assert FOLDERS, f"no golden folders under {ROOT}"


def checks_of(folder: Path) -> list[Callable[[Path], None]]:
    return CHECKS.get(kind(folder), [check_is_known])


@pytest.mark.parametrize(
    ("folder", "check"),
    [
        pytest.param(folder, check, id=f"{folder.name}-{check.__name__}")
        for folder in FOLDERS
        for check in checks_of(folder)
    ],
)
def test_golden(folder: Path, check: Callable[[Path], None]) -> None:
    check(folder)


def test_a_golden_of_an_unknown_kind_fails(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "moss_tts_unheard_of"}')
    for folder in (tmp_path, tmp_path.parent):
        (check,) = checks_of(folder)
        with pytest.raises(pytest.fail.Exception, match=r"that nothing here compares: model_type (moss_tts_un|none)"):
            check(folder)
