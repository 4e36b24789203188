"""Conversations, in any of the shapes callers give them, as a batch of model inputs.

Letters: B batch, T rows, Q codebooks, F frames.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import mlx.core as mx
import numpy as np

from moss_tts.architectures import ARCHITECTURES
from moss_tts.audio.codes import CodeMatrix, check_code_range
from moss_tts.audio.references import AudioArray, CodeArray, CodeFile, Joined, Reference, as_reference
from moss_tts.config import MossConfig
from moss_tts.errors import ConfigError, RequestError, shown
from moss_tts.presets import PLAIN_TEMPLATE, PromptTemplate
from moss_tts.prompts.messages import (
    FINAL_ROLE,
    AssistantMessage,
    Audio,
    Message,
    PromptEncoder,
    UserMessage,
    as_message,
    build_user_message,
    check_final_role,
)
from moss_tts.prompts.packing import PromptPacker, Rows
from moss_tts.prompts.reference_codes import check_files, encode_references, load_waveform

__all__ = ["AssistantMessage", "Message", "MossTTSProcessor", "UserMessage", "build_user_message"]

EncodeReferences: TypeAlias = Callable[[Sequence[Reference], Any, int, int], list[CodeMatrix]]
GivenMessage: TypeAlias = Message | Mapping[str, Any]
Conversation: TypeAlias = GivenMessage | Sequence[GivenMessage]


class MossTTSProcessor:
    """Conversations -> model inputs, for the architecture of `config`.

    Args:
        tokenizer: the checkpoint's tokenizer, with its chat template, or an encoder of prompts.
        config: the checkpoint's config.
        codec: gives the codec when a reference has to be encoded, and not before.
        encode: references -> code matrices, in one pass of the codec; `encode_references` if None.

    Raises:
        ConfigError: the tokenizer is another model's, or has no chat template where the model needs one.
    """

    def __init__(self, tokenizer: Any, config: MossConfig, codec: Any, encode: EncodeReferences | None = None) -> None:
        self.tokenizer = tokenizer
        self.config = config
        self.codec = codec
        self._encode = encode or partial(encode_references, levelled=config.levels_references)
        encoder = PromptEncoder.of(tokenizer)
        if encoder.vocabulary_size > config.vocab_size:
            raise ConfigError(
                f"the tokenizer has {encoder.vocabulary_size} tokens and the model {config.vocab_size}: tokenizer and "
                "config.json belong to different checkpoints."
            )
        self._packer = ARCHITECTURES[type(config)].packer(config, encoder)

    @property
    def packer(self) -> PromptPacker:
        """Writes conversations as rows."""
        return self._packer

    @property
    def text_heading(self) -> tuple[int, ...]:
        """Ids right before the text in a user message; the fields that say how to speak it come earlier."""
        return self._packer.heading()

    def spoken_ids(self, messages: Sequence[Message]) -> tuple[int, ...] | None:
        """The ids of the text, for models that read it while they speak; None where the prompt holds all of it."""
        return self._packer.spoken_ids(messages)

    def count_tokens(self, text: str) -> int:
        """Tokens of a text in a prompt."""
        return len(self._packer.encoder.encode(text))

    def prepare_generation_inputs(
        self,
        conversations: Conversation | Sequence[Conversation],
        mode: str = "generation",
        template: PromptTemplate = PLAIN_TEMPLATE,
    ) -> tuple[mx.array, mx.array]:
        """Pack a message, a conversation (list of messages) or a batch (list of conversations).

        Args:
            conversations: messages are Message objects or dicts with a role.
            mode: "generation" answers a final user message, "continuation" continues a final assistant
                message.
            template: what the variant's user messages look like.

        Returns:
            input_ids (B, T, 1 + Q) int32, left-padded, and the mask (B, T) of the rows that are not padding.

        Raises:
            RequestError: an unknown mode, a conversation with an end that does not fit the mode, bad codes.
        """
        batch = [_checked(conversation, mode) for conversation in as_batch(conversations)]
        rows = [self._packer.pack(messages, mode, template, self.encode_audio) for messages in batch]
        return left_pad(rows, self.config)

    def check_files(self, messages: Sequence[Message], template: PromptTemplate = PLAIN_TEMPLATE) -> None:
        """Refuse messages that name files which cannot be opened, without encoding anything.

        Raises:
            AudioError: such a file.
        """
        check_files(part.reference for one in messages for part in one.parts(template) if isinstance(part, Audio))

    def encode_audio(self, references: Sequence[object]) -> list[CodeMatrix]:
        """Code matrices (F, Q) of references, in their order, from one call of the codec.

        Raises:
            RequestError: something is not a reference, or codes are out of range.
            AudioError: a reference that cannot be used.
        """
        known = [as_reference(value, f"reference {position}") for position, value in enumerate(references, 1)]
        groups = [self._separate(reference) for reference in known]
        flat = [reference for group in groups for reference in group]
        codes = self._encode(flat, self.codec, self.config.n_vq, self.config.sampling_rate)
        for matrix in codes:
            check_code_range(matrix, self.config.audio_vocab_size)
        rest = iter(codes)
        return [np.concatenate([next(rest) for _ in group]) for group in groups]

    def _separate(self, reference: Reference) -> list[Reference]:
        """What has to be encoded for a reference: itself, its joined waveform, or parts to join as codes."""
        match reference:
            case Joined(parts) if any(isinstance(part, CodeArray | CodeFile) for part in parts):
                return list(parts)
            case Joined(parts):
                rate = self.config.sampling_rate
                return [AudioArray(np.concatenate([load_waveform(part, rate) for part in parts]), rate)]
            case _:
                return [reference]


def as_batch(conversations: Conversation | Sequence[Conversation]) -> list[list[Message]]:
    """A message, a conversation or a batch of either, as a batch of conversations."""
    if isinstance(conversations, Message | Mapping):
        return [[as_message(conversations)]]
    if not isinstance(conversations, list | tuple) or not conversations:
        raise RequestError(
            f"conversations must be a message, a list of messages or a list of such lists, got {shown(conversations)}"
        )
    if all(isinstance(item, Message | Mapping) for item in conversations):
        return [[as_message(message) for message in conversations]]
    return [conversation for item in conversations for conversation in as_batch(item)]


def _checked(conversation: list[Message], mode: str) -> list[Message]:
    if mode not in FINAL_ROLE:
        raise RequestError(f"unknown mode {mode!r}; allowed: {', '.join(FINAL_ROLE)}")
    check_final_role(conversation, mode)
    return conversation


def left_pad(conversations: Sequence[Rows], config: MossConfig) -> tuple[mx.array, mx.array]:
    """Rows (T_i, 1 + Q) of B conversations -> (B, T, 1 + Q) int32 and the mask (B, T)."""
    n_rows = max(map(len, conversations))
    shape = (len(conversations), n_rows, 1 + config.n_vq)
    padded = np.full(shape, config.audio_pad_code, dtype=np.int32)
    padded[..., 0] = config.pad_token_id
    mask = np.zeros(shape[:2], dtype=np.bool_)
    for index, rows in enumerate(conversations):
        padded[index, n_rows - len(rows) :] = rows
        mask[index, n_rows - len(rows) :] = True
    return mx.array(padded), mx.array(mask)
