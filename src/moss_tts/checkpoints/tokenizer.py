"""The tokenizer of a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from moss_tts.checkpoints.names import TOKENIZER_FILES
from moss_tts.errors import CheckpointError
from moss_tts.prompts.sentence_pieces import SentencePieceEncoder
from moss_tts.weights.layout import read_json
from moss_tts.weights.stored import check_content

# Files that transformers reads besides tokenizer.json.
DESCRIPTIONS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")


def load_tokenizer(directory: Path) -> Any:
    """The tokenizer of a checkpoint; code that a checkpoint brings is never run.

    Returns:
        A tokenizer of transformers for tokenizer.json, an encoder of prompts for tokenizer.model.

    Raises:
        CheckpointError: there is none, it is broken, or a package is missing that it needs.
    """
    file = next((path for name in TOKENIZER_FILES if (path := directory / name).is_file()), None)
    if file is None:
        names = " and no ".join(TOKENIZER_FILES)
        raise CheckpointError(f"{directory} holds no {names}; copy the checkpoint's tokenizer files there.")
    check_content(file)
    return _sentence_pieces(file) if file.suffix == ".model" else _fast(directory)


def _fast(directory: Path) -> Any:
    # Its import takes a second, and checkpoints with a tokenizer.model do without.
    from transformers import PreTrainedTokenizerFast

    for beside in (directory / name for name in DESCRIPTIONS):
        if beside.is_file():
            read_json(beside)
    try:
        # Not AutoTokenizer: it would look into config.json for a class, and into auto_map for code.
        return PreTrainedTokenizerFast.from_pretrained(str(directory), local_files_only=True)
    except Exception as error:
        # Whatever the library makes of files that it did not write.
        raise CheckpointError(f"the tokenizer in {directory} cannot be loaded: {error}") from error


def _sentence_pieces(file: Path) -> SentencePieceEncoder:
    try:
        return SentencePieceEncoder(file.read_bytes())
    except CheckpointError as error:
        raise CheckpointError(f"{file} cannot be loaded: {error}") from error
