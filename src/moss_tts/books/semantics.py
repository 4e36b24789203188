"""What an element of an e-book is for, as far as it says: by epub:type, by a DPUB-ARIA role, by its class."""

from __future__ import annotations

import re
from itertools import islice

from moss_tts.books.markup import Element, local_name

NOTES = frozenset({"footnote", "rearnote", "endnote", "footnotes", "rearnotes", "endnotes"})
_NOTE_MARKS = frozenset({"noteref", "annoref"})
# epub:type and DPUB-ARIA name the same things, the latter with "doc-" before.
_ROLE = "doc-"

_NOTE_CLASS = re.compile(r"(?:foot|end|rear)-?notes?(?:-?(?:body|text|item|list|section))?", re.IGNORECASE)
_NOTE_MARK_CLASS = re.compile(
    r"(?:foot|end)?-?note-?(?:ref|reference|mark|anchor|call|link|number)|fn-?(?:ref|anchor|mark)|footnote|endnote",
    re.IGNORECASE,
)
_PAGE_CLASS = re.compile(
    r"(?:x-ebookmaker-)?(?:page-?(?:\d+|num(?:ber)?s?|no|nr|break|mark(?:er)?)?|pgnum|pgno|pg|pb|folio)", re.IGNORECASE
)
# Numbers of lines, verses and paragraphs; "ocn" is SiSU's.
_LINE_CLASS = re.compile(r"(?:line|verse|para(?:graph)?)-?(?:num(?:ber)?|no)|ocn", re.IGNORECASE)
_BOILERPLATE = re.compile(r"pg-(?:boilerplate|header|footer)")
_NUMBER = r"(?:\d{1,5}|[ivxlcdm]{1,9})"
_PAGE = re.compile(rf"[\[({{|\s]*(?:p(?:a?ge?)?|pp|s|seite|str)?\.?\s*{_NUMBER}[\])}}|\s]*", re.IGNORECASE)
# Each is read in one way only ("n 1" is no "n" before a "1"), or a row of them could be read in very many.
_ONE_MARK = r"[\[({]?+(?>(?:fn|n|note)\.?\s*\d+|\d{1,4}|[ivxlc]{1,6}|[a-z]|[*†‡§¶#‖⁂]{1,4}|[↩↑⏎↵⤴^])\ufe0e?+[\])}.]?+"
_MARK = re.compile(rf"\s*+{_ONE_MARK}(?:[,;\s–-]++{_ONE_MARK})*+\s*+", re.IGNORECASE)
# Where a number that is raised is no power, a raised sign no part of a formula, and a number that is a link no "p.12".
_ENDS_CLAUSE = re.compile(r"[.,;:!?…。！？，、”’»\"]\Z")
_ENDS_WORD = re.compile(r"(?:[^\W\d_]{3}|[.,;:!?…。！？，、”’»\"])\Z")
_ENDS_LONG_WORD = re.compile(r"(?:[^\W\d_]{4}[.,;:]|[!?…。！？，、”’»\"])\Z")
_FEW_ELEMENTS = 12
_FEW_CHARS = 80
# Longer than this, what calls itself a mark is text.
MARK_CHARS = 10
_HIDDEN_STYLE = re.compile(r"(?:^|;)\s*(?:display\s*:\s*none|visibility\s*:\s*hidden)", re.IGNORECASE)
_RAISED_CLASS = re.compile(r"sup(?:er(?:-?script)?)?\d*", re.IGNORECASE)
_PAGE_ID = re.compile(rf"(?:page|pg|p)[-_]?({_NUMBER})", re.IGNORECASE)
_RAISED_STYLE = re.compile(r"vertical-align\s*:\s*super", re.IGNORECASE)


def kinds(element: Element) -> frozenset[str]:
    """The words of epub:type, under any prefix, and of role, without "doc-"."""
    words: set[str] = set()
    for name, value in element.attrib.items():
        if name == "role":
            words |= {word.removeprefix(_ROLE) for word in value.lower().split()}
        elif name.endswith((":type", "}type")) and not name.startswith(("xlink:", "xsi:", "{http://www.w3.org/")):
            words |= set(value.lower().split())
    return frozenset(words)


def classes(element: Element) -> list[str]:
    """The words of its class."""
    return (element.get("class") or "").replace("_", "-").split()


