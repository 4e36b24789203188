"""The package document of an EPUB: its title, its documents in reading order, its table of contents."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from moss_tts.books.archive import DAMAGES, Archive, leads_outside, url_path
from moss_tts.books.markup import Element, local_name, outermost

_CONTAINER = "META-INF/container.xml"
_ENCRYPTION = "META-INF/encryption.xml"
# Scrambled fonts do not protect the text.
_FONT_SCRAMBLING = frozenset({"http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC"})
_TEXT_TYPES = frozenset({"application/xhtml+xml", "text/html", "text/x-oeb1-document"})
# Types without meaning: such a file may be XHTML nevertheless.
_VAGUE_TYPES = frozenset({"", "application/xml", "text/xml", "text/plain", "application/octet-stream"})
_TEXT_SUFFIXES = (".xhtml", ".html", ".htm", ".xht", ".xml")
# The longest chain of items that replace one another.
MAX_FALLBACKS = 8
NCX_TYPE = "application/x-dtbncx+xml"


@dataclass(frozen=True)
class Item:
    """An item of the manifest.

    Attributes:
        href: where its file is, as the package spells it.
        media_type: its type in lower case.
        properties: "nav" for the navigation document.
        fallback: id of the item to take instead; "" for none.
    """

    href: str
    media_type: str
    properties: frozenset[str] = frozenset()
    fallback: str = ""

    @property
    def is_text(self) -> bool:
        """Whether its type, or its name where the type says nothing, is that of XHTML."""
        path = (url_path(self.href) or "").lower()
        return self.media_type in _TEXT_TYPES or (self.media_type in _VAGUE_TYPES and path.endswith(_TEXT_SUFFIXES))


@dataclass(frozen=True)
class Document:
    """A document of the reading order.

    Attributes:
        entry: its name in the archive.
        is_aside: whether the book sets it aside (linear="no").
    """

    entry: str
    is_aside: bool


class Package:
    """The package document of a book.

    Args:
        archive: the book.

    Raises:
        RequestError: a protected book, or one without a package document.
    """

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        _refuse_protection(archive)
        self.entry = _package_entry(archive)
        self._root = archive.xml(self.entry)
        self.items = {
            element.get("id", f"#{number}"): _item(element)
            for number, element in enumerate(self._within("manifest", "item"))
        }
        # Under what else a spine may name them; the first one of a name counts.
        self._otherwise: dict[str, str] = {}
        for name, item in self.items.items():
            self._otherwise.setdefault(_folded(name), name)
            self._otherwise.setdefault(item.href, name)

    def metadata(self, name: str) -> str | None:
        """A field of Dublin Core: the first title or language, all creators."""
        elements = outermost(self._root, lambda element: local_name(element) == name and _is_dublin_core(element))
        values = [" ".join("".join(element.itertext()).split()) for element in elements]
        present = [value for value in values if value]
        return (", ".join(present) if name == "creator" else present[0]) if present else None

    def documents(self) -> list[Document]:
        """The documents in reading order, with a warning for each that cannot be read."""
        found: dict[str, Document] = {}
        for element in self._within("spine", "itemref"):
            item = self._item_named(element.get("idref", ""))
            entry = self._text_entry(item) if item is not None else None
            if entry is not None:
                found.setdefault(entry, Document(entry, element.get("linear", "").strip().lower() == "no"))
        if found and all(document.is_aside for document in found.values()):
            return [replace(document, is_aside=False) for document in found.values()]
        return list(found.values()) or self._unordered()

    def _unordered(self) -> list[Document]:
        """All documents of the manifest, for a package without a reading order."""
        if next(self._within("spine", "itemref"), None) is not None:
            return []
        texts = [item for item in self.items.values() if item.is_text and "nav" not in item.properties]
        if texts:
            self.archive.remarks.warn(
                self.entry, "has no reading order; its documents were read in the order it lists them"
            )
        entries = [self._text_entry(item) for item in texts]
        return [Document(entry, False) for entry in dict.fromkeys(entries) if entry is not None]

    def _item_named(self, idref: str) -> Item | None:
        """The item of an id, however its case differs, or with that file name."""
        if idref in self.items:
            return self.items[idref]
        name = self._otherwise.get(idref) or self._otherwise.get(_folded(idref))
        if idref and name is not None:
            self.archive.remarks.warn(self.entry, f"its spine names {idref!r}; the item {name!r} was read instead")
            return self.items[name]
        self._warn_unread(f"its spine names {idref!r}, which its manifest does not have")
        return None

    def _text_entry(self, item: Item) -> str | None:
        """The file of an item, or of what the manifest offers instead; None for what is no text."""
        chosen = item
        for _ in range(MAX_FALLBACKS):
            if chosen.media_type not in _TEXT_TYPES:
                chosen = self.items.get(chosen.fallback, chosen)
        if not chosen.is_text:
            chosen = item
        if chosen.is_text:
            if (found := self.entry_of(chosen)) is None and leads_outside(self.entry, chosen.href):
                raise self.archive.error(f"{self.entry} points outside the book: {chosen.href}")
            return found
        kind = item.media_type or "of no type"
        if kind.startswith("image/"):
            self.archive.remarks.leave_out_passage(f"{item.href}, which is a picture")
        elif item.media_type != NCX_TYPE:
            self._warn_unread(f"{item.href} is {kind}; text must be XHTML")
        return None

    def entry_of(self, item: Item) -> str | None:
        """The archive's name of an item's file; None, and a warning, where it is missing or elsewhere."""
        found = self.archive.find(self.entry, item.href)
        if found is None and url_path(item.href) is None:
            self._warn_unread(f"{item.href!r} is not a file of the book; addresses are never opened")
        elif found is None:
            self._warn_unread(f"{item.href} is missing from it")
        return found

    def _warn_unread(self, flaw: str) -> None:
        self.archive.remarks.warn(self.entry, f"{flaw}; read without it")

    def cover(self) -> bytes | None:
        """The cover's picture, as EPUB 3 or EPUB 2 marks it; None where there is none that can be read."""
        named = {element.get("content", "") for element in self._within("metadata", "meta") if _names_cover(element)}
        marked = [item for item in self.items.values() if "cover-image" in item.properties]
        pictures = [item for name, item in self.items.items() if name in named and item.media_type.startswith("image/")]
        for item in [*marked, *pictures]:
            if (entry := self.entry_of(item)) is not None:
                try:
                    return self.archive.read(entry)
                except DAMAGES:
                    self._warn_unread(f"its cover, {entry}, cannot be unpacked")
        return None

    def navigation(self) -> dict[str, None]:
        """The documents that are marked as the table of contents, in order."""
        return self._entries([item for item in self.items.values() if "nav" in item.properties])

    def contents_pages(self) -> dict[str, None]:
        """Documents that may be a table of contents by their names."""
        named = [
            item
            for item in self.items.values()
            if item.is_text
            and (url_path(item.href) or "").rpartition("/")[2].partition(".")[0].lower() in ("nav", "toc")
        ]
        return self._entries(named)

    def ncx(self) -> dict[str, None]:
        """EPUB 2's tables of contents: the one the spine names, one of that type, one that nothing lists."""
        spine = next((element for element in self._root.iter() if local_name(element) == "spine"), None)
        named = self.items.get(spine.get("toc", "")) if spine is not None else None
        typed = [item for item in self.items.values() if item.media_type == NCX_TYPE or item.href.endswith(".ncx")]
        found = self._entries([*([named] if named else []), *typed])
        return found or dict.fromkeys(entry for entry in self.archive if entry.lower().endswith(".ncx"))

    def _entries(self, items: list[Item]) -> dict[str, None]:
        entries = [self.entry_of(item) for item in items]
        return dict.fromkeys(entry for entry in entries if entry is not None)

    def _within(self, parent: str, name: str) -> Iterator[Element]:
        """Elements of a name inside the first element of another name."""
        outer = next((element for element in self._root.iter() if local_name(element) == parent), None)
        if outer is not None:
            yield from (element for element in outer.iter() if local_name(element) == name)


