"""Conversations as rows, the way the runtime packs them: a text id and Q codes a row.

F frames, Q codebooks, T rows. Codes are int arrays (F, Q).
"""

from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from .tokenizer import special_ids

FIELDS = ("Instruction", "Tokens", "Quality", "Sound Event", "Ambient Sound", "Language")


@dataclass(frozen=True)
class Lesson:
    """One training example: what is asked for, and the codes that answer it."""

    text: str
    codes: np.ndarray
    reference: np.ndarray | None = None
    fields: tuple[tuple[str, str], ...] = ()


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
        codebooks, given = lesson.codes.shape[1], dict(lesson.fields)
        block = "".join(f"\n- {label}:\n{given.get(label, 'None')}" for label in FIELDS)
        tail = f"{block}\n- Text:\n{lesson.text}\n</user_inst>"
        start, end = self.ids["im_start"], self.ids["im_end"]
        after = [end, *self.encode("\n"), start, *self.encode("assistant\n"), self.ids["audio_start"]]
        head = "user\n<user_inst>\n- Reference(s):\n"
        if lesson.reference is None:
            ids = [start, *self.encode(f"{head}None{tail}"), *after]
            return self.text_rows(ids, codebooks)
        before = [start, *self.encode(f"{head}[S1]:\n"), self.ids["audio_start"]]
        rest = [self.ids["audio_end"], *self.encode(tail), *after]
        reference = self.slot_rows("audio_user_slot", lesson.reference)
        return np.concatenate([self.text_rows(before, codebooks), reference, self.text_rows(rest, codebooks)])

    def answer(self, codes: np.ndarray) -> np.ndarray:
        """(F + 1, 1 + Q): the frames on gen slots, then audio_end."""
        end = self.text_rows([self.ids["audio_end"]], codes.shape[1])
        return np.concatenate([self.slot_rows("audio_assistant_gen_slot", codes), end])
