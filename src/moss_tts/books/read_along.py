"""A book with its sound in one EPUB 3: reading programs show the sentence that is heard (media overlays)."""

from __future__ import annotations

import uuid
import zipfile
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Final

from moss_tts.atomic import atomic_file
from moss_tts.audio.m4b import is_picture
from moss_tts.books.chapter_files import SpokenBook
from moss_tts.errors import AudioError
from moss_tts.long_form import TextSegment
from moss_tts.subtitles.cues import Cue, caption
from moss_tts.text.boundaries import BoundaryKind
from moss_tts.text.harmless import without_controls

AUDIO: Final = ".mp3"
# Files in a zip have a date; with a fixed one, the same book is the same file.
_DATE: Final = (1980, 1, 1, 0, 0, 0)
_MODIFIED: Final = "1980-01-01T00:00:00Z"
_ENDS_PARAGRAPH: Final = {BoundaryKind.PARAGRAPH, BoundaryKind.TURN, BoundaryKind.END}
_XML: Final = '<?xml version="1.0" encoding="utf-8"?>\n'
_CONTAINER: Final = f"""{_XML}<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container">
<rootfiles><rootfile full-path="EPUB/book.opf" media-type="application/oebps-package+xml"/></rootfiles>
</container>
"""
_STYLE: Final = ".-epub-media-overlay-active { background: #ffe9a8; color: #000; }\n"


def write_read_along(spoken: SpokenBook, files: Sequence[Path], path: Path) -> None:
    """Write a finished book with the files of its chapters, which are mp3; the file appears whole or not at all.

    Raises:
        AudioError: a place that cannot be written to.
    """
    try:
        with atomic_file(path) as part, zipfile.ZipFile(part, "w") as archive:
            _add(archive, "mimetype", b"application/epub+zip", zipfile.ZIP_STORED)
            for name, content in _members(spoken):
                _add(archive, name, content, zipfile.ZIP_DEFLATED)
            for number, file in enumerate(files):
                _add(archive, f"EPUB/{_name(number)}{AUDIO}", file.read_bytes(), zipfile.ZIP_STORED)
    except OSError as error:
        raise AudioError(f"{path} cannot be written: {error}.") from error


def _add(archive: zipfile.ZipFile, name: str, content: bytes, method: int) -> None:
    info = zipfile.ZipInfo(name, _DATE)
    info.external_attr = 0o644 << 16
    archive.writestr(info, content, method)


def _members(spoken: SpokenBook) -> Iterator[tuple[str, bytes]]:
    """All files but the sound, by their names."""
    book, cues = spoken.book, [spoken.cues(number) for number in range(len(spoken.plans))]
    yield "META-INF/container.xml", _CONTAINER.encode()
    yield "EPUB/book.opf", _package(spoken, cues).encode()
    yield "EPUB/nav.xhtml", _navigation(spoken).encode()
    yield "EPUB/style.css", _STYLE.encode()
    for number, plan in enumerate(spoken.plans):
        name = _name(number)
        yield f"EPUB/{name}.xhtml", _page(book.chapters[number].title, _paragraphs(plan), _language(spoken)).encode()
        yield f"EPUB/{name}.smil", _overlay(name, cues[number]).encode()
    if _cover(spoken) is not None:
        yield "EPUB/cover", _cover(spoken) or b""


def _name(chapter: int) -> str:
    return f"chapter{chapter + 1:04d}"


def _language(spoken: SpokenBook) -> str:
    return _text(spoken.book.language or "und")


def _cover(spoken: SpokenBook) -> bytes | None:
    cover = spoken.book.cover
    return cover if cover is not None and is_picture(cover) else None


def _text(text: str) -> str:
    """A text as XML holds it."""
    return escape(without_controls(text))


def _page(title: str, body: str, language: str) -> str:
    return (
        f'{_XML}<html xmlns="http://www.w3.org/1999/xhtml" xmlns:epub="http://www.idpf.org/2007/ops" lang="{language}" '
        f'xml:lang="{language}">\n<head><title>{_text(title)}</title><link rel="stylesheet" href="style.css"/></head>\n'
        f"<body>\n{body}</body>\n</html>\n"
    )


