"""MOSS-TTS-Nano's published vocabulary, which is not in the repository, and what upstream's code made of texts."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

GOLDEN = Path(__file__).parents[1] / "golden" / "nano"
TINY_VOCABULARY = GOLDEN / "tokenizer.model"
# Beside the goldens that MOSS_TTS_GOLDEN names, or in a directory called shared beside the repository.
_SHARED = (
    Path(os.environ["MOSS_TTS_GOLDEN"]).parent if "MOSS_TTS_GOLDEN" in os.environ else GOLDEN.parents[3] / "shared"
)


def published_vocabulary() -> Path:
    """tokenizer.model as it was published; skips the test where it is absent."""
    path = _SHARED / "assets" / "nano_tokenizer" / "tokenizer.model"
    if not path.is_file():
        pytest.skip(f"MOSS-TTS-Nano's published vocabulary is not at {path}")
    return path


def text_cases() -> dict[str, Any]:
    """Texts, and what upstream's code made of them."""
    return json.loads((GOLDEN / "text_cases.json").read_text(encoding="utf-8"))
