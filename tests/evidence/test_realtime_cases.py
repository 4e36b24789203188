"""Goldens of Realtime with other cases than ours: what they have is compared."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from moss_tts.errors import CheckFailedError
from moss_tts.evidence.goldens import cases, golden
from moss_tts.evidence.realtime import REALTIME_CHECKS, check_realtime_pieces, check_realtime_prompts

GOLDEN = Path(__file__).parents[1] / "golden" / "realtime"


@pytest.fixture
def changed(tmp_path) -> Callable[..., Path]:
    """Our golden without some cases, and with others."""

    def change(without: Collection[str] = (), **more: dict[str, Any]) -> Path:
        folder = Path(shutil.copytree(GOLDEN, tmp_path / "golden"))
        known = {name: options for name, options in cases(GOLDEN).items() if name not in without} | more
        arrays = {name: value for name, value in golden(GOLDEN).items() if name.partition(".")[0] not in without}
        for name, options in more.items():
            arrays[f"{name}.greedy"] = arrays[f"{options['of']}.greedy"]
        (folder / "cases.json").write_text(json.dumps(known))
        save_file({name: np.ascontiguousarray(value) for name, value in arrays.items()}, folder / "golden.safetensors")
        return folder

    return change


@pytest.mark.parametrize("check", REALTIME_CHECKS)
def test_a_golden_may_have_fewer_cases(changed, check):
    check(changed(["turn2_end_row", "turn3", "voice_stream_opening", "late_end", "late_end_12", "penalty", "pieces"]))


def test_speech_may_end_before_its_text(changed):
    of = "penalty_all"
    frames = cases(GOLDEN)[of]["frames"]
    check_realtime_pieces(changed(more=dict(of=of, pieces=[14, 18], frames_after_piece=[3, frames - 3], limit=40)))


def test_speech_may_reach_its_limit_before_its_text_ends(changed):
    folder = changed(more=dict(of="penalty", pieces=[14, 18], frames_after_piece=[3, 2], limit=5))
    with pytest.raises(CheckFailedError, match=r"the shape is \(5, 4\) instead of \(40, 4\)"):
        check_realtime_pieces(folder)


def test_a_turn_that_was_packed_otherwise_is_noticed(changed):
    folder = changed()
    known = cases(folder)
    known["turn3"]["after"] = None
    (folder / "cases.json").write_text(json.dumps(known))
    with pytest.raises(CheckFailedError, match="the prompt of turn3"):
        check_realtime_prompts(folder)
