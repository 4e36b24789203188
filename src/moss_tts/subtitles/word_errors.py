"""How far what was heard is from what was to be said: errors per word.

Texts are normalised first, so that neither "19" for "nineteen" nor "colour" for "color" counts as an error.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np

SPELLINGS = Path(__file__).with_name("spellings.json")
UNSPACED = ("zh", "ja", "yue", "th", "lo", "my", "km")


def language_code(language: str | None) -> str | None:
    """Whisper's code of a language, from its English name or a tag such as "en-GB"; None for an unknown one."""
    from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

    known: dict[str, str] = {**{code: code for code in TO_LANGUAGE_CODE.values()}, **TO_LANGUAGE_CODE}
    name = (language or "").strip().lower()
    return known.get(name) or known.get(name.split("-")[0].split("_")[0])


@cache
def normaliser(language: str) -> Callable[[str], str]:
    """Whisper's own: English knows numbers, titles and contractions; unspaced scripts are split into characters."""
    from transformers.models.whisper.english_normalizer import BasicTextNormalizer, EnglishTextNormalizer

    if language == "en":
        return EnglishTextNormalizer(json.loads(SPELLINGS.read_text(encoding="utf-8")))
    return BasicTextNormalizer(split_letters=language in UNSPACED)


def words(text: str, language: str = "en") -> list[str]:
    """The words of a text in the form in which they are compared.

    Args:
        text: the text.
        language: the code of its language, as Whisper calls it: "en", "zh".
    """
    return normaliser(language)(text.replace("-", " ")).split()


def edits(wanted: Sequence[str], heard: Sequence[str]) -> int:
    """Levenshtein distance: the fewest insertions, deletions and substitutions."""
    row = np.arange(len(heard) + 1)
    for item in wanted:
        changed = np.minimum(row[1:] + 1, row[:-1] + np.array([item != other for other in heard], int))
        row = np.concatenate(([row[0] + 1], changed))
        # An insertion costs one per place: the least of all places before, each plus its distance.
        row = np.minimum.accumulate(row - np.arange(len(row))) + np.arange(len(row))
    return int(row[-1])


def word_error(wanted: str, heard: str, language: str = "en") -> float:
    """Errors per word that was to be said; in scripts without spaces, per character. It may exceed 1.

    Args:
        wanted: what was to be said.
        heard: what was understood.
        language: the code of its language, as Whisper calls it: "en", "zh".
    """
    ours, theirs = words(wanted, language), words(heard, language)
    return edits(ours, theirs) / max(1, len(ours))