def _item(element: Element) -> Item:
    return Item(
        element.get("href", "").strip(),
        element.get("media-type", "").partition(";")[0].strip().lower(),
        frozenset(element.get("properties", "").split()),
        element.get("fallback", ""),
    )


def _folded(name: str) -> str:
    return name.strip().casefold()


def _names_cover(element: Element) -> bool:
    return element.get("name", "").strip().lower() == "cover"


def _is_dublin_core(element: Element) -> bool:
    return str(element.tag).startswith(("{http://purl.org/dc/", "{http://purl.org/metadata/dublin_core", "dc:"))


def _package_entry(archive: Archive) -> str:
    named = [element for element in archive.xml(_CONTAINER).iter() if local_name(element) == "rootfile"]
    paths = [path for element in sorted(named, key=_is_other_rendition) if (path := element.get("full-path"))]
    if not paths:
        raise archive.error(f"{_CONTAINER} names no package document")
    found = [entry for path in paths if (entry := archive.find("", path)) is not None]
    lying = [entry for entry in archive if entry.lower().endswith(".opf")]
    if not found and len(lying) == 1:
        archive.remarks.warn(_CONTAINER, f"names {paths[0]}, which is missing; {lying[0]} was read instead")
        return lying[0]
    if not found:
        raise archive.error(f"{paths[0]}, its package document, is missing from it")
    return found[0]


def _is_other_rendition(rootfile: Element) -> bool:
    """Whether it is of another kind than an EPUB's, such as a PDF beside it."""
    return rootfile.get("media-type") != "application/oebps-package+xml"


def _refuse_protection(archive: Archive) -> None:
    if _ENCRYPTION not in archive:
        return
    for element in archive.xml(_ENCRYPTION).iter():
        if local_name(element) == "encryptionmethod" and element.getparent() is not None:
            is_of_data = local_name(element.getparent()) == "encrypteddata"
            if is_of_data and element.get("Algorithm") not in _FONT_SCRAMBLING:
                raise archive.error("it is protected by DRM; only books without protection can be read")
