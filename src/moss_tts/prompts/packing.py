"""How each architecture writes a conversation as rows of a text id and Q audio codes.

Letters: T rows, Q codebooks, F frames. Column 0 of a row is text; the others hold audio codes on slot rows
and the pad code elsewhere. Rows are built from the ids of the config, never from token spellings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from moss_tts.audio.codes import CodeMatrix, apply_delay_pattern
from moss_tts.audio.references import Reference
from moss_tts.config import DelayConfig, MossConfig, SlotConfig
from moss_tts.errors import ConfigError, RequestError
from moss_tts.presets import PromptTemplate
from moss_tts.prompts.messages import (
    TEXT_HEADING,
    USER_HEAD,
    USER_TAIL,
    Audio,
    Content,
    Message,
    PromptEncoder,
    UserMessage,
)

# Rows by which text that goes in beside the sound is ahead of it.
LEAD = 12
# (T, 1 + Q) int32
Rows: TypeAlias = npt.NDArray[np.int32]
EncodeAudio: TypeAlias = Callable[[Sequence[Reference]], list[CodeMatrix]]


class PromptPacker:
    """Writes conversations as rows. A subclass overrides what its architecture does differently."""

    def __init__(self, config: MossConfig, encoder: PromptEncoder) -> None:
        self.config = config
        self.encoder = encoder

    def pack(self, messages: Sequence[Message], mode: str, template: PromptTemplate, encode_audio: EncodeAudio) -> Rows:
        """One conversation (T, 1 + Q), ready to be generated from or continued."""
        raise NotImplementedError

    def heading(self) -> tuple[int, ...]:
        """Ids right before the text in a user message; the fields that say how to speak it come earlier."""
        return tuple(self.encoder.encode(TEXT_HEADING))

    def spoken_ids(self, messages: Sequence[Message]) -> tuple[int, ...] | None:  # noqa: ARG002
        """The ids of the text, for models that read it while they speak; None where the prompt holds all of it."""
        return None

    def text_rows(self, ids: Sequence[int]) -> Rows:
        """Rows (N, 1 + Q) of text, audio columns padded.

        Raises:
            ConfigError: an id that the network has no embedding for; it would read what lies behind them in memory.
        """
        if (largest := max(ids, default=0)) >= self.config.vocab_size:
            raise ConfigError(
                f"the tokenizer writes token {largest}, outside the vocabulary of {self.config.vocab_size}: tokenizer "
                "and config.json belong to different checkpoints."
            )
        rows = np.full((len(ids), 1 + self.config.n_vq), self.config.audio_pad_code, dtype=np.int32)
        rows[:, 0] = ids
        return rows

    def slot_rows(self, slots: Sequence[int], codes: CodeMatrix) -> Rows:
        """Rows (N, 1 + Q) of slot ids with a code row (N, Q) on each."""
        return np.concatenate([np.array(slots, dtype=np.int32)[:, None], codes], axis=1)


class SlotPacker(PromptPacker):
    """Packs for networks that write slots into the text column."""

    config: SlotConfig

    def __init__(self, config: SlotConfig, encoder: PromptEncoder) -> None:
        super().__init__(config, encoder)

    def start_row(self) -> Rows:
        """The row (1, 1 + Q) after which speech begins."""
        return self.text_rows([self.config.audio_start_token_id])

    def end_row(self) -> Rows:
        """The row (1, 1 + Q) that closes a block of audio."""
        return self.text_rows([self.config.audio_end_token_id])


class ChatPacker(SlotPacker):
    """Each message goes through the chat template and is tokenised in one piece between control tokens."""

    def __init__(self, config: SlotConfig, encoder: PromptEncoder) -> None:
        super().__init__(config, encoder)
        # A template that cannot be used is refused now, not at the first request.
        for role, generation_prompt in (("user", True), ("user", False), ("assistant", False)):
            self._frame(role, generation_prompt)

    def pack(self, messages: Sequence[Message], mode: str, template: PromptTemplate, encode_audio: EncodeAudio) -> Rows:
        """See PromptPacker. A continued conversation ends on the last frame's slot, its audio left open."""
        rows = [
            self._message_rows(message, template, encode_audio, generation_prompt=False) for message in messages[:-1]
        ]
        last = messages[-1]
        if mode == "generation":
            # If audio_start were sampled, it would not always come.
            rows += [self._message_rows(last, template, encode_audio, True), self.start_row()]
        else:
            rows.append(self._open_rows(last, template, encode_audio))
        return np.concatenate(rows)

    def audio_slots(self, role: str, n_frames: int) -> list[int]:
        """Slot ids of a block of audio, one for each row of audio_codes."""
        raise NotImplementedError

    def audio_codes(self, codes: CodeMatrix) -> CodeMatrix:
        """Codes (F, Q) as the slot rows hold them."""
        raise NotImplementedError

    def _message_rows(
        self, message: Message, template: PromptTemplate, encode_audio: EncodeAudio, generation_prompt: bool
    ) -> Rows:
        before, after = self._frame(message.role, generation_prompt)
        content = encoded_content(message.parts(template), encode_audio)
        return np.concatenate(self._piece_rows(message.role, [*before, *content, *after]))

    def _open_rows(self, message: Message, template: PromptTemplate, encode_audio: EncodeAudio) -> Rows:
        """A final assistant message up to its last frame: no delay tail, no audio_end, nothing after."""
        before, _ = self._frame(message.role, False)
        content = encoded_content(message.parts(template), encode_audio)
        if not content or isinstance(content[-1], str):
            raise RequestError("continuation needs an assistant message that ends with audio")
        *earlier, codes = content
        block = np.concatenate(self._piece_rows(message.role, [*before, *earlier, codes]))
        # What follows the last frame's row: Delay's tail of Q - 1 slots, if any, and audio_end.
        surplus = len(self.audio_slots(message.role, len(codes))) - len(codes) + 1
        return block[:-surplus]

    def _frame(self, role: str, generation_prompt: bool) -> tuple[list[str | int], list[str | int]]:
        before, after = self.encoder.frame(role, generation_prompt)
        # Where generated rows begin is found by the last im_start.
        if self.config.im_start_token_id not in before:
            raise ConfigError(
                f"the chat template opens a message without token {self.config.im_start_token_id}, "
                "the config's im_start: tokenizer and config.json belong to different checkpoints"
            )
        return before, after

    def _piece_rows(self, role: str, pieces: Sequence[str | int | CodeMatrix]) -> list[Rows]:
        """Rows of each piece; strings next to each other are tokenised as one text."""
        rows: list[Rows] = []
        text = ""
        for piece in [*pieces, None]:
            if isinstance(piece, str):
                text += piece
                continue
            rows.append(self.text_rows(self.encoder.encode(text)))
            text = ""
            if isinstance(piece, int):
                rows.append(self.text_rows([piece]))
            elif piece is not None:
                slots = self.audio_slots(role, len(piece))
                rows += [self.start_row(), self.slot_rows(slots, self.audio_codes(piece)), self.end_row()]
        return rows


