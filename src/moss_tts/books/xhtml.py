"""XHTML of an e-book to blocks of plain text, and its navigation document to a table of contents.

Built on the lenient HTML parser: real books are not all well formed, and it expands no entities of the
document's own. What is not read aloud is left out: page numbers, note marks and notes set aside, furigana.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from html.parser import HTMLParser

_HEADINGS = frozenset({"h1", "h2", "h3"})
_BLOCKS = _HEADINGS | frozenset(
    """
    address article aside blockquote body caption center dd div dl dt figcaption figure footer h4 h5 h6 header hr
    li main nav ol p pre section table tr ul
    """.split()
)
_UNREAD = frozenset({"head", "script", "style", "rt", "rp", "svg", "math", "template", "object", "audio", "video"})
_UNREAD_TYPES = frozenset({"pagebreak", "noteref", "footnote", "rearnote", "endnote", "footnotes", "endnotes"})
_VOID = frozenset("area base br col embed hr img input link meta param source track wbr".split())
_SOFT_HYPHEN = "\u00ad"

Attributes = list[tuple[str, str | None]]


@dataclass(frozen=True)
class Block:
    """A paragraph or heading, and the ids that links to it may name."""

    text: str
    is_heading: bool
    ids: frozenset[str]


def read_blocks(document: str) -> list[Block]:
    """The text of an XHTML document, block by block."""
    reader = _BlockReader()
    reader.feed(document)
    reader.close()
    reader.end_block()
    return reader.blocks


class _BlockReader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.blocks: list[Block] = []
        self._text: list[str] = []
        self._ids: set[str] = set()
        self._heading = False
        # The element being left out, and how many of its name are open.
        self._unread = ""
        self._depth = 0

    def handle_starttag(self, tag: str, attrs: Attributes) -> None:
        if self._unread:
            self._depth += tag == self._unread and tag not in _VOID
            return
        attributes = dict(attrs)
        if tag in _BLOCKS:
            self.end_block()
            self._heading = tag in _HEADINGS
        self._ids |= {value for name in ("id", "name") if (value := attributes.get(name))}
        if _is_unread(tag, attributes) and tag not in _VOID:
            self._unread, self._depth = tag, 1
        elif tag == "br":
            self._text.append("\n")
        elif tag == "img" and len(attributes.get("alt") or "") == 1:
            # An initial drawn as a picture.
            self._text.append(attributes["alt"] or "")

    def handle_endtag(self, tag: str) -> None:
        if self._unread:
            self._depth -= tag == self._unread
            if not self._depth:
                self._unread = ""
        elif tag in _BLOCKS:
            self.end_block()
        elif tag in ("td", "th"):
            self._text.append(" ")

    def handle_data(self, data: str) -> None:
        if not self._unread:
            self._text.append(re.sub(r"\s+", " ", data.replace(_SOFT_HYPHEN, "")))

    def unknown_decl(self, data: str) -> None:
        if data.startswith("CDATA["):
            self.handle_data(data.removeprefix("CDATA["))

    def end_block(self) -> None:
        """Close the block being read; ids without text wait for the next one."""
        lines = (" ".join(line.split()) for line in "".join(self._text).split("\n"))
        text = "\n".join(line for line in lines if line)
        if text:
            self.blocks.append(Block(text, self._heading, frozenset(self._ids)))
            self._ids.clear()
        self._text.clear()
        self._heading = False


def _is_unread(tag: str, attributes: dict[str, str | None]) -> bool:
    types = (attributes.get("epub:type") or "").split()
    return tag in _UNREAD or "hidden" in attributes or not _UNREAD_TYPES.isdisjoint(types)


@dataclass(frozen=True)
class Link:
    """An entry of a table of contents: where to, and its label."""

    href: str
    label: str


def read_navigation(document: str, max_depth: int) -> list[Link]:
    """The links of the element <nav epub:type="toc">, those nested deeper than max_depth left out."""
    reader = _NavigationReader(max_depth)
    reader.feed(document)
    reader.close()
    return reader.links


class _NavigationReader(HTMLParser):
    def __init__(self, max_depth: int) -> None:
        super().__init__(convert_charrefs=True)
        self.links: list[Link] = []
        self._max_depth = max_depth
        self._inside = False
        self._depth = 0
        self._href: str | None = None
        self._label: list[str] = []

    def handle_starttag(self, tag: str, attrs: Attributes) -> None:
        attributes = dict(attrs)
        if tag == "nav" and "toc" in (attributes.get("epub:type") or "").split():
            self._inside = True
        elif tag == "ol":
            self._depth += 1
        elif tag == "a" and self._inside and self._depth <= self._max_depth:
            self._href = attributes.get("href")

    def handle_endtag(self, tag: str) -> None:
        if tag == "nav":
            self._inside = False
        elif tag == "ol":
            self._depth -= 1
        elif tag == "a" and self._href:
            self.links.append(Link(self._href, " ".join("".join(self._label).split())))
            self._href = None
            self._label.clear()

    def handle_data(self, data: str) -> None:
        if self._href:
            self._label.append(data)
