"""Long texts in pieces of a number of tokens, for variants that want this, and the silence between pieces.

A text is cut only at the boundaries of boundaries.py, so never inside "$3.50", an abbreviation or an address.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeAlias

from moss_tts.long_form import LongFormOptions, TextSegment, normalize_line_ends, plan_text_segments
from moss_tts.presets import Pieces
from moss_tts.text.boundaries import Boundaries, BoundaryKind, find_boundaries

# Counts the tokens of a text.
Count: TypeAlias = Callable[[str], int]
# Cuts a part of a text into segments; their offsets count from the start of that part.
Cut: TypeAlias = Callable[[str], list[TextSegment]]

# The most characters per token of any text: a search looks no further.
_MOST_CHARS_PER_TOKEN = 16
# Kinds of boundaries that a piece may end at, best first; paragraphs end a sentence too.
_KINDS = (
    (BoundaryKind.SENTENCE, BoundaryKind.PARAGRAPH),
    (BoundaryKind.CLAUSE,),
    (BoundaryKind.WHITESPACE,),
)


def cut_of(options: LongFormOptions, in_chars: bool, pieces: Pieces | None = None, count: Count | None = None) -> Cut:
    """How a variant's long texts are cut.

    Args:
        options: the options of the long text.
        in_chars: whether the caller gave limits in characters; those then apply.
        pieces: how the variant wants its texts cut; None: by characters.
        count: counts tokens.
    """

    def by_chars(text: str) -> list[TextSegment]:
        return plan_text_segments(text, options.min_chars, options.target_chars, options.max_chars)

    if pieces is None:
        return by_chars
    if in_chars or count is None:
        return lambda text: _with_silence(by_chars(text), pieces)
    return lambda text: _with_silence(list(plan_by_tokens(text, pieces.most_tokens, count)), pieces)


def plan_by_tokens(text: str, most: int, count: Count) -> Iterator[TextSegment]:
    """Cut a text into pieces of at most `most` tokens, each as long as sentences allow.

    A longer sentence is cut after a clause, else at white space, else after `most` tokens.
    """
    boundaries = find_boundaries(normalize_line_ends(text))
    start = 0
    while start < len(boundaries.text):
        end, kind = _end_of_piece(boundaries, start, most, count)
        yield TextSegment(boundaries.text[start:end], start, end, None, kind)
        start = boundaries.skip_space(end)


def _end_of_piece(boundaries: Boundaries, start: int, most: int, count: Count) -> tuple[int, BoundaryKind]:
    text = boundaries.text

    def tokens(end: int) -> int:
        return count(text[start:end])

    # Not far beyond what fits: each look at a longer text takes longer.
    length = most
    while length < most * _MOST_CHARS_PER_TOKEN and start + length < len(text) and tokens(start + length) <= most:
        length *= 2
    reach = min(len(text), start + length)
    if reach == len(text) and tokens(reach) <= most:
        return reach, BoundaryKind.END
    for kinds in _KINDS:
        offsets = sorted(end for kind in kinds for end in _between(boundaries.offsets[kind], start, reach))
        if fitting := bisect_right(offsets, most, key=tokens):
            return offsets[fitting - 1], kinds[0]
    places = [end for end in range(start + 1, reach) if boundaries.may_cut(end)]
    if places:
        return places[max(0, bisect_right(places, most, key=tokens) - 1)], BoundaryKind.HARD
    end = next((end for end in range(reach, len(text)) if boundaries.may_cut(end)), len(text))
    return end, BoundaryKind.END if end == len(text) else BoundaryKind.HARD


def _between(offsets: list[int], start: int, last: int) -> list[int]:
    """The offsets in start + 1..last, of sorted ones."""
    return offsets[bisect_right(offsets, start) : bisect_right(offsets, last)]


def _with_silence(segments: list[TextSegment], pieces: Pieces) -> list[TextSegment]:
    """The same segments with silence after each but the last."""
    spaced = [replace(segment, silence_after=pieces.silence_after(segment.text)) for segment in segments[:-1]]
    return spaced + segments[-1:]
