"""A text that is still being written, cut into stretches that are spoken one by one.

Where it is cut depends on its characters alone: on those of a stretch, and on a short look-ahead behind them. So the
same text has the same stretches, whenever and in whatever pieces it comes. The first stretches are short, and may end
with a clause; later ones are whole sentences, where these are not too long.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass

from moss_tts.text.boundaries import BoundaryKind, find_boundaries
from moss_tts.text.tags import has_words

# How far a look-ahead goes to find the next word.
LOOK_AHEAD = 64
_TAG = re.compile(r"[\[{][^\[\]{}\n]{1,48}[\]}]")
_LONGEST_TAG = 50
# Words may end a stretch only before these: a paragraph, a turn, an item of a list or a heading.
_BREAK = re.compile(r"\s*(?:\n\s*\n|\[S\d)")
_ITEM = re.compile(r"\s*\n[^\S\n]*(?:[-*+•>#]|\d{1,3}[.)]\s)")
# Characters of a number that may be an item's.
_ITEM_NUMBER = 5


@dataclass(frozen=True)
class Lengths:
    """How long a stretch is, in characters.

    Attributes:
        sentence: the least length at which the end of a sentence ends it.
        clause: the least length at which the end of a clause ends it.
        most: the length at which it is cut where that harms least.
    """

    sentence: int
    clause: int
    most: int


# The first stretch; those after it; those behind a number of characters. A voice needs some three times as long for a
# text as an LLM that writes 12 tokens a second, so that each stretch may be longer than those before it.
FIRST = Lengths(sentence=1, clause=12, most=100)
EARLY, EARLY_CHARACTERS = Lengths(sentence=16, clause=24, most=160), 200
LATER = Lengths(sentence=40, clause=240, most=320)


class GrowingText:
    """Takes a text in pieces, and gives its stretches.

    Attributes:
        pending: characters that are in no stretch yet.
    """

    def __init__(self) -> None:
        self._parts = deque([""])
        self._ended = False
        self.pending = 0
        # Characters that went out in stretches, and the offset in the first part before which there is no cut.
        self._taken, self._refused = 0, 0

    @property
    def rest(self) -> str:
        """The text that is in no stretch yet."""
        return "".join(self._parts)

    @property
    def is_over(self) -> bool:
        """Whether the text has ended, and all of it is in stretches."""
        return self._ended and not self._parts

    def push(self, text: str) -> None:
        """Add a piece."""
        self._parts[-1] += text
        self.pending += len(text)

    def flush(self) -> None:
        """End a stretch here, whatever follows."""
        self._parts.append("")

    def end(self) -> None:
        """Say that no text follows."""
        self._ended = True

    def next(self) -> str | None:
        """The next stretch, without white space at its ends; None if there is none yet, or none any more.

        A part without a letter or a digit is no stretch of its own: there is nothing to speak.
        """
        while self._parts:
            closed = self._ended or len(self._parts) > 1
            text = self._parts[0].lstrip()
            self._keep(text, max(0, self._refused - len(self._parts[0]) + len(text)))
            end = self._end_of_stretch(text, closed)
            if end is None:
                return None
            self._taken += end
            self._keep(text[end:], 0)
            if closed and end == len(text):
                self._parts.popleft()
            if has_words(text[:end]):
                return text[:end].rstrip()
        return None

    def _keep(self, text: str, refused: int) -> None:
        """Keep the end of the first part."""
        self.pending -= len(self._parts[0]) - len(text)
        self._parts[0], self._refused = text, refused

    @property
    def _lengths(self) -> Lengths:
        if not self._taken:
            return FIRST
        return EARLY if self._taken < EARLY_CHARACTERS else LATER

    def _end_of_stretch(self, text: str, closed: bool) -> int | None:
        """Where the first stretch of a text ends; None if more of the text has to be seen."""
        lengths = self._lengths
        for offset in range(self._refused + 1, min(lengths.most, len(text)) + 1):
            if _may_end(text, offset) and offset >= lengths.sentence:
                ahead = look_ahead(text, offset)
                if ahead is None and not closed:
                    return None
                if _ends(text[:ahead], offset, lengths):
                    return offset
            self._refused = offset
        if len(text) >= lengths.most + LOOK_AHEAD or (closed and len(text) > lengths.most):
            return _long_cut(text[: lengths.most + LOOK_AHEAD], lengths)
        return len(text) if closed else None


def look_ahead(text: str, offset: int) -> int | None:
    """Where the look-ahead behind an offset ends; None if more of the text has to be seen to know.

    It ends after the first letter or digit outside tags, or after the number of an item; at the latest after LOOK_AHEAD
    characters.
    """
    at, most = offset, offset + LOOK_AHEAD
    while at < min(most, len(text)):
        tag = _TAG.match(text, at)
        if tag is None and text[at] in "[{" and len(text) < at + _LONGEST_TAG:
            return None
        if text[at].isalnum():
            ahead = at + (_ITEM_NUMBER if text[at].isdigit() and "\n" in text[offset:at] else 1)
            return ahead if ahead <= len(text) else None
        at = tag.end() if tag else at + 1
    return at if at >= most else None


def _may_end(text: str, offset: int) -> bool:
    """Whether a stretch might end here, at a quick look."""
    last = text[offset - 1]
    return not last.isspace() and (not last.isalnum() or text[offset : offset + 1].isspace() or offset == len(text))


def _ends(text: str, offset: int, lengths: Lengths) -> bool:
    """Whether a stretch ends at an offset of a text that ends with the look-ahead."""
    begins_item = _ITEM.match(text, offset) is not None
    if text[offset - 1].isalnum() and not begins_item and not _BREAK.match(text, offset):
        return False
    if not has_words(text[:offset]):
        return False
    boundaries = find_boundaries(text)
    if begins_item and not boundaries.solid[offset]:
        return True
    offsets = boundaries.offsets
    kinds = [BoundaryKind.TURN, BoundaryKind.PARAGRAPH, BoundaryKind.SENTENCE]
    if any(offset in offsets[kind] for kind in kinds):
        return True
    return offset >= lengths.clause and offset in offsets[BoundaryKind.CLAUSE] and not _before_number(text, offset)


def _before_number(text: str, offset: int) -> bool:
    """Whether a number follows: "May 5, 2020" is read as a whole."""
    return text[offset:].lstrip()[:1].isdigit()


def _long_cut(text: str, lengths: Lengths) -> int:
    """Where a stretch without an end is cut: behind its last clause, else between words, else between characters."""
    boundaries = find_boundaries(text)
    least = lengths.most // 3
    for kind in (BoundaryKind.CLAUSE, BoundaryKind.WHITESPACE):
        places = [at for at in boundaries.offsets[kind] if least <= at <= lengths.most]
        whole = [at for at in places if not _before_number(text, at) and not text[at - 1].isdigit()]
        if whole or places:
            return (whole or places)[-1]
    places = [at for at in range(1, len(text)) if boundaries.may_cut(at)]
    return max((at for at in places if at <= lengths.most), default=min(places, default=len(text)))
