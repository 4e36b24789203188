"""Sentences of a paragraph, and punctuation as a voice knows it: commas and stops."""

from __future__ import annotations

import re
import string
import textwrap
from collections.abc import Iterator

from moss_tts.text.boundaries import BoundaryKind, find_boundaries
from moss_tts.text.english.rules import apply, rule

# Marks that are written and not spoken, so that nothing is lost without them.
UNSPOKEN = frozenset(string.punctuation + "–—°")
_GOES_ON = re.compile(r"\s*[\"']?[a-z]")
# From the beginning of a row of blanks or dots, or each place in it would be tried.
_TRAILING_OFF = re.compile(r"(?<!\s)\s*(?:(?:\.\s?){2,40}\.(?=[\"')]*\s+[a-z])|(?<!\.)\.{3,}+(?=[a-z]))")
# Longer than any sentence of prose; the time of the rules grows with the square of the length.
_LONGEST_SENTENCE = 1000
_NO_GAP = re.compile(r"(?<=[a-z][.!?])(?=[A-Z][a-z])")
_GAP = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
_PUNCTUATION = (
    # An apostrophe stands in a word; elsewhere it is a quotation mark.
    rule(r"(?<![A-Za-z])'|'(?![A-Za-z])|\"", ""),
    rule(r"(?<=[A-Za-z])[–](?=[A-Za-z])", " "),
    rule(r"\s*(?:[–—]|--+|(?<!\w)-+(?!\w)|(?<=\s)-|-(?=\s))\s*", ", "),
    rule(r"\s*[()\[\]{};:|](?!\w)\s*|\s+[(\[{]\s*|\A[(\[{]", ", "),
)
_TIDY = (
    rule(r"[^\S\u00a0]+", " "),
    rule(r" ?,(?:[ ,]*,)? ?(?!\u00a0)", ", "),
    rule(r" (?=[,.!?])", ""),
    # One mark where there are several: a question outlasts a cry, a cry a stop.
    rule(r"[\s,]*[.!?](?:[\s,]*[.!?])*", lambda m: next(mark for mark in "?!." if mark in m[0])),
    rule(r"([.!?]) ?, ?", r"\1 "),
    rule(r"(?<=[,.!?])(?=[A-Za-z])", " "),
    rule(r"\A[^A-Za-z]+|[\s,]+\Z", ""),
)


def sentences(paragraph: str) -> Iterator[str]:
    """The sentences of a paragraph on one line; what follows in a small letter belongs to the one before it."""
    line = _NO_GAP.sub(" ", _TRAILING_OFF.sub(", ", paragraph))
    ends = [end for end in find_boundaries(line).offsets[BoundaryKind.SENTENCE] if not _continues(line, end)]
    for start, end in zip([0, *ends], [*ends, len(line)], strict=True):
        yield from textwrap.wrap(line[start:end].strip(), _LONGEST_SENTENCE, break_on_hyphens=False)


def _continues(line: str, end: int) -> bool:
    return line[end - 1] != ";" and _GOES_ON.match(line, end) is not None


def punctuated(sentence: str) -> str:
    """Brackets, colons and dashes as commas, quotation marks off, one mark where there were several."""
    return apply(_PUNCTUATION, sentence)


def finished(text: str) -> Iterator[str]:
    """Sentences in clean punctuation, a capital first; one without a letter is none."""
    for sentence in _GAP.split(text):
        tidy = apply(_TIDY, sentence)
        if tidy:
            yield tidy[0].upper() + tidy[1:]
