"""XHTML of an e-book to blocks of plain text: paragraphs and headings, with what is not read left out.

What an element is for is semantics.py's, pictures and formulas are pictures.py's.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from moss_tts.books.archive import url_path
from moss_tts.books.chapters import SCENE_BREAK
from moss_tts.books.markup import Element, Markup, local_name, walk
from moss_tts.books.pictures import formula, picture
from moss_tts.books.remarks import Remarks
from moss_tts.books.semantics import aside, classes, is_mark_or_number, kinds, short_text
from moss_tts.text.tags import has_words

# Headings that begin a chapter; deeper ones are text.
HEADING_LEVELS = range(1, 4)
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_BLOCKS = frozenset(_HEADINGS) | frozenset(
    """
    address article aside blockquote body caption center dd details dialog dir div dl dt fieldset figcaption figure
    footer form header hgroup legend li main menu nav ol optgroup option p pre search section summary table tbody
    tfoot thead title tr ul
    """.split()
)
_CODE = frozenset({"pre", "code", "kbd", "samp", "tt"})
# What readers of the book do not see either.
_UNSEEN = frozenset({"head", "script", "style", "template", "rp"})
_UNREAD = {
    "rt": "reading aid",
    "svg": "drawing",
    "object": "embedded object",
    "audio": "recording",
    "video": "film",
    "iframe": "embedded page",
}
_CONTENTS_NAV = frozenset({"toc", "landmarks", "page-list", "pagelist", "loi", "lot", "loa", "lov"})
_INVISIBLE = re.compile("[\u00ad\u200b\u2060\ufeff]")
_BLOCK_STYLE = re.compile(r"(?:^|;)\s*display\s*:\s*(?:block|list-item|table)\b", re.IGNORECASE)
_LINE_CLASS = re.compile(r"(?:verse|poem|poetry|stanza)-?(?:line|row)?s?\d*|v?-?lines?-?\d*|l\d*|i\d+", re.IGNORECASE)
_INITIAL_CLASS = re.compile(
    r"(?:drop|raised|big|first|large)-?(?:caps?|letters?|initials?)\d*|initials?|lettrine|versal", re.IGNORECASE
)
_INITIAL = re.compile(r"\W{0,2}\w")
# Letters that are words: "A man", "I am" keep their space behind a large initial.
_WORDS_OF_ONE_LETTER = frozenset("aioyuevàèéìòóêåöаиоуявкс")
_ENDS_PHRASE = re.compile(r"[,;:.!?…—–”’»)]\Z")


@dataclass(frozen=True)
class Block:
    """A paragraph or heading.

    Attributes:
        text: its text, with the line breaks of the document; SCENE_BREAK for a rule.
        level: the level of a heading, 1 to 6; 0 for a paragraph.
        ids: those that links to it may name.
        linked: letters of it that are links within the book.
    """

    text: str
    level: int
    ids: frozenset[str]
    linked: int = 0

    @property
    def is_heading(self) -> bool:
        """Whether it may name a chapter."""
        return self.level in HEADING_LEVELS


@dataclass(frozen=True)
class Blocks:
    """The blocks of a document.

    Attributes:
        blocks: its blocks in order.
        last_ids: ids behind the last block.
    """

    blocks: list[Block]
    last_ids: frozenset[str]


def read_blocks(markup: Markup, where: str, remarks: Remarks) -> Blocks:
    """The text of an XHTML document, block by block."""
    reader = _BlockReader(markup, where, remarks)
    if markup.root is not None:
        reader.read()
    reader.end()
    return Blocks(reader.blocks, frozenset(reader.ids))


class _BlockReader:
    def __init__(self, markup: Markup, where: str, remarks: Remarks) -> None:
        self._markup, self._where, self._remarks = markup, where, remarks
        self.blocks: list[Block] = []
        self.ids: set[str] = set()
        self._text: list[str] = []
        self._level = 0
        self._linked = self._in_links = self._preformatted = self._in_code = 0
        self._has_text = False
        # A large initial, until the word that it begins is there.
        self._initial = ""

    def read(self) -> None:
        """Read the whole document."""
        skipped: Element | None = None
        for event, element in walk(self._markup.root):
            if skipped is None and event == "start":
                skipped = None if self._enter(element) else element
                if skipped is None:
                    self._add(element.text)
            elif event == "end" and (skipped is None or skipped is element):
                if skipped is None:
                    self._leave(element)
                skipped = None
                if element is not self._markup.root:
                    self._add(element.tail)

    def _enter(self, element: Element) -> bool:
        """Begin an element; False if nothing in it is to be read."""
        name = local_name(element)
        self.ids |= {value for key in ("id", "name") if (value := element.get(key))}
        if _is_line(element, name) or (name == "span" and self._begins_phrase(element)):
            self._break_line()
        if name in _BLOCKS:
            self.end_block()
            self._level = _HEADINGS.get(name, 1 if name != "p" and element.get("role") == "heading" else 0)
        if name in _UNSEEN or self._is_left_out(element, name) or self._is_read_whole(element, name):
            return False
        self._in_links += _is_internal_link(element, name)
        self._preformatted += name == "pre"
        self._in_code += name in _CODE
        return True

    def _begins_phrase(self, element: Element) -> bool:
        """Whether it stands right behind the end of a phrase in another such element: a line of verse, by its style."""
        before = element.getprevious()
        is_glued = before is not None and local_name(before) == "span" and not before.tail and not self._in_code
        is_word = (element.text or "")[:1].isalpha() and bool(self._text)
        return is_glued and is_word and _ENDS_PHRASE.search(self._text[-1]) is not None

    def _leave(self, element: Element) -> None:
        name = local_name(element)
        if name in _BLOCKS:
            self.end_block()
        elif name in ("td", "th"):
            self._text.append(" ")
        elif _is_line(element, name):
            self._break_line()
        self._in_links -= _is_internal_link(element, name)
        self._preformatted -= name == "pre"
        self._in_code -= name in _CODE

    def _is_left_out(self, element: Element, name: str) -> bool:
        """Whether an element is one of those that are not read; says so if it has any text."""
        thing = _UNREAD.get(name) or aside(element) or _other_case(element, name)
        if name == "nav" and kinds(element) & _CONTENTS_NAV:
            thing = "contents list"
        if thing is None or (name == "svg" and self._level):
            return False
        if self._is_open_ended(element, name):
            self._remarks.warn(self._where, f"does not end its <{name}>; its content was read")
            return False
        self.ids |= {value for inner in element.iter() for key in ("id", "name") if (value := inner.get(key))}
        if any(map(has_words, element.itertext())):
            self._remarks.leave_out(thing)
        return True

    def _is_open_ended(self, element: Element, name: str) -> bool:
        """Whether it may hold what does not belong to it: it has no end, and is more than a mark."""
        # Ruby ends where its line does.
        return name in self._markup.unclosed and name != "rt" and not is_mark_or_number(element)

    def _is_read_whole(self, element: Element, name: str) -> bool:
        """Read an element that is no text as words: a line break, a rule, a picture, a formula, an initial."""
        reader = _WHOLE.get(name)
        if reader is not None:
            reader(self, element)
            return True
        if element.get("role") == "img" and element.get("aria-label"):
            self._picture(element)
            return True
        return self._is_initial(element, name)

    def _rule(self, _: Element) -> None:
        self.end_block()
        self.blocks.append(Block(SCENE_BREAK, 0, frozenset()))

    def _formula(self, element: Element) -> None:
        words = formula(element)
        before = " " if self._text and self._text[-1][-1:].isalnum() else ""
        self._add(before + words + (" " if (element.tail or "")[:1].isalnum() else ""))

    def _picture(self, element: Element) -> None:
        words = picture(element, in_heading=bool(self._level), has_text_before=self._has_text)
        if words.is_read:
            self._add(words.text)
        elif words.text:
            self._remarks.leave_out("described picture")

    def _break_line(self, _: Element | None = None) -> None:
        self._text.append("\n")

    def _is_initial(self, element: Element, name: str) -> bool:
        """Keep a large initial for the word that it begins."""
        if not any(_INITIAL_CLASS.fullmatch(word) for word in classes(element)):
            return False
        text = short_text(element)
        if name in _HEADINGS or text is None:
            return False
        letter = text or "".join(image.get("alt") or "" for image in element.iter("{*}img"))
        if not _INITIAL.fullmatch(letter):
            return False
        self._initial += letter
        return True

    def _add(self, data: str | None) -> None:
        if not data:
            return
        text = _INVISIBLE.sub("", data)
        if self._initial:
            if not text.strip():
                return
            text, self._initial = _with_initial(self._initial, text), ""
        if self._in_links:
            self._linked += sum(character.isalpha() for character in text)
        if not self._preformatted:
            text = re.sub(r"\s+", " ", text)
        self._text.append(text)
        self._has_text = self._has_text or not text.isspace()

    def end_block(self) -> None:
        """Close the block being read; ids without text wait for the next one."""
        lines = (" ".join(line.split()) for line in "".join(self._text).split("\n"))
        text = "\n".join(line for line in lines if line)
        if text:
            self.blocks.append(Block(text, self._level, frozenset(self.ids), self._linked))
            self.ids.clear()
        self._text.clear()
        self._level = self._linked = 0
        self._has_text = False

    def end(self) -> None:
        """Close the document; an initial without a word stands alone."""
        self._text.append(self._initial)
        self.end_block()


_WHOLE: dict[str, Callable[[_BlockReader, Element], None]] = {
    "br": _BlockReader._break_line,
    "hr": _BlockReader._rule,
    "img": _BlockReader._picture,
    "image": _BlockReader._picture,
    "math": _BlockReader._formula,
}


def _is_internal_link(element: Element, name: str) -> bool:
    href = (element.get("href") or "") if name == "a" else ""
    return href != "" and url_path(href) is not None


def _with_initial(initial: str, text: str) -> str:
    """The initial and the text behind it; a blank between them stays where the letter may be a word."""
    rest = text.lstrip()
    is_word = initial[-1].lower() in _WORDS_OF_ONE_LETTER or not rest[0].isalpha()
    return initial + (text if is_word else rest)


def _is_line(element: Element, name: str) -> bool:
    """Whether an inline element is a line of its own: it is shown as a block, or is a line of verse."""
    if name in _BLOCKS or name not in ("span", "a", "em", "i", "b", "strong", "small", "cite", "l", "label"):
        return False
    if _BLOCK_STYLE.search(element.get("style") or "") or name == "l":
        return True
    return name == "span" and any(_LINE_CLASS.fullmatch(word) for word in classes(element))


def _other_case(element: Element, name: str) -> str | None:
    """What is not read of an epub:switch: a case beside a default, or behind another case."""
    if name != "case" or local_name(element.getparent()) != "switch":
        return None
    is_first = all(local_name(other) != "case" for other in element.itersiblings(preceding=True))
    has_default = is_first and any(local_name(other) == "default" for other in element.getparent())
    return "alternative version" if has_default or not is_first else None
