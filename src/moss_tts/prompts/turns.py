"""How Realtime writes a conversation: a system prompt with the voice, then turns of text and sound side by side.

The text of a turn is ahead of its sound by LEAD rows. The reply's own text is written up to there; the rest goes in
while the network speaks. Rows without sound have the pad code in all codebooks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from moss_tts.audio.codes import CodeMatrix
from moss_tts.config import RealtimeConfig
from moss_tts.errors import ConfigError, RequestError
from moss_tts.presets import PromptTemplate
from moss_tts.prompts.messages import Audio, Message, PromptEncoder, UserMessage
from moss_tts.prompts.packing import LEAD, EncodeAudio, PromptPacker, Rows, check_one_reference

SYSTEM = (
    "<|im_start|>system\n"
    "You are a highly expressive text-to-speech (TTS) engine developed by Mosi Intelligence. \n"
    "You possess natural language understanding, emotional modeling, and multi-style speech generation capabilities, "
    "allowing you to generate the corresponding speech based on the text given in the assistant.<|im_end|>\n"
)
VOICE = "<|im_start|>context\nThe assistant section should be synthesized using the following voice timbre:"
END, USER, ASSISTANT = "<|im_end|>\n", "<|im_start|>user\n", "<|im_start|>assistant\n"


class RealtimePacker(PromptPacker):
    """Realtime: a conversation is a system prompt and turns."""

    config: RealtimeConfig

    def __init__(self, config: RealtimeConfig, encoder: PromptEncoder) -> None:
        super().__init__(config, encoder)
        for token in ("<|im_start|>", "<|im_end|>"):
            if len(encoder.encode_template(token)) != 1:
                raise ConfigError(f"the tokenizer has no token {token}: it belongs to another checkpoint.")

    def pack(self, messages: Sequence[Message], mode: str, template: PromptTemplate, encode_audio: EncodeAudio) -> Rows:
        """See PromptPacker: one text, and at most one recording of the voice."""
        user = messages[0]
        if mode != "generation" or len(messages) > 1 or not isinstance(user, UserMessage):
            raise RequestError(
                "this model speaks one text in one voice; it takes no conversation and continues nothing."
            )
        audio = [part.reference for part in user.reference_parts(template) if isinstance(part, Audio)]
        check_one_reference(audio)
        [voice] = encode_audio(audio) if audio else [None]
        text = self.spoken_ids(messages) or ()
        return np.concatenate([self.system_rows(voice), self.reply_header(), self.reply_rows(text[:LEAD])])

    def heading(self) -> tuple[int, ...]:
        """The header of a reply."""
        return tuple(self.encoder.encode_template(ASSISTANT))

    def spoken_ids(self, messages: Sequence[Message]) -> tuple[int, ...] | None:
        """The ids of the text."""
        text = getattr(messages[0], "text", None) or ""
        return tuple(int(one) for one in self.text_rows(self.encoder.encode(text))[:, 0])

    def system_rows(self, voice: CodeMatrix | None) -> Rows:
        """The system prompt, with the codes (F, Q) of a voice."""
        if voice is None:
            return self._template_rows(SYSTEM)
        slots = [self.config.audio_user_slot_token_id] * len(voice)
        return np.concatenate(
            [self._template_rows(SYSTEM + VOICE), self.slot_rows(slots, voice), self._template_rows(END)]
        )

    def user_rows(self, text: str | None, codes: CodeMatrix | None) -> Rows:
        """A turn of the user: words, a recording (F, Q), or both."""
        # A line break at an end would be one token with that of the template, and shift the sound.
        ids = self.encoder.encode((text or "").strip("\r\n"))
        header = self._template_rows(END + USER)
        words = self.text_rows(ids) if codes is None else self._sounding_rows(ids, codes)
        return np.concatenate([header, words, self._template_rows(END)])

    def reply_header(self, after_turn: bool = False) -> Rows:
        """What opens a reply; after a reply, that one is closed first."""
        return self._template_rows(END + ASSISTANT if after_turn else ASSISTANT)

    def reply_rows(self, ids: Sequence[int]) -> Rows:
        """The first text (N, 1 + Q) of a reply; sound begins after the last of these rows."""
        rows = self.text_rows(ids)
        rows[-1:, 1] = self.config.begin_code
        return rows

    def end_of_turn_row(self) -> Rows:
        """The row (1, 1 + Q) that follows the last frame of a turn in training."""
        row = self.text_rows([self.config.text_pad_token_id])
        row[0, 1] = self.config.end_code
        return row

    def _sounding_rows(self, ids: Sequence[int], codes: CodeMatrix) -> Rows:
        """Text and sound side by side, with the marks of the sound's ends."""
        config, pad = self.config, self.config.text_pad_token_id
        text = list(ids) or [pad]
        begin = min(len(text), LEAD)
        count = max(len(text), begin + len(codes) + 1)
        rows = self.text_rows([*text, *[pad] * (count - len(text))])
        rows[begin - 1, 1] = config.begin_code
        rows[begin : begin + len(codes), 1:] = codes
        rows[begin + len(codes), 1] = config.end_code
        return rows

    def _template_rows(self, text: str) -> Rows:
        return self.text_rows(self.encoder.encode_template(text))
