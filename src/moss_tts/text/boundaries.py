"""Where a text may be cut, by kind, and where it never is.

This module only finds boundaries; long_form.py chooses those that end a segment. A boundary is the offset right
after a piece's last character, before the white space that follows. Every pass is linear in the text.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from moss_tts.text.full_stops import is_full_stop
from moss_tts.text.tags import PAUSE, SPEAKER_TAG


class BoundaryKind(StrEnum):
    """Kinds of ends of segments, in falling priority; END is the end of the text."""

    TURN = "turn"
    PARAGRAPH = "paragraph"
    SENTENCE = "sentence"
    CLAUSE = "clause"
    WHITESPACE = "whitespace"
    HARD = "hard"
    END = "end"


# Any short bracket is kept whole: tags of other checkpoints look the same.
_BRACKET = re.compile(r"[\[{][^\[\]{}\n]{1,48}[\]}]")
_SLASHED = re.compile(r"(?<![\w/:.])/(?=[^\s/])([^/\n]*[^\s/])/(?![\w/])")
_PHONETIC = re.compile(r"[\u0250-\u02ff\u1d00-\u1dbfæðøŋœθβχ]")
_URL = re.compile(r"(?:https?://|www\.)[^\s<>\"“”«»，。！？；、（）【】《》]*[\w/#=&%~+@$-]")

_SENTENCE_ENDS = ".!?;…。！？；｡．‼⁇⁈⁉؟؛۔।॥።։"
# A quotation mark right before a word opens the next sentence; otherwise it closes this one. French puts a
# blank before », German closes with “ or «.
_CLOSERS = "(?:[”’」』】〕）》〉］｝)\\]}]|[ \u00a0\u202f]?[»›](?!\\w)|[\"'“‘«‹＂＇](?!\\w))*+"
_PAUSES = rf"(?:\s*{PAUSE.pattern})*"
_SENTENCE = re.compile(f"([{_SENTENCE_ENDS}]++){_CLOSERS}(?![,，、:：]){_PAUSES}", re.IGNORECASE)
_CLAUSE_MARK = r"[,:](?=\W|[\u2e80-\uffef])|(?<!\d)[，、：،]|[，、：،](?!\d)|[—―⸺]+|--+|(?<=\s)[–-](?=\s)"
_CLAUSE = re.compile(f"(?:{_CLAUSE_MARK}){_CLOSERS}{_PAUSES}", re.IGNORECASE)
_BREAK = re.compile(r"\s+")
# White space that holds its neighbours together: "10 km", « oui ».
_TYING_SPACES = frozenset("\u00a0\u202f\u2007")


@dataclass(frozen=True, eq=False)
class Boundaries:
    """The boundaries of one text.

    Attributes:
        offsets: per kind, sorted. HARD and END are not listed: nearly every place is one.
        turns: where speaker tags begin, sorted.
        solid: one byte per offset; 1 where a cut would tear a tag, a pause or phonetic spelling.
    """

    text: str
    offsets: dict[BoundaryKind, list[int]]
    turns: list[int]
    solid: bytearray

    def nearest(self, kind: BoundaryKind, low: int, high: int, target: int) -> int | None:
        """The boundary of this kind in low..high nearest to target, the later of two; None without one."""
        offsets = self.offsets[kind]
        after = bisect_left(offsets, target)
        around = [offset for offset in offsets[max(0, after - 1) : after + 1] if low <= offset <= high]
        return min(around, key=lambda offset: (abs(offset - target), -offset), default=None)

    def last_before(self, kind: BoundaryKind, low: int, start: int) -> int | None:
        """The last boundary of this kind in start + 1..low - 1."""
        offsets = self.offsets[kind]
        at = bisect_left(offsets, low) - 1
        return offsets[at] if at >= 0 and offsets[at] > start else None

    def speaker_at(self, offset: int) -> str | None:
        """The speaker's tag at an offset; None before the first tag."""
        at = bisect_right(self.turns, offset) - 1
        return self._tag(self.turns[at]) if at >= 0 else None

    def turn_end(self, offset: int) -> int:
        """The end of the turn that begins at an offset, or after the white space there."""
        turns = self.offsets[BoundaryKind.TURN]
        after = bisect_right(turns, offset)
        return turns[after] if after < len(turns) else len(self.text)

    def skip_space(self, offset: int) -> int:
        """The offset of the first character from offset on that is no white space."""
        return _skip_space(self.text, offset)

    def _tag(self, start: int) -> str:
        return self.text[start : self.text.index("]", start) + 1]

    def may_cut(self, offset: int) -> bool:
        """Whether a hard cut here tears neither markup nor a character as readers see it, nor ends in space."""
        behind_space = self.text[offset - 1].isspace()
        return not (behind_space or self.solid[offset] or joins_characters(self.text, offset))