class DelayPacker(ChatPacker):
    """Delay: codebook q stands q rows lower, so a block has Q - 1 more rows than frames."""

    config: DelayConfig

    def audio_slots(self, role: str, n_frames: int) -> list[int]:
        """User slots for every row; in the assistant's block, delayed rows have their own slot."""
        tail = self.config.n_vq - 1
        if role == "user":
            return [self.config.audio_user_slot_token_id] * (n_frames + tail)
        delayed = [self.config.audio_assistant_delay_slot_token_id] * tail
        return [self.config.audio_assistant_gen_slot_token_id] * n_frames + delayed

    def audio_codes(self, codes: CodeMatrix) -> CodeMatrix:
        """Codes (F, Q) -> delayed rows (F + Q - 1, Q)."""
        return apply_delay_pattern(codes, self.config.audio_pad_code)


class LocalPacker(ChatPacker):
    """Local v1.0: one row per frame."""

    def audio_slots(self, role: str, n_frames: int) -> list[int]:
        """One slot per frame."""
        config = self.config
        slot = config.audio_user_slot_token_id if role == "user" else config.audio_assistant_gen_slot_token_id
        return [slot] * n_frames

    def audio_codes(self, codes: CodeMatrix) -> CodeMatrix:
        """Codes (F, Q) as they are."""
        return codes


