"""EPUB 2 and 3 to chapters: the archive, its package document, its table of contents.

The file is not trusted: sizes are limited, names stay inside the archive, XML may declare no entities, and
nothing is ever written.
"""

from __future__ import annotations

import posixpath
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree
from xml.parsers import expat

from moss_tts.books.chapters import Book, Section, chapters_of
from moss_tts.books.xhtml import Block, Link, read_blocks, read_navigation
from moss_tts.errors import RequestError

# A whole novel is about 1 MiB of text. Beyond these, a file is an attack rather than a book.
MAX_DOCUMENT_BYTES = 16 << 20
MAX_TOTAL_BYTES = 128 << 20
MAX_ENTRIES = 20_000
# Parts and chapters; what lies deeper in a table of contents is a section of a chapter.
CONTENTS_DEPTH = 2

_CONTAINER = "META-INF/container.xml"
_ENCRYPTION = "META-INF/encryption.xml"
# Scrambled fonts are no protection of the text.
_FONT_SCRAMBLING = frozenset({"http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC"})
_TEXT_TYPES = frozenset({"application/xhtml+xml", "text/html"})


def read_epub(path: Path) -> Book:
    """Read an EPUB.

    Raises:
        RequestError: a broken or encrypted file, or one beyond the limits above.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _read_book(_Archive(archive, path.name), path.stem)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise RequestError(f"{path.name} is no EPUB, or a damaged one: {error}") from error


class _Archive:
    """A zip file whose entries are read within limits."""

    def __init__(self, archive: zipfile.ZipFile, name: str) -> None:
        self.name = name
        self._archive = archive
        self._left = MAX_TOTAL_BYTES
        if len(archive.infolist()) > MAX_ENTRIES:
            raise self.error(f"it has {len(archive.infolist())} entries; allowed: {MAX_ENTRIES}")

    def error(self, reason: str) -> RequestError:
        return RequestError(f"cannot read {self.name}: {reason}")

    def __contains__(self, entry: str) -> bool:
        return entry in self._archive.NameToInfo

    def read(self, entry: str) -> bytes:
        """The bytes of an entry. Sizes stated in the archive may lie, so what comes out is counted."""
        if entry not in self:
            raise self.error(f"{entry} is missing from it")
        if self._archive.getinfo(entry).flag_bits & 1:
            raise self.error(f"{entry} is encrypted; only books without protection can be read")
        limit = min(MAX_DOCUMENT_BYTES, self._left)
        with self._archive.open(entry) as stream:
            content = stream.read(limit + 1)
        if len(content) > limit:
            raise self.error(f"{entry} unpacks to more than {limit} bytes")
        self._left -= len(content)
        return content

    def xml(self, entry: str) -> ElementTree.Element:
        """The root of an XML entry that declares no entities of its own."""
        content = self.read(entry)
        guard = expat.ParserCreate()
        guard.EntityDeclHandler = self._refuse_entity
        try:
            guard.Parse(content, True)
            return ElementTree.fromstring(content)
        except (expat.ExpatError, ElementTree.ParseError, LookupError, ValueError) as error:
            if isinstance(error, RequestError):
                raise
            raise self.error(f"{entry} is broken XML: {error}") from error

    def _refuse_entity(self, *_: object) -> None:
        raise self.error("its XML declares entities, which no book needs")

    def document(self, entry: str) -> str:
        """An XHTML entry, decoded as it declares: UTF-8 unless it says otherwise."""
        content = self.read(entry)
        declared = re.match(rb"""\s*<\?xml[^>]*?encoding=["']([\w.-]+)["']""", content)
        encoding = declared[1].decode("ascii") if declared else "utf-8-sig"
        if content.startswith((b"\xff\xfe", b"\xfe\xff")):
            encoding = "utf-16"
        elif encoding.lower() == "utf-8":
            encoding = "utf-8-sig"
        try:
            return content.decode(encoding)
        except (UnicodeDecodeError, LookupError) as error:
            raise self.error(f"{entry} is not in the encoding it declares: {error}") from error

    def resolve(self, base: str, href: str) -> str:
        """The entry that href names in the document base."""
        target = urlsplit(href)
        entry = posixpath.normpath(posixpath.join(posixpath.dirname(base), unquote(target.path)))
        if target.scheme or target.netloc or entry.startswith(("../", "/")) or entry == "..":
            raise self.error(f"{base} points outside the book: {href}")
        return entry


@dataclass(frozen=True)
class _Item:
    """An entry of the package's manifest."""

    entry: str
    media_type: str
    properties: frozenset[str]


@dataclass(frozen=True)
class _Start:
    """Where a chapter begins: a document, an id in it ("" for its top), and the chapter's title."""

    entry: str
    fragment: str
    title: str


def _read_book(archive: _Archive, fallback_title: str) -> Book:
    _refuse_protection(archive)
    rootfile = archive.xml(_CONTAINER).find(".//{*}rootfile")
    if rootfile is None or not rootfile.get("full-path"):
        raise archive.error(f"{_CONTAINER} names no package document")
    opf = archive.resolve("", rootfile.get("full-path", ""))
    package = archive.xml(opf)
    items = _manifest(archive, opf, package)
    documents = [item for item in _spine(archive, package, items) if _is_read(archive, item)]
    starts = _starts(archive, package, items)
    title = _metadata(package, "title") or fallback_title
    sections = _sections(archive, documents, starts)
    return Book(title, _metadata(package, "creator"), _metadata(package, "language"), chapters_of(sections, title))


def _refuse_protection(archive: _Archive) -> None:
    if _ENCRYPTION not in archive:
        return
    methods = archive.xml(_ENCRYPTION).iterfind(".//{*}EncryptedData/{*}EncryptionMethod")
    if any(method.get("Algorithm") not in _FONT_SCRAMBLING for method in methods):
        raise archive.error("it is protected by DRM; only books without protection can be read")


def _metadata(package: ElementTree.Element, name: str) -> str | None:
    """A field of Dublin Core: the first title or language, all creators."""
    elements = package.iterfind("{*}metadata//{http://purl.org/dc/elements/1.1/}" + name)
    values = [" ".join((element.text or "").split()) for element in elements]
    present = [value for value in values if value]
    return (", ".join(present) if name == "creator" else present[0]) if present else None


def _manifest(archive: _Archive, opf: str, package: ElementTree.Element) -> dict[str, _Item]:
    items = {}
    for element in package.iterfind("{*}manifest/{*}item"):
        href = element.get("href", "")
        if urlsplit(href).scheme:  # remote audio or fonts
            continue
        items[element.get("id", "")] = _Item(
            archive.resolve(opf, href),
            element.get("media-type", ""),
            frozenset((element.get("properties") or "").split()),
        )
    return items


def _spine(archive: _Archive, package: ElementTree.Element, items: dict[str, _Item]) -> Iterator[_Item]:
    """The documents in reading order; those the book sets aside (linear="no") are not read."""
    for element in package.iterfind("{*}spine/{*}itemref"):
        idref = element.get("idref", "")
        if idref not in items:
            raise archive.error(f"its spine names {idref!r}, which its manifest does not have")
        if element.get("linear") != "no":
            yield items[idref]


def _is_read(archive: _Archive, item: _Item) -> bool:
    """Whether a document of the spine is read aloud: not pictures, and not the table of contents."""
    if item.media_type.startswith("image/") or "nav" in item.properties:
        return False
    if item.media_type not in _TEXT_TYPES:
        raise archive.error(f"{item.entry} is {item.media_type or 'of no type'}; text must be XHTML")
    return True


def _starts(archive: _Archive, package: ElementTree.Element, items: dict[str, _Item]) -> list[_Start]:
    """The table of contents: EPUB 3's navigation document, else EPUB 2's NCX, else nothing."""
    navigation = next((item for item in items.values() if "nav" in item.properties), None)
    spine = package.find("{*}spine")
    ncx = items.get(spine.get("toc", "")) if spine is not None else None
    if navigation is not None:
        base, links = navigation.entry, read_navigation(archive.document(navigation.entry), CONTENTS_DEPTH)
    elif ncx is not None:
        base, links = ncx.entry, list(_ncx_links(archive.xml(ncx.entry).find("{*}navMap"), CONTENTS_DEPTH))
    else:
        return []
    return [
        _Start(archive.resolve(base, link.href), unquote(urlsplit(link.href).fragment), link.label) for link in links
    ]


def _ncx_links(parent: ElementTree.Element | None, depth: int) -> Iterator[Link]:
    if parent is None or not depth:
        return
    for point in parent.iterfind("{*}navPoint"):
        label, content = point.find("{*}navLabel/{*}text"), point.find("{*}content")
        if content is not None:
            text = "" if label is None else " ".join((label.text or "").split())
            yield Link(content.get("src", ""), text)
        yield from _ncx_links(point, depth - 1)


def _sections(archive: _Archive, documents: list[_Item], starts: list[_Start]) -> Iterator[Section]:
    """Sections as the table of contents divides the book; without one, one section for each document.

    A document that no entry leads to goes on with the section before it: books are often split for size.
    """
    contents: dict[str, list[_Start]] = {}
    for start in starts:
        contents.setdefault(start.entry, []).append(start)
    is_listed = any(item.entry in contents for item in documents)
    title, waiting = "", list[Block]()
    for item in documents:
        blocks = read_blocks(archive.document(item.entry))
        begins = _begins(blocks, contents.get(item.entry, [])) if is_listed else {0: _first_heading(blocks)}
        for position, block in enumerate(blocks):
            if position in begins:
                yield _section(title, waiting)
                title, waiting = begins[position], []
            waiting.append(block)
    yield _section(title, waiting)


def _begins(blocks: list[Block], starts: list[_Start]) -> dict[int, str]:
    """The titles that begin at blocks; one without an id, or with an id nobody has, begins at the top."""
    positions = {name: at for at, block in enumerate(blocks) for name in block.ids}
    return {positions.get(start.fragment, 0): start.title for start in starts}


def _first_heading(blocks: list[Block]) -> str:
    return next((" ".join(block.text.split()) for block in blocks if block.is_heading), "")


def _section(title: str, blocks: list[Block]) -> Section:
    has_body = any(not block.is_heading for block in blocks)
    return Section(title, tuple(block.text for block in blocks), has_body)