def find_boundaries(text: str) -> Boundaries:
    """All boundaries of a text that has no white space at its ends."""
    turns = [match.start() for match in SPEAKER_TAG.finditer(text)]
    solid = _mask(len(text), _solid_spans(text))
    links = _mask(len(text), (match.span() for match in _URL.finditer(text)))
    breaks = [match.span() for match in _BREAK.finditer(text) if match[0][0] not in _TYING_SPACES]
    found = {
        BoundaryKind.TURN: [back_over_space(text, turn) for turn in turns],
        BoundaryKind.PARAGRAPH: [start for start, end in breaks if text.count("\n", start, end) > 1],
        BoundaryKind.SENTENCE: [end for end in _sentence_ends(text) if not links[end]],
        BoundaryKind.CLAUSE: [match.end() for match in _CLAUSE.finditer(text) if not links[match.end()]],
        BoundaryKind.WHITESPACE: [start for start, _ in breaks],
    }
    inside = {
        kind: [offset for offset in offsets if 0 < offset < len(text) and not solid[offset]]
        for kind, offsets in found.items()
    }
    return Boundaries(text, inside, turns, solid)


def back_over_space(text: str, offset: int) -> int:
    """The offset after the last character before an offset that is not white space."""
    while offset and text[offset - 1].isspace():
        offset -= 1
    return offset


def _sentence_ends(text: str) -> Iterator[int]:
    for match in _SENTENCE.finditer(text):
        marks = match[1]
        if marks != "." or is_full_stop(text, match.start()):
            yield match.end()


def _solid_spans(text: str) -> Iterator[tuple[int, int]]:
    """Spans (start, end) without a cut strictly inside."""
    yield from (match.span() for match in _BRACKET.finditer(text))
    for match in PAUSE.finditer(text):
        # A pause ends the piece before it: alone, or first, there would be nothing to pause after.
        yield max(0, back_over_space(text, match.start()) - 1), match.end()
    for match in SPEAKER_TAG.finditer(text):
        # A tag stays with the first character of its turn.
        yield match.start(), _skip_space(text, match.end()) + 1
    last = _last_word_character(text)
    if last >= 0:
        # The rest after the last word ("* * *", an empty turn) has nothing to speak, so it is no segment of its own.
        yield last, len(text)
    for match in _SLASHED.finditer(text):
        if _PHONETIC.search(match[1]) or not re.search(r"\s", match[1]):
            yield match.span()


def _last_word_character(text: str) -> int:
    """The offset of the last letter or digit outside brackets; -1 without one."""
    spoken = _BRACKET.sub(lambda match: " " * len(match[0]), text)
    return next((at for at in range(len(text) - 1, -1, -1) if spoken[at].isalnum()), -1)


def _skip_space(text: str, offset: int) -> int:
    match = _BREAK.match(text, offset)
    return match.end() if match else offset


def _mask(length: int, spans: Iterable[tuple[int, int]]) -> bytearray:
    mask = bytearray(length + 1)
    for start, end in spans:
        inside = min(end, length) - start - 1
        mask[start + 1 : start + 1 + inside] = b"\x01" * inside
    return mask


_ZERO_WIDTH_JOINER = "\u200d"
_EMOJI_SKIN = range(0x1F3FB, 0x1F400)
_EMOJI_TAGS = range(0xE0020, 0xE0080)
_FLAG_LETTERS = range(0x1F1E6, 0x1F200)
_HALFWIDTH_VOICING = (0xFF9E, 0xFF9F)
_HANGUL_VOWELS_AND_TAILS = range(0x1160, 0x1200)
_VIRAMA = 9


def joins_characters(text: str, offset: int) -> bool:
    """Whether the characters on both sides of offset are one to a reader: accents, emoji, flags, conjuncts.

    An approximation of Unicode's grapheme clusters (UAX 29) that errs towards not cutting.
    """
    if not 0 < offset < len(text):
        return False
    left, right = text[offset - 1], text[offset]
    return (
        unicodedata.category(right).startswith("M")
        or _extends(ord(right))
        or _ZERO_WIDTH_JOINER in (left, right)
        or (unicodedata.combining(left) == _VIRAMA and right.isalpha())
        or ("\ud800" <= left <= "\udbff" and "\udc00" <= right <= "\udfff")
        or (ord(left) in _FLAG_LETTERS and ord(right) in _FLAG_LETTERS and _splits_flag(text, offset))
    )


def _extends(code: int) -> bool:
    return code in _EMOJI_SKIN or code in _EMOJI_TAGS or code in _HALFWIDTH_VOICING or code in _HANGUL_VOWELS_AND_TAILS


# Flags in a row; more is no text, and counting back from every offset must not become quadratic.
_MAX_FLAGS = 64


def _splits_flag(text: str, offset: int) -> bool:
    before = text[max(0, offset - 2 * _MAX_FLAGS) : offset]
    letters = len(before)
    while letters and ord(before[letters - 1]) in _FLAG_LETTERS:
        letters -= 1
    return (len(before) - letters) % 2 == 1
