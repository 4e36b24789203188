"""The parts that Project Gutenberg adds to its plain texts and pages."""

from __future__ import annotations

import re
from collections.abc import Sequence

from moss_tts.books.remarks import Remarks

_START = re.compile(
    r"^[ \t]*\*\*\*?[ \t]*START OF (?:THE|THIS) PROJECT GUTENBERG.{0,1000}?(?:\*\*\*[ \t]*$|\n[ \t]*\n)"
    r"|^\*END[ *]*THE SMALL PRINT![^\n]*$",
    re.IGNORECASE | re.MULTILINE | re.DOTALL,
)
_END = re.compile(
    r"^[ \t]*(?:\*\*\*?[ \t]*END OF (?:THE|THIS) PROJECT GUTENBERG|End of (?:the |this )?Project Gutenberg)",
    re.IGNORECASE | re.MULTILINE,
)
_FIELD = re.compile(r"^(Title|Author|Language):[ \t]*(\S.*)$", re.MULTILINE)
_CREDITS = re.compile(
    r"\s*(?:(?:Produced|Prepared|Transcribed|E-?text prepared) by\b.*?(?:\n[ \t]*\n|\Z)\s*)+", re.IGNORECASE | re.DOTALL
)
_PICTURE = re.compile(r"\[Illustration(?::[^\[\]]{0,500})?\]", re.IGNORECASE)
_PAGE = re.compile(r"[ \t]?[\[{](?:Pg|Page|p\.)[ \t]*[\divxlc]{1,6}[\]}]", re.IGNORECASE)


def without_boilerplate(text: str, remarks: Remarks) -> tuple[str, dict[str, str]]:
    """A text without Project Gutenberg's header, licence, page numbers and notes of pictures.

    Returns:
        The text, and title, author and language from the header. Other texts come back unchanged.
    """
    start, end = _START.search(text), _END.search(text)
    if start is None and end is None:
        return text, {}
    begins, ends = start.end() if start else 0, end.start() if end else len(text)
    if begins >= ends:
        return text, {}
    header, body = text[:begins], text[begins:ends]
    if start is not None:
        remarks.leave_out_passage("Project Gutenberg's header")
    if end is not None:
        remarks.leave_out_passage("Project Gutenberg's licence")
    if credits := _CREDITS.match(body):
        remarks.leave_out_passage("the names of those that prepared the file")
        body = body[credits.end() :]
    fields = {name.lower(): " ".join(value.split()) for name, value in reversed(_FIELD.findall(header))}
    return _without_marks(body, remarks), fields


def body_of(paragraphs: Sequence[str], remarks: Remarks) -> slice:
    """The paragraphs of a page between Project Gutenberg's header and licence; all of them on other pages."""
    starts = [place for place, text in enumerate(paragraphs) if _START.search(text)]
    ends = [place for place, text in enumerate(paragraphs) if _END.search(text)]
    first, last = starts[0] + 1 if starts else 0, ends[0] if ends else len(paragraphs)
    if first >= last:
        return slice(None)
    for is_there, passage in ((starts, "header"), (ends, "licence")):
        if is_there:
            remarks.leave_out_passage(f"Project Gutenberg's {passage}")
    return slice(first, last)


def _without_marks(body: str, remarks: Remarks) -> str:
    for pattern, thing in ((_PICTURE, "described picture"), (_PAGE, "page number")):
        for _ in pattern.findall(body):
            remarks.leave_out(thing)
        body = pattern.sub("", body)
    return body
