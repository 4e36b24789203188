"""A sentence as a person reads it out: all rules in the one order in which they do not disturb each other."""

from __future__ import annotations

import re

from moss_tts.text.english.addresses import ADDRESSES, SIGNS
from moss_tts.text.english.dates import DATES, TIMES, YEARS
from moss_tts.text.english.names import ABBREVIATIONS, CAPITALS, ROMANS
from moss_tts.text.english.quantities import FRACTIONS, LABELS, MONEY, NUMBERS, SUMS, UNITS
from moss_tts.text.english.rules import Rule, apply, rule

# A dot that is left between words is no full stop: those stand at the end, or before a capital.
_INNER_DOT: Rule = rule(r"(?<=\w)\.(?=[ ,][a-z]|[,;:])", "")
_RULES = (
    *ABBREVIATIONS[:2], *ADDRESSES, *DATES, *TIMES, *ROMANS, *ABBREVIATIONS[2:], *MONEY, *LABELS, *UNITS, *FRACTIONS,
    *SUMS, *YEARS, *NUMBERS, *SIGNS, *CAPITALS, _INNER_DOT,
)  # fmt: skip


def in_words(sentence: str) -> str:
    """The sentence with everything written as words; no digit is left."""
    return re.sub(r" {2,}", " ", apply(_RULES, sentence)).strip()
