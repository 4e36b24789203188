"""Every golden folder of LoRA adapters against what upstream's own code computed with them, unmerged.

MOSS_TTS_GOLDEN_ADAPTERS names a directory with one folder per base (default: tests/golden_adapters); the base of the
same name lies in MOSS_TTS_GOLDEN (default: tests/golden).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from moss_tts.evidence.adapters import ADAPTER_CHECKS

HERE = Path(__file__).parent
ROOT = Path(os.environ.get("MOSS_TTS_GOLDEN_ADAPTERS") or HERE / "golden_adapters")
BASES = Path(os.environ.get("MOSS_TTS_GOLDEN") or HERE / "golden")
FOLDERS = sorted(path for path in ROOT.glob("*") if path.is_dir())


def test_there_are_goldens() -> None:
    assert FOLDERS, f"no golden folders under {ROOT}"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
@pytest.mark.parametrize("check", ADAPTER_CHECKS)
def test_golden_adapter(folder: Path, check: Callable[[Path, Path], None]) -> None:
    check(folder, BASES / folder.name)