def short_text(element: Element) -> str | None:
    """Its text, blanks at the ends aside; None for more than a few words, which is all that any rule looks at."""
    if sum(1 for _ in islice(element.iter(), _FEW_ELEMENTS)) == _FEW_ELEMENTS:
        return None
    text = "".join(element.itertext()).strip()
    return text if len(text) <= _FEW_CHARS else None


def aside(element: Element) -> str | None:
    """What an element is that is not read: a noun, "note mark"; None for one that is read."""
    if not element.attrib and local_name(element) != "sup":
        return None
    words = kinds(element)
    if words & NOTES or _has_class(element, _NOTE_CLASS):
        return "note mark" if is_mark(element) else "note"
    if _is_note_mark(element) or (words & _NOTE_MARKS and _is_brief(element)):
        return "note mark"
    if _is_page_number(element, words):
        return "page number"
    if _has_class(element, _LINE_CLASS) and (short_text(element) or "").strip("[]().:").isdigit():
        return "paragraph number"
    if _BOILERPLATE.fullmatch(element.get("id") or "") or _has_class(element, _BOILERPLATE):
        return "Project Gutenberg notice"
    if "hidden" in element.attrib or _HIDDEN_STYLE.search(element.get("style") or ""):
        return "hidden passage"
    return None


def _is_brief(element: Element) -> bool:
    text = short_text(element)
    return text is not None and len(text) <= MARK_CHARS


def _has_class(element: Element, pattern: re.Pattern[str]) -> bool:
    return any(pattern.fullmatch(name) for name in classes(element))


def is_mark_or_number(element: Element) -> bool:
    """Whether its text is no more than a note's mark or a page's number."""
    return is_mark(element) or _PAGE.fullmatch(short_text(element) or "") is not None


def is_mark(element: Element) -> bool:
    """Whether its text looks like a note's number or sign."""
    return _MARK.fullmatch(short_text(element) or "") is not None


def _is_note_mark(element: Element) -> bool:
    """A link in or around a superscript, a link back from a note, or an element of a class for such marks."""
    name = local_name(element)
    is_candidate = name in ("a", "sup", "small") or (name == "span" and (element.get("style") or element.get("class")))
    if not is_candidate or not is_mark(element):
        return False
    if _has_class(element, _NOTE_MARK_CLASS) or "backlink" in kinds(element):
        return True
    text = (short_text(element) or "").strip("\ufe0e")
    is_bracketed = text[:1] == "[" and text[-1:] == "]"
    if is_raised(element):
        is_behind = (_ENDS_CLAUSE if text.isdigit() else _ENDS_WORD).search(_text_before(element))
        is_bare = (text.isdigit() or not any(map(str.isalnum, text))) and is_behind is not None
        return is_bracketed or is_bare or any(_is_link(inner) for inner in element.iter())
    # A sign that is a link leads to a note (*, †) or back from one (↩).
    is_sign = "#" in (element.get("href") or "") and not any(map(str.isalnum, text))
    is_number = "#" in (element.get("href") or "") and text.isdigit()
    is_glued = is_number and _ENDS_LONG_WORD.search(_text_before(element)) is not None
    return _is_link(element) and (
        is_sign or is_bracketed or is_glued or any(is_raised(inner) for inner in element.iter())
    )


def _text_before(element: Element) -> str:
    """The text right before it in the element around it."""
    previous, parent = element.getprevious(), element.getparent()
    if previous is None:
        return (parent.text or "") if parent is not None else ""
    return previous.tail or (short_text(previous) or "")


def is_raised(element: Element) -> bool:
    """Whether it is a superscript."""
    is_styled = _RAISED_STYLE.search(element.get("style") or "") or _has_class(element, _RAISED_CLASS)
    return local_name(element) == "sup" or bool(is_styled)


def _is_link(element: Element) -> bool:
    return local_name(element) == "a" and bool(element.get("href"))


def _is_page_number(element: Element, words: frozenset[str]) -> bool:
    text = short_text(element)
    named = _PAGE_ID.fullmatch(element.get("id") or "") if local_name(element) in ("a", "span") else None
    if named is not None and text is not None and text.strip("[]{}() ").lower() == named[1].lower():
        return True
    if not (words & {"pagebreak"} or _has_class(element, _PAGE_CLASS)):
        return False
    if text is None:
        return False
    return not text or _PAGE.fullmatch(text) is not None or (bool(words) and len(text) <= 2 * MARK_CHARS)
