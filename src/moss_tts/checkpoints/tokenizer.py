"""The tokenizer of a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from moss_tts.errors import CheckpointError
from moss_tts.weights.stored import check_content


def load_tokenizer(directory: Path) -> Any:
    """The tokenizer of a checkpoint; code that a checkpoint brings is never run.

    Raises:
        CheckpointError: there is none, or it is broken.
    """
    file = directory / "tokenizer.json"
    if not file.is_file():
        raise CheckpointError(f"{directory} holds no tokenizer.json; copy the checkpoint's tokenizer files there.")
    check_content(file)
    try:
        # Not AutoTokenizer: it would look into config.json for a class, and into auto_map for code.
        return PreTrainedTokenizerFast.from_pretrained(str(directory), local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"the tokenizer in {directory} cannot be loaded: {error}") from error
