"""How far what was heard is from what was to be said: error rates of words and of letters.

Texts are normalised first, so that neither "19" for "nineteen" nor "colour" for "color" counts as an error.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

SPELLINGS = Path(__file__).with_name("spellings.json")
UNSPACED = ("zh", "ja", "yue", "th", "lo", "my", "km")


@dataclass(frozen=True)
class Heard:
    """One sentence that was spoken and recognised.

    Attributes:
        wanted: what was to be said.
        heard: what the recogniser understood.
        word_errors: insertions, deletions and substitutions of words.
        words: words to be said.
        words_heard: words understood.
        letter_errors, letters: the same of letters, blanks between words among them.
    """

    wanted: str
    heard: str
    word_errors: int
    words: int
    words_heard: int
    letter_errors: int
    letters: int


@cache
def normaliser(language: str) -> Callable[[str], str]:
    """Whisper's own: English knows numbers, titles and contractions; unspaced scripts are split into characters."""
    from transformers.models.whisper.english_normalizer import BasicTextNormalizer, EnglishTextNormalizer

    if language == "en":
        return EnglishTextNormalizer(json.loads(SPELLINGS.read_text(encoding="utf-8")))
    return BasicTextNormalizer(split_letters=language in UNSPACED)


def words(text: str, language: str = "en") -> list[str]:
    """The words of a text in the form in which they are compared."""
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


def compare(wanted: str, heard: str, language: str = "en") -> Heard:
    """Count the errors of one sentence."""
    ours, theirs = words(wanted, language), words(heard, language)
    letters, theirs_joined = " ".join(ours), " ".join(theirs)
    return Heard(
        wanted, heard, edits(ours, theirs), len(ours), len(theirs), edits(letters, theirs_joined), len(letters)
    )


def word_error_rate(results: Iterable[Heard]) -> float:
    """Errors per word to be said, over all sentences together."""
    found = list(results)
    return sum(r.word_errors for r in found) / max(1, sum(r.words for r in found))


def letter_error_rate(results: Iterable[Heard]) -> float:
    """Errors per letter to be said, over all sentences together."""
    found = list(results)
    return sum(r.letter_errors for r in found) / max(1, sum(r.letters for r in found))


def length_ratio(results: Iterable[Heard]) -> float:
    """Words heard per word to be said: below 1 speech ends early, above 1 it repeats itself or babbles."""
    found = list(results)
    return sum(r.words_heard for r in found) / max(1, sum(r.words for r in found))
