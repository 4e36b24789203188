"""The table of contents of an EPUB: EPUB 3's navigation document, else EPUB 2's NCX, to links with their depth."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from moss_tts.books.archive import url_fragment, url_path
from moss_tts.books.markup import Element, Markup, local_name, walk
from moss_tts.books.package import Package
from moss_tts.books.semantics import kinds

_TOC = re.compile(r"\btoc|contents", re.IGNORECASE)
# Parts and chapters. A deeper entry is a chapter if it has a document of its own, else a section of a chapter.
CHAPTER_DEPTH = 2
_ENTRIES = frozenset({"li", "navpoint"})


@dataclass(frozen=True)
class Link:
    """An entry of a table of contents.

    Attributes:
        href: where to; "" for a label without a link.
        label: its text, or that of its picture.
        depth: 1 for the outermost entries.
    """

    href: str
    label: str
    depth: int


@dataclass(frozen=True)
class Start:
    """Where a chapter begins: a document, an id in it ("" for its top), and the chapter's title."""

    entry: str
    fragment: str
    title: str


def read_contents(package: Package) -> list[Start]:
    """Where chapters begin; nothing for a book without a table of contents."""
    for base, links in _tables(package):
        starts = list(_starts(package, base, links))
        if starts:
            return starts
    return []


def _tables(package: Package) -> Iterator[tuple[str, list[Link]]]:
    """The tables of contents of a book, the surest kind first."""
    for entry in package.navigation():
        yield entry, navigation_links(package.archive.document(entry))
    for entry in package.ncx():
        yield entry, ncx_links(package.archive.xml(entry))
    for entry in package.contents_pages():
        yield entry, navigation_links(package.archive.document(entry))


def _starts(package: Package, base: str, links: list[Link]) -> Iterator[Start]:
    documents: set[str] = set()
    lost: list[str] = []
    for link in _outermost_first(links):
        entry = base if url_path(link.href) == "" else package.archive.find(base, link.href) if link.href else None
        if entry is None:
            lost += [link.href] if link.href else []
            continue
        if link.depth <= CHAPTER_DEPTH or entry not in documents:
            yield Start(entry, url_fragment(link.href), link.label)
        documents.add(entry)
    if lost:
        more = f" and {len(lost) - 1} other places" if len(lost) > 1 else ""
        package.archive.remarks.warn(base, f"leads to {lost[0]!r}{more} where the book has no document; ignored")


def _outermost_first(links: list[Link]) -> list[Link]:
    """The links with depths counted from where the book branches: a single root above all others is no level."""
    shift, counts = 0, Counter(link.depth for link in links)
    while shift < len(links) - 1 and links[shift].depth == shift + 1 and counts[shift + 1] == 1:
        shift += 1
    return [Link(link.href, link.label, max(1, link.depth - shift)) for link in links]


def navigation_links(markup: Markup) -> list[Link]:
    """The links of the table of contents in a navigation document: the one that says so, else the first with links."""
    if markup.root is None:
        return []
    linked = _around_links(markup.root)
    marked = [element for element in markup.root.iter() if isinstance(element.tag, str) and "toc" in kinds(element)]
    tables = [element for element in markup.root.iter() if local_name(element) == "nav"]
    named = [element for element in tables if _TOC.search(f"{element.get('id')} {element.get('class')}")]
    unmarked = [element for element in tables if not kinds(element)]
    for table in [*marked, *named, *unmarked]:
        if table in linked:
            return list(_list_links(table))
    # An EPUB 2 with its contents as a page of lists.
    return [] if tables else list(_list_links(markup.root))


def _around_links(root: Element) -> set[Element]:
    """The entries of lists, and all elements around one."""
    found: set[Element] = set()
    for element in root.iter():
        inner = element if _is_entry(element) else None
        while inner is not None and inner not in found:
            found.add(inner)
            inner = inner.getparent()
    return found


def _is_entry(element: Element) -> bool:
    name = local_name(element)
    return name == "a" or (name == "span" and local_name(element.getparent()) == "li")


def _list_links(table: Element) -> Iterator[Link]:
    """Entries of nested lists: links, and labels without one."""
    depth = 0
    walked = walk(table)
    for event, element in walked:
        name = local_name(element)
        if name in ("ol", "ul"):
            depth += 1 if event == "start" else -1
        elif event == "start" and _is_entry(element):
            yield Link((element.get("href") or "").strip() if name == "a" else "", label(element), max(1, depth))
            if name == "a":
                walked.skip_subtree()


def label(element: Element) -> str:
    """The text of an element, pictures by their description, up to the entries inside it."""
    parts = []
    for event, inner in walk(element):
        if local_name(inner) in _ENTRIES and inner is not element:
            break
        if event == "start":
            parts += [inner.get("alt") or "" if local_name(inner) == "img" else "", inner.text or ""]
        elif inner is not element:
            parts.append(inner.tail or "")
    return " ".join("".join(parts).split())


def ncx_links(root: Element) -> list[Link]:
    """The entries of an NCX's navMap."""
    links: list[Link] = []
    depth, inside = 0, False
    for event, element in walk(root):
        name = local_name(element)
        if name == "navmap":
            inside = event == "start"
        elif name == "navpoint" and inside:
            depth += 1 if event == "start" else -1
            if event == "start":
                links.append(Link(*_point(element), depth))
    return links


def _point(point: Element) -> tuple[str, str]:
    """The address and the label of a navPoint."""
    href = text = ""
    for child in point:
        if local_name(child) == "content":
            href = (child.get("src") or "").strip()
        elif local_name(child) == "navlabel" and not text:
            text = label(child)
    return href, text
