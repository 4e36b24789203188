"""The voice that comes inside the package: small, English, one speaker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from moss_tts.errors import CheckpointError

DIRECTORY = Path(__file__).parents[1] / "tiny_voice"
# Nineteen in twenty of the sentences that it learned from have fewer characters.
LONGEST_SENTENCE = 74


def packaged_voice() -> Path:
    """Its checkpoint directory.

    Raises:
        CheckpointError: this build was made without its weights.
    """
    if not (DIRECTORY / "model.safetensors").is_file():
        raise CheckpointError("this build has no packaged voice: name a checkpoint, a directory or a hub id (--model).")
    return DIRECTORY


def segmented(text: str | None) -> dict[str, Any]:
    """Options of Model.generate with which it says a text: in segments where that is longer than what it learned."""
    if text is None or len(text) <= LONGEST_SENTENCE:
        return {}
    return {
        "long_form": True,
        "long_form_min_chars": 20,
        "long_form_target_chars": 50,
        "long_form_max_chars": LONGEST_SENTENCE,
    }
