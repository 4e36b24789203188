"""EPUB 2 and 3 to chapters: documents in reading order, cut where the table of contents says that chapters begin."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from moss_tts.books.archive import DAMAGES, Archive, LimitedFile
from moss_tts.books.chapters import SCENE_BREAK, Book, Section, chapters_of
from moss_tts.books.contents import Start, read_contents
from moss_tts.books.link_lists import contents_blocks, is_contents_title
from moss_tts.books.package import Document, Package
from moss_tts.books.remarks import Remarks
from moss_tts.books.xhtml import Block, Blocks, read_blocks
from moss_tts.errors import RequestError


def read_epub(path: Path) -> Book:
    """Read an EPUB.

    Raises:
        RequestError: the file is not an EPUB, is protected, or is beyond the limits of archive.py.
    """
    remarks = Remarks()
    try:
        with LimitedFile(path) as file, zipfile.ZipFile(file) as opened:
            book = _read_book(Archive(opened, path.name, remarks), path.stem)
    except RequestError:
        raise
    except DAMAGES as error:
        raise RequestError(f"{path.name} is not an EPUB, or is damaged: {error}") from error
    if not book.chapters:
        reasons = [*remarks.warnings[:3], *(f"not read: {passage}" for passage in remarks.left_out[:3])]
        raise RequestError(": ".join([f"{path.name} has no text in it", *(["; ".join(reasons)] if reasons else [])]))
    return replace(book, warnings=remarks.warnings, left_out=remarks.left_out)


def _read_book(archive: Archive, fallback_title: str) -> Book:
    package = Package(archive)
    documents = package.documents()
    starts = read_contents(package)
    title = package.metadata("title") or fallback_title
    sections = _sections(archive, _read_aloud(package, documents, starts), starts)
    author, language = package.metadata("creator"), package.metadata("language")
    return Book(title, author, language, chapters_of(sections, title), cover=package.cover())


def _read_aloud(package: Package, documents: list[Document], starts: list[Start]) -> Iterator[tuple[str, Blocks]]:
    """The documents that are read: not the table of contents, nor documents set aside that it does not list."""
    archive, listed, navigation = package.archive, {start.entry for start in starts}, package.navigation()
    for document in documents:
        if document.entry in navigation:
            archive.remarks.leave_out_passage(f"{document.entry}, which is the table of contents")
        elif document.is_aside and document.entry not in listed:
            archive.remarks.leave_out_passage(f'{document.entry}, which the book sets aside (linear="no")')
        else:
            blocks = _without_contents(archive, document.entry, listed)
            if blocks is not None:
                yield document.entry, blocks


def _without_contents(archive: Archive, entry: str, listed: set[str]) -> Blocks | None:
    """A document's blocks without a table of contents; None if it is nothing else."""
    found = read_blocks(archive.document(entry), entry, archive.remarks)
    contents = contents_blocks(found.blocks)
    if not contents:
        return found
    rest = [block for at, block in enumerate(found.blocks) if at not in contents]
    is_titled = any(is_contents_title(found.blocks[at]) for at in contents)
    archive.remarks.leave_out_passage(f"the {'table of contents' if is_titled else 'list of links'} in {entry}")
    is_only_title = all(block.is_heading or block.text == SCENE_BREAK for block in rest)
    return None if is_only_title and (is_titled or entry not in listed) else replace(found, blocks=rest)


def _sections(archive: Archive, documents: Iterator[tuple[str, Blocks]], starts: list[Start]) -> Iterator[Section]:
    """Sections as the table of contents divides the book; without one, one section for each document.

    A document that no entry leads to goes on with the section before it: books are often split for size.
    """
    contents: dict[str, list[Start]] = {}
    for start in starts:
        contents.setdefault(start.entry, []).append(start)
    read = list(documents)
    is_listed = any(entry in contents for entry, _ in read)
    title, waiting = "", list[Block]()
    for entry, found in read:
        begins = _begins(archive, found, contents.get(entry, [])) if is_listed else {0: _first_heading(found.blocks)}
        for position in range(len(found.blocks) + 1):
            if position in begins:
                yield _section(title, waiting)
                title, waiting = begins[position], []
            waiting += found.blocks[position : position + 1]
    yield _section(title, waiting)


def _begins(archive: Archive, found: Blocks, starts: list[Start]) -> dict[int, str]:
    """The titles that begin at blocks; one without an id begins at the top, as does one with an unknown id."""
    positions = {name: at for at, block in enumerate(found.blocks) for name in block.ids}
    positions |= dict.fromkeys(found.last_ids, len(found.blocks)) | {"": 0}
    begins = {}
    for start in starts:
        if start.fragment in positions:
            begins[positions[start.fragment]] = start.title or _heading_at(found.blocks, positions[start.fragment])
    for start in starts:
        if start.fragment not in positions:
            archive.remarks.warn(
                start.entry, "lacks ids that its table of contents names; those chapters begin at its top"
            )
            begins.setdefault(0, start.title)
    return begins


def _heading_at(blocks: list[Block], position: int) -> str:
    """The heading that begins at a block, for an entry without a label."""
    return _first_heading(blocks[position : position + 1])


def _first_heading(blocks: list[Block]) -> str:
    return next((" ".join(block.text.split()) for block in blocks if block.is_heading), "")


def _section(title: str, blocks: list[Block]) -> Section:
    has_body = any(not (block.is_heading or block.text in (SCENE_BREAK, title)) for block in blocks)
    return Section(title, tuple(block.text for block in blocks), has_body)