class PiecewisePacker(SlotPacker):
    """Local v1.5: no chat template; the prompt's pieces are tokenised apart and their ids joined.

    As upstream's processing_moss_tts.py of v1.5, which trims the fields, too.
    """

    has_one_voice: ClassVar[bool] = False

    def pack(self, messages: Sequence[Message], mode: str, template: PromptTemplate, encode_audio: EncodeAudio) -> Rows:
        """See PromptPacker. A continuation has no reference: the assistant's audio is the voice."""
        user, prompt = messages[0], messages[1:]
        n_prompts = 1 if mode == "continuation" else 0
        if not isinstance(user, UserMessage) or len(prompt) != n_prompts:
            raise RequestError("this model takes one user message, and one assistant message to continue")
        references = [] if prompt else self._references(user, template, encode_audio)
        rows = [self._head_rows(references), self._user_rows(user, template), self.start_row()]
        for codes in self._prompt_codes(prompt, template, encode_audio):
            rows.append(self.slot_rows([self.config.audio_assistant_gen_slot_token_id] * len(codes), codes))
        return np.concatenate(rows)

    def _references(
        self, user: UserMessage, template: PromptTemplate, encode_audio: EncodeAudio
    ) -> Sequence[CodeMatrix]:
        audio = [part.reference for part in user.reference_parts(template) if isinstance(part, Audio)]
        if self.has_one_voice:
            check_one_reference(audio)
        return encode_audio(audio) if audio else []

    def _head_rows(self, references: Sequence[CodeMatrix]) -> Rows:
        rows = [self._opening_rows("user\n"), self._template_rows(USER_HEAD)]
        for codes in references:
            slots = [self.config.audio_user_slot_token_id] * len(codes)
            rows += [self.start_row(), self.slot_rows(slots, codes), self.end_row()]
        return np.concatenate(rows if references else [*rows, self._template_rows("None")])

    def _user_rows(self, user: UserMessage, template: PromptTemplate) -> Rows:
        fields, text = user.trimmed().field_block(template), user.text or ""
        rows = [self.text_rows(self.encoder.encode(fields)), self.text_rows(self.encoder.encode(text))]
        rows += [self._template_rows(USER_TAIL), self.text_rows([self.config.im_end_token_id])]
        return np.concatenate([*rows, self._template_rows("\n"), self._opening_rows("assistant\n")])

    def _opening_rows(self, role: str) -> Rows:
        return np.concatenate([self.text_rows([self.config.im_start_token_id]), self._template_rows(role)])

    def _template_rows(self, text: str) -> Rows:
        return self.text_rows(self.encoder.encode_template(text))

    def _prompt_codes(
        self, prompt: Sequence[Message], template: PromptTemplate, encode_audio: EncodeAudio
    ) -> list[CodeMatrix]:
        if not prompt:
            return []
        content = encoded_content(prompt[0].parts(template), encode_audio)
        if len(content) != 1 or isinstance(content[0], str):
            raise RequestError("this model continues an assistant message of exactly one piece of audio")
        return [content[0]]


class NanoPacker(PiecewisePacker):
    """Nano: the pieces of Local v1.5, and one voice."""

    has_one_voice = True


def check_one_reference(references: Sequence[object]) -> None:
    """Refuse several references, for models that speak in one voice.

    Raises:
        RequestError: there are several.
    """
    if len(references) > 1:
        raise RequestError(
            f"this model takes 1 reference at most, got {len(references)}; give one recording, of the voice that is to "
            "speak."
        )


def encoded_content(content: Content, encode_audio: EncodeAudio) -> list[str | CodeMatrix]:
    """A message's content with codes in place of its audio, neighbouring blocks of audio merged into one."""
    references = [part.reference for part in content if isinstance(part, Audio)]
    codes = iter(encode_audio(references) if references else [])
    encoded: list[str | CodeMatrix] = []
    for part in content:
        if isinstance(part, str):
            encoded.append(part)
        else:
            _append_codes(encoded, next(codes))
    return encoded


def _append_codes(encoded: list[str | CodeMatrix], codes: CodeMatrix) -> None:
    """Add a block of audio; it joins the block before if only white space is between them."""
    blank = bool(encoded) and isinstance(encoded[-1], str) and not encoded[-1].strip()
    before = -2 if blank else -1
    if len(encoded) >= -before and not isinstance(previous := encoded[before], str):
        encoded[before:] = [np.concatenate([previous, codes])]
    else:
        encoded.append(codes)
