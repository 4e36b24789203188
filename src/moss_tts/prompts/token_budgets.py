"""Long texts in pieces of so many tokens, for variants that want them so, and the silence between pieces.

Cuts are where boundaries.py finds them, so never inside "$3.50", an abbreviation or an address.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeAlias

from moss_tts.long_form import LongFormOptions, TextSegment, normalize_line_ends, plan_text_segments
from moss_tts.presets import Pieces
from moss_tts.text.boundaries import Boundaries, BoundaryKind, find_boundaries

# Tokens of a text.
Count: TypeAlias = Callable[[str], int]
# A stretch of text -> its segments, offsets counted in it.
Cut: TypeAlias = Callable[[str], list[TextSegment]]

# No text has more characters than so many times its tokens; what lies further off is not looked at.
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
        options: of the long text.
        in_chars: whether the caller gave budgets in characters, which then hold.
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
    """Cut a text into as long pieces of at most `most` tokens as its sentences allow.

    A sentence over the budget is cut behind a clause, else at white space, else where it is full.
    """
    boundaries = find_boundaries(normalize_line_ends(text))
    start = 0
    while start < len(boundaries.text):
        end, kind = _end_of_piece(boundaries, start, most, count)
        yield TextSegment(boundaries.text[start:end], start, end, None, kind)
        start = boundaries.skip_space(end)


def _end_of_piece(boundaries: Boundaries, start: int, most: int, count: Count) -> tuple[int, BoundaryKind]:
    text = boundaries.text
    reach = min(len(text), start + most * _MOST_CHARS_PER_TOKEN)

    def tokens(end: int) -> int:
        return count(text[start:end])

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
    """Those in start + 1..last, of sorted offsets."""
    return offsets[bisect_right(offsets, start) : bisect_right(offsets, last)]


def _with_silence(segments: list[TextSegment], pieces: Pieces) -> list[TextSegment]:
    """The same with silence behind all but the last."""
    spaced = [replace(segment, silence_after=pieces.silence_after(segment.text)) for segment in segments[:-1]]
    return spaced + segments[-1:]
