"""Text of any origin made harmless: nothing in it steers a terminal, and no letter has marks without end."""

from __future__ import annotations

import unicodedata

import regex

# C0 but for tab and line feed, DEL and C1, ends of lines and paragraphs, directions (UAX 9).
_CONTROLS = regex.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
# Halves of pairs are bytes of a name that are no characters.
_BYTES = regex.compile("[\ud800-\udfff]")
# Unicode's stream-safe form has no more marks on a letter (UAX 15); to sort n of them takes the square of n.
_MARKS_WITHOUT_END = regex.compile(r"(\p{M}{30})\p{M}+")


def without_controls(text: str) -> str:
    """The text with a blank in place of each character that steers a terminal; tabs and line feeds stay.

    A byte that is no character becomes U+FFFD.
    """
    return _BYTES.sub("\ufffd", _CONTROLS.sub(" ", text))


def one_line(text: str, most: int = 40) -> str:
    """The text in one line of at most so many characters, without what steers a terminal."""
    # White space may shrink, but what is far behind the end need not be looked at.
    line = " ".join(without_controls(text[: 10 * most]).split())
    return line if len(line) <= most and len(text) <= 10 * most else f"{line[: most - 1]}…"


def composed(text: str) -> str:
    """The text with letters and their marks as one character each where Unicode has it (NFC), in linear time."""
    return unicodedata.normalize("NFC", _MARKS_WITHOUT_END.sub(r"\1", text))
