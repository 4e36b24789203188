"""Lines of a text as paragraphs: without marks of Markdown, wrapped lines joined, headings and list items alone."""

from __future__ import annotations

import re
from collections.abc import Iterator

_HEADING = re.compile(r"#{1,6}\s+")
_ITEM = re.compile(r"(?:>\s*)*(?:[-*+•–—▪◦]\s+(?:\[[ xX]\]\s+)?|(?:(\d{1,3})[.)]|([a-zA-Z])\))\s+(?=\S))")
_QUOTED = re.compile(r"(?:>\s*)+")
_RULE = re.compile(r"\s*(?:[-*_=~#.•⁂]\s*){3,}\Z|\s*⁂\s*\Z")
_SENTENCE_END = re.compile(r"[.!?…:;。！？：；][\"'”’)\]]*\Z")
# A line break after a shorter line is intended if the next line begins like a sentence.
_SHORT_LINE = 45
_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^\s()]*(?:\s+\"[^\"]*\")?\)")
_LEADERS = re.compile(r"\s*(?:\t|\||\.{4,}|(?:\s\.){3,}|\s{3,})\s*")
_TABLE_RULE = re.compile(r"(?=.*---)[\s:|-]++\Z")


def is_scene_break(line: str) -> bool:
    """Whether a line is a row of marks, as between two scenes or two chapters: "***", "---", "* * *"."""
    return bool(_RULE.match(line))


def paragraphs(text: str) -> Iterator[str]:
    """Paragraphs, each on one line and without marks of Markdown; a heading or a list item is one of its own."""
    gathered: list[str] = []
    for line in [*_LINK.sub(r"\1", text).splitlines(), ""]:
        if not line.strip() or _TABLE_RULE.match(line) or is_scene_break(line):
            yield from _closed(gathered)
            continue
        if gathered and _begins_anew(gathered[-1], line.strip()):
            yield from _closed(gathered)
        gathered.append(line.strip())


def _closed(gathered: list[str]) -> Iterator[str]:
    if gathered:
        joined = " ".join([_unmarked(gathered[0]), *gathered[1:]])
        gathered.clear()
        yield _LEADERS.sub(", ", joined).strip(" ,")


def _begins_anew(before: str, line: str) -> bool:
    if _HEADING.match(before) or _HEADING.match(line) or _ITEM.match(line) or _QUOTED.match(line) or "|" in line:
        return True
    begins_sentence = not line[0].islower() and not before.endswith(",")
    return begins_sentence and len(before) < _SHORT_LINE and not _SENTENCE_END.search(before)


def _unmarked(line: str) -> str:
    """A line without its marks; the number of a list item stays, with a comma."""
    line = _QUOTED.sub("", line, count=1) if _QUOTED.match(line) else line
    line = _HEADING.sub("", line, count=1) if _HEADING.match(line) else line
    item = _ITEM.match(line)
    if not item:
        return line
    number = f"{item[1] or item[2]}, " if item[1] or item[2] else ""
    return number + line[item.end() :]
