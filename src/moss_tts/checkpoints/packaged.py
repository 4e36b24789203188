"""The voice that comes inside the package: small, English, one speaker."""

from __future__ import annotations

from pathlib import Path

from moss_tts.errors import CheckpointError

DIRECTORY = Path(__file__).parents[1] / "tiny_voice"


def packaged_voice() -> Path:
    """The checkpoint directory of the packaged voice.

    Raises:
        CheckpointError: this build was made without its weights.
    """
    if not (DIRECTORY / "model.safetensors").is_file():
        raise CheckpointError("this build has no packaged voice: name a checkpoint, a directory or a hub id (--model).")
    return DIRECTORY
