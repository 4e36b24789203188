"""Every golden folder against what upstream's own code computed.

MOSS_TTS_GOLDEN names a directory with one folder per checkpoint (default: tests/golden). Folders are told apart
by their config.json; nothing here knows a size. A folder of a kind that is not known fails.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from moss_tts.errors import CheckFailedError
from moss_tts.evidence.kinds import checks_of, kind_of
from support.published import PUBLISHED_CHECKS

ROOT = Path(os.environ.get("MOSS_TTS_GOLDEN") or Path(__file__).parent / "golden")
FOLDERS = sorted(path for path in ROOT.glob("*") if path.is_dir())


def test_there_are_goldens() -> None:
    assert FOLDERS, f"no golden folders under {ROOT}"


@pytest.mark.parametrize(
    ("folder", "check"),
    [
        pytest.param(folder, check, id=f"{folder.name}-{check.__name__}")
        for folder in FOLDERS
        for check in [*checks_of(folder), *PUBLISHED_CHECKS.get(kind_of(folder), [])]
    ],
)
def test_golden(folder: Path, check: Callable[[Path], None]) -> None:
    check(folder)


def test_a_golden_of_an_unknown_kind_fails(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "moss_tts_unheard_of"}')
    for folder in (tmp_path, tmp_path.parent):
        (check,) = checks_of(folder)
        with pytest.raises(CheckFailedError, match=r"that nothing compares: model_type (moss_tts_un|none)"):
            check(folder)
