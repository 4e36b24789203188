"""How far what was heard is from what was to be said: error rates of words and of letters.

Errors are counted as `moss-tts read --check` counts them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from moss_tts.subtitles.word_errors import edits, words


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
