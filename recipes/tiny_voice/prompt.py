"""Conversations as rows, the way the runtime packs them: a text id and Q codes a row.

F frames, Q codebooks, T rows. Codes are int arrays (F, Q).
"""

from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from .tokenizer import special_ids

HEAD = "user\n<user_inst>\n- Reference(s):\n"
CLOSING = "\n</user_inst>"
FIELDS = ("Instruction", "Tokens", "Quality", "Sound Event", "Ambient Sound", "Language")


@dataclass(frozen=True)
class Lesson:
    """One training example: what is asked for, and the codes that answer it."""

    text: str
    codes: np.ndarray
    reference: np.ndarray | None = None
    fields: tuple[tuple[str, str], ...] = ()
    alignment: np.ndarray | None = None


class RowWriter:
    """Writes prompts and answers with one tokenizer."""

    def __init__(self, tokenizer: Tokenizer, pad_code: int) -> None:
        tokenizer.encode_special_tokens = True  # a sentence that spells a control token is only text
        self.tokenizer, self.pad_code = tokenizer, pad_code
        self.ids = {key.removesuffix("_token_id"): value for key, value in special_ids(tokenizer).items()}

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def text_rows(self, ids: list[int], codebooks: int) -> np.ndarray:
        rows = np.full((len(ids), 1 + codebooks), self.pad_code, np.int32)
        rows[:, 0] = ids
        return rows

    def slot_rows(self, slot: str, codes: np.ndarray) -> np.ndarray:
        return np.concatenate([np.full((len(codes), 1), self.ids[slot]), codes], axis=1).astype(np.int32)

    def prompt(self, lesson: Lesson) -> np.ndarray:
        """(T, 1 + Q): the user's message, the assistant's header, audio_start."""
        codebooks = lesson.codes.shape[1]
        start, end = self.ids["im_start"], self.ids["im_end"]
        after = [end, *self.encode("\n"), start, *self.encode("assistant\n"), self.ids["audio_start"]]
        ask = self.encode(self.request(lesson))
        if lesson.reference is None:
            return self.text_rows([start, *ask, *after], codebooks)
        reference = self.slot_rows("audio_user_slot", lesson.reference)
        before, rest = self.text_rows(self.introduction(), codebooks), self.text_rows([*ask, *after], codebooks)
        closing = self.text_rows([self.ids["audio_end"]], codebooks)
        return np.concatenate([before, reference, closing, rest])

    def introduction(self) -> list[int]:
        """What comes before a reference."""
        return [self.ids["im_start"], *self.encode(f"{HEAD}[S1]:\n"), self.ids["audio_start"]]

    def request(self, lesson: Lesson) -> str:
        """The user's message; after a reference, the rest of it."""
        given = dict(lesson.fields)
        block = "".join(f"\n- {label}:\n{given.get(label, 'None')}" for label in FIELDS)
        opening = f"{HEAD}None" if lesson.reference is None else ""
        return f"{opening}{block}\n- Text:\n{lesson.text}{CLOSING}"

    def letter_rows(self, lesson: Lesson) -> np.ndarray:
        """The row of the prompt that holds each letter of the text, and of what follows it."""
        request = self.request(lesson)
        first = 1 if lesson.reference is None else len(self.introduction()) + len(lesson.reference) + 1
        rows = np.zeros(len(request), np.int64)
        for row, (begin, end) in enumerate(self.tokenizer.encode(request, add_special_tokens=False).offsets, first):
            rows[begin:end] = row
        return rows[len(request) - len(CLOSING) - len(lesson.text) :]

    def answer(self, codes: np.ndarray) -> np.ndarray:
        """(F + 1, 1 + Q): the frames on gen slots, then audio_end."""
        end = self.text_rows([self.ids["audio_end"]], codes.shape[1])
        return np.concatenate([self.slot_rows("audio_assistant_gen_slot", codes), end])
