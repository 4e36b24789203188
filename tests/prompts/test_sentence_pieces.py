"""SentencePiece vocabularies: ids as upstream's, symbols in the prompt's own words, and none in what a user types."""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moss_tts.checkpoints.tokenizer import load_tokenizer
from moss_tts.errors import CheckpointError, ConfigError
from moss_tts.presets import PLAIN_TEMPLATE
from moss_tts.prompts.messages import TEXT_HEADING, USER_HEAD, USER_TAIL, UserMessage
from moss_tts.prompts.sentence_pieces import SentencePieceEncoder
from support.nano_assets import TINY_VOCABULARY, published_vocabulary, text_cases

CASES = text_cases()
SYMBOLS = [
    "<|im_start|>",
    "<|im_end|>",
    "<|audio_start|>",
    "<|audio_end|>",
    "<|vision_pad|>",
    "<|video_pad|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|audio_pad|>",
    "<user_inst>",
    "</user_inst>",
]
CONTROL = range(4, 15)


def tiny() -> SentencePieceEncoder:
    return SentencePieceEncoder(TINY_VOCABULARY.read_bytes())


@pytest.fixture(scope="module")
def published() -> SentencePieceEncoder:
    path = published_vocabulary()
    assert hashlib.sha256(path.read_bytes()).hexdigest() == CASES["real_tokenizer"]["sha256"]
    return load_tokenizer(path.parent)


def check_cases(encoder: SentencePieceEncoder, cases: list[tuple[str, list[int]]]) -> None:
    for text, ids in cases:
        assert encoder.encode_template(text) == ids, text
        if not any(symbol in text for symbol in SYMBOLS):
            assert encoder.encode(text) == ids, text


def test_ids_are_those_of_upstream():
    check_cases(tiny(), CASES["tiny_tokenizer"]["cases"])


def test_ids_of_the_published_vocabulary_are_those_of_upstream(published):
    check_cases(published, CASES["real_tokenizer"]["cases"])


def test_pieces_of_the_published_prompt_are_those_of_upstream(published):
    fields = UserMessage("x").field_block(PLAIN_TEMPLATE)
    made = {
        "user_prefix": [4, *published.encode_template("user\n"), *published.encode_template(USER_HEAD)],
        "none": published.encode_template("None"),
        "after_reference": published.encode_template(fields),
        "assistant_prefix": [
            *published.encode_template(USER_TAIL),
            5,
            *published.encode_template("\n"),
            4,
            *published.encode_template("assistant\n"),
        ],
    }
    assert made == CASES["real_prompt"]
    heading = published.encode(TEXT_HEADING)
    assert made["after_reference"][-len(heading) :] == heading


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_a_symbol_that_a_user_types_stays_text(symbol):
    encoder = tiny()
    assert encoder.encode_template(f"a {symbol} b")[2] == CONTROL[SYMBOLS.index(symbol)]
    ids = encoder.encode(f"a {symbol} b")
    assert not set(ids) & {0, 1, 2, 3, *CONTROL}
    # Nothing is lost of it: the vocabulary, as it is, reads the ids as the text.
    assert encoder._of_templates.decode(ids) == f"a {symbol} b"


@given(st.text(st.sampled_from("<|/>_imuserntaodpv ") | st.characters(exclude_categories=["Cs"])))
def test_no_text_ever_becomes_a_control_id(text):
    assert not set(ENCODER.encode(text)) & {0, 1, 2, 3, *CONTROL}


@given(st.lists(st.sampled_from([*SYMBOLS, "<s>", "</s>", "<unk>", "<pad>", "<|", "|>", " ", "x"])))
def test_no_text_of_symbols_ever_becomes_a_control_id(parts):
    assert not set(ENCODER.encode("".join(parts))) & {0, 1, 2, 3, *CONTROL}


ENCODER = tiny()


def test_there_is_no_chat_template():
    with pytest.raises(ConfigError, match="has no chat template, which this model needs"):
        tiny().frame("user", True)


# ------------------------------------------------------------------------------------------------- loading


def vocabulary(folder: Path, raw: bytes) -> Path:
    (folder / "tokenizer.model").write_bytes(raw)
    return folder


@pytest.mark.parametrize("raw", [b"", b"junk", b"\x0a\xff\xff", TINY_VOCABULARY.read_bytes()[:-3]], ids=repr)
def test_a_broken_vocabulary_is_refused(tmp_path, raw):
    with pytest.raises(CheckpointError, match=r"tokenizer\.model cannot be loaded: it is no SentencePiece vocabulary"):
        load_tokenizer(vocabulary(tmp_path, raw))


def test_a_git_lfs_pointer_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="git-lfs pointer"):
        load_tokenizer(vocabulary(tmp_path, b"version https://git-lfs.github.com/spec/v1\n"))


def test_without_the_package_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(CheckpointError, match=r"pip install 'moss-tts-mlx\[nano\]'"):
        load_tokenizer(vocabulary(tmp_path, TINY_VOCABULARY.read_bytes()))


def test_a_checkpoint_with_both_is_read_from_tokenizer_json(tmp_path, checkpoints):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(checkpoints["delay"] / name, tmp_path)
    assert not isinstance(load_tokenizer(vocabulary(tmp_path, b"junk")), SentencePieceEncoder)


def test_none_at_all_is_told(tmp_path):
    with pytest.raises(CheckpointError, match=r"holds no tokenizer\.json and no tokenizer\.model"):
        load_tokenizer(tmp_path)
