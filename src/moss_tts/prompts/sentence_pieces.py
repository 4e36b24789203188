"""Vocabularies of SentencePiece (tokenizer.model): prompts as ids, where what a user types is never a control symbol.

SentencePiece finds its symbols, such as <|im_end|>, in any text. So the vocabulary is loaded twice: as it is, for the
words of the prompt itself, and for the words of users with symbols that no text produces.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from moss_tts.errors import CheckpointError, ConfigError
from moss_tts.prompts.messages import PromptEncoder

# Of sentencepiece_model.proto: field 1 of a model is a piece; field 3 of a piece is its type.
_PIECE, _TYPE = 1, 3
_CONTROL, _SYMBOL = 3, 4
_VARINT, _LENGTH = 0, 2
_SIZES = {1: 8, 5: 4}


class SentencePieceEncoder(PromptEncoder):
    """Text as ids of a SentencePiece vocabulary.

    Args:
        model: the bytes of tokenizer.model.

    Raises:
        CheckpointError: the package sentencepiece is not installed, or the bytes are no vocabulary.
    """

    def __init__(self, model: bytes) -> None:
        self._of_templates = _vocabulary(model)
        self._of_texts = _vocabulary(without_symbols(model))

    @property
    def vocabulary_size(self) -> int:
        """See PromptEncoder."""
        return int(self._of_texts.get_piece_size())

    def encode(self, text: str) -> list[int]:
        """See PromptEncoder."""
        return list(self._of_texts.encode(text, out_type=int))

    def encode_template(self, text: str) -> list[int]:
        """See PromptEncoder."""
        return list(self._of_templates.encode(text, out_type=int))

    def frame(self, role: str, generation_prompt: bool) -> tuple[list[str | int], list[str | int]]:  # noqa: ARG002
        """There is no chat template.

        Raises:
            ConfigError: always.
        """
        raise ConfigError("a SentencePiece vocabulary (tokenizer.model) has no chat template, which this model needs.")


def _vocabulary(model: bytes) -> Any:
    try:
        from sentencepiece import SentencePieceProcessor
    except ImportError as error:
        raise CheckpointError(
            "the vocabulary is a tokenizer.model, which needs the package sentencepiece: "
            "pip install 'moss-tts-mlx[nano]'."
        ) from error
    try:
        # Without bytes it would wait for a vocabulary.
        return SentencePieceProcessor(model_proto=model or b"empty")
    except RuntimeError as error:
        raise CheckpointError("it is no SentencePiece vocabulary, or is cut off.") from error


def without_symbols(model: bytes) -> bytes:
    """A vocabulary with its symbols as control pieces: they keep their ids, and no text produces them."""
    changed = bytearray(model)
    for piece, at, end in _fields(model, 0, len(model)):
        if piece == _PIECE:
            for key, value, _ in _fields(model, at, end):
                if key == _TYPE and model[value] == _SYMBOL:
                    changed[value] = _CONTROL
    return bytes(changed)


def _fields(message: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(number, first byte, end) of each field of a protobuf message that is known to be whole."""
    while at < end:
        key, at = _varint(message, at)
        kind, first = key & 7, at
        if kind == _LENGTH:
            length, first = _varint(message, at)
            at = first + length
        else:
            at = _varint(message, at)[1] if kind == _VARINT else at + _SIZES[kind]
        yield key >> 3, first, at


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first, and where it ends."""
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
