"""Numerals as words: cardinals, decimals, ordinals, years, digits one by one, Roman numerals."""

from __future__ import annotations

import re

from num2words import num2words
from roman_numerals import InvalidRomanNumeralError, RomanNumeral

from moss_tts.text.pieces import TIE, tied

# 1,234,567 or 1234567, with decimals or without.
NUMBER = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?"
# Nothing that would make it the middle of another number or word.
ALONE = r"(?<![\w.,/:'-])"
_MOST_DIGITS = 15


def integer(value: int) -> str:
    """Words of a whole number of at most 15 digits, without commas."""
    return _plain(num2words(value, lang="en"))


def cardinal(number: str) -> str:
    """Words of a number as NUMBER finds it: "1,200.50" -> "one thousand two hundred point five zero"."""
    whole, _, decimals = number.replace(",", "").partition(".")
    words = integer(int(whole)) if len(whole) <= _MOST_DIGITS else digits(whole)
    return tied(f"{words} point {digits(decimals)}") if decimals else words


def ordinal(value: int) -> str:
    """22 -> "twenty-second"."""
    return _plain(num2words(value, lang="en", to="ordinal"))


def year(value: int) -> str:
    """1984 -> "nineteen eighty-four", 1905 -> "nineteen oh five", 2005 -> "two thousand and five"."""
    return _plain(num2words(value, lang="en", to="year")).replace("oh-", f"oh{TIE}")


def digits(run: str) -> str:
    """Digit by digit: "507" -> "five zero seven"."""
    return TIE.join(integer(int(digit)) for digit in run)


def plural(words: str) -> str:
    """Several of a number: "nineteen eighty" -> "nineteen eighties", "hundred" -> "hundreds"."""
    return re.sub(r"y\Z", "ie", words) + ("es" if words.endswith("six") else "s")


def roman(numeral: str) -> int | None:
    """The value of a Roman numeral in letters of one case; None where it is none."""
    try:
        return int(RomanNumeral.from_string(numeral))
    except InvalidRomanNumeralError:
        return None


def _plain(words: str) -> str:
    return tied(words.replace(",", ""))