def _paragraphs(plan: Sequence[TextSegment]) -> str:
    """The segments of a chapter, each with a name, in paragraphs."""
    body, opened = "", False
    for number, segment in enumerate(plan, start=1):
        lines = caption(segment.written or segment.text).split("\n")
        body += "" if opened else "<p>"
        body += f'<span id="s{number}">{"<br/>".join(map(_text, lines))}</span> '
        opened = segment.boundary not in _ENDS_PARAGRAPH
        body += "" if opened else "</p>\n"
    return f"{body}</p>\n" if opened else body


def _overlay(name: str, cues: Sequence[Cue]) -> str:
    """When each segment of a chapter is heard."""
    parts = "".join(
        f'<par id="p{number}"><text src="{name}.xhtml#s{number}"/>'
        f'<audio src="{name}{AUDIO}" clipBegin="{cue.start:.3f}s" clipEnd="{cue.end:.3f}s"/></par>\n'
        for number, cue in enumerate(cues, start=1)
    )
    return f'{_XML}<smil xmlns="http://www.w3.org/ns/SMIL" version="3.0">\n<body>\n{parts}</body>\n</smil>\n'


def _navigation(spoken: SpokenBook) -> str:
    entries = "".join(
        f'<li><a href="{_name(number)}.xhtml">{_text(chapter.title)}</a></li>\n'
        for number, chapter in enumerate(spoken.book.chapters)
    )
    body = f'<nav epub:type="toc"><ol>\n{entries}</ol></nav>\n'
    return _page(spoken.book.title, body, _language(spoken))


def _package(spoken: SpokenBook, cues: Sequence[Sequence[Cue]]) -> str:
    book = spoken.book
    seconds = [sum(cue.end - cue.start for cue in chapter) for chapter in cues]
    text = "\n".join([book.title, *(chapter.text for chapter in book.chapters)])
    identifier = uuid.uuid5(uuid.NAMESPACE_URL, text.encode("utf-8", "replace").decode())
    author = "" if book.author is None else f"<dc:creator>{_text(book.author)}</dc:creator>\n"
    mark = "" if spoken.mark is None else f"<dc:description>{_text(spoken.mark)}</dc:description>\n"
    durations = "".join(
        f'<meta property="media:duration" refines="#o{number}">{time:.3f}s</meta>\n'
        for number, time in enumerate(seconds)
    )
    return (
        f'{_XML}<package xmlns="http://www.idpf.org/2007/opf" version="3.0" unique-identifier="id">\n'
        '<metadata xmlns:dc="http://purl.org/dc/elements/1.1/">\n'
        f'<dc:identifier id="id">urn:uuid:{identifier}</dc:identifier>\n<dc:title>{_text(book.title)}</dc:title>\n'
        f"<dc:language>{_language(spoken)}</dc:language>\n{author}{mark}"
        f'<meta property="dcterms:modified">{_MODIFIED}</meta>\n{durations}'
        f'<meta property="media:duration">{sum(seconds):.3f}s</meta>\n'
        '<meta property="media:active-class">-epub-media-overlay-active</meta>\n</metadata>\n'
        f"<manifest>\n{_manifest(spoken)}</manifest>\n<spine>\n{_spine(spoken)}</spine>\n</package>\n"
    )


def _manifest(spoken: SpokenBook) -> str:
    items = [
        '<item id="nav" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>',
        '<item id="style" href="style.css" media-type="text/css"/>',
    ]
    if (cover := _cover(spoken)) is not None:
        kind = "jpeg" if cover.startswith(b"\xff\xd8") else "png"
        items.append(f'<item id="cover" href="cover" media-type="image/{kind}" properties="cover-image"/>')
    for number in range(len(spoken.plans)):
        name = _name(number)
        items += [
            f'<item id="c{number}" href="{name}.xhtml" media-type="application/xhtml+xml" media-overlay="o{number}"/>',
            f'<item id="o{number}" href="{name}.smil" media-type="application/smil+xml"/>',
            f'<item id="a{number}" href="{name}{AUDIO}" media-type="audio/mpeg"/>',
        ]
    return "".join(f"{item}\n" for item in items)


def _spine(spoken: SpokenBook) -> str:
    return "".join(f'<itemref idref="c{number}"/>\n' for number in range(len(spoken.plans)))
