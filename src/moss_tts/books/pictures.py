"""Pictures and formulas of an e-book as words, where they stand for words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice

from moss_tts.books.markup import Element, local_name, walk

# Descriptions that say no more than that there is a picture.
_NO_WORDS = frozenset(
    """
    image images img picture photo photograph figure illustration cover logo icon ornament decoration divider
    separator spacer map chart diagram graphic bild abbildung umschlag titelbild couverture portada copertina
    """.split()
)
_FILE_NAME = re.compile(r"\S+\.(?:jpe?g|png|gif|svg|webp|bmp|tiff?)|(?:[^\W_]|-)*_[\w-]*|\w+\d\d", re.IGNORECASE)
# A picture of the first words of a paragraph has no more than this.
_FIRST_WORDS = 3
# Elements around a picture that are looked at.
_NEAR = 5
_INLINE = frozenset({"a", "b", "em", "i", "picture", "small", "span", "strong"})
_TITLE_CLASS = re.compile(r"(?:^|[-_ ])(?:sub)?(?:title|heading|head)(?:$|[-_ \d])", re.IGNORECASE)
_TOKENS = frozenset({"mi", "mn", "mo", "mtext", "ms"})
_ANNOTATIONS = frozenset({"annotation", "annotation-xml"})
_INVISIBLE_OPERATORS = re.compile("[\u2061-\u2064]")


@dataclass(frozen=True)
class Words:
    """What a picture says.

    Attributes:
        text: its description; "" where that says nothing.
        is_read: whether it stands for words of the text.
    """

    text: str
    is_read: bool


def picture(element: Element, *, in_heading: bool, has_text_before: bool) -> Words:
    """The words of a picture: those of a heading, a word in a line, or the first words of a paragraph."""
    text = " ".join((element.get("alt") or element.get("aria-label") or "").split())
    if not any(character.isalnum() for character in text) or text.lower() in _NO_WORDS or _FILE_NAME.fullmatch(text):
        return Words("", False)
    if in_heading or _is_heading_like(element):
        return Words(f" {text} " if " " in text else text, True)
    after = _text_after(element)
    begins = not has_text_before and after.lstrip()[:1].islower() and text.count(" ") < _FIRST_WORDS
    is_word = " " not in text and (has_text_before or after.strip() != "")
    return Words(text, begins or is_word)


def _is_heading_like(element: Element) -> bool:
    """Whether a picture stands where a title would: in a block of a class for titles."""
    for outer in islice(element.iterancestors(), _NEAR):
        if _TITLE_CLASS.search(outer.get("class") or ""):
            return local_name(outer) != "body"
        if local_name(outer) not in _INLINE:
            return False
    return False


def _text_after(element: Element) -> str:
    """The text right behind an element, out of the inline elements that end with it."""
    for ended in [element, *islice(element.iterancestors(), _NEAR)]:
        if (ended.tail or "").strip():
            return str(ended.tail)
        following = ended.getnext()
        if following is not None:
            return (following.text or "") if local_name(following) in _INLINE else ""
        if local_name(ended.getparent()) not in _INLINE:
            return ""
    return ""


def formula(element: Element) -> str:
    """A MathML formula as words: its alternative text, unless that is TeX; else its letters, numbers and signs."""
    text = " ".join((element.get("alttext") or "").split())
    if text and "\\" not in text:
        return text
    parts: list[str] = []
    annotations = 0
    walked = walk(element)
    for event, inner in walked:
        name = local_name(inner)
        if name in _ANNOTATIONS:
            annotations += 1 if event == "start" else -1
        elif event == "start" and not annotations and (name in _TOKENS or inner is element):
            parts.append(
                _INVISIBLE_OPERATORS.sub("", "".join(inner.itertext()) if name in _TOKENS else inner.text or "")
            )
            if name in _TOKENS:
                walked.skip_subtree()
    return " ".join(" ".join(parts).split())
