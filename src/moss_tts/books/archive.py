"""The zip archive of an EPUB: its files by name, within limits.

The file is not trusted: sizes are limited, names stay inside the archive, and nothing is ever written.
"""

from __future__ import annotations

import io
import posixpath
import struct
import zipfile
import zlib
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

from moss_tts.books.encodings import Guesser, decode_document
from moss_tts.books.markup import Element, Markup, parse_document, parse_package
from moss_tts.books.remarks import Remarks
from moss_tts.errors import RequestError
from moss_tts.text.harmless import composed

# A whole novel is about 1 MiB of text. A file beyond these limits is an attack and not a book.
MAX_DOCUMENT_BYTES = 8 << 20
MAX_TOTAL_BYTES = 64 << 20
# Tags and entities of all documents; each takes about 10 microseconds.
MAX_MARKS = 1_000_000
MAX_ENTRIES = 20_000
# Characters of an entry's name.
MAX_NAME = 1000
# The compressions of an EPUB; others can unpack to any size at once.
_PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

# What reading a damaged archive may end in.
DAMAGES = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError),
    *(RuntimeError, OSError, ValueError),
)
_UTF8_FLAG = 0x800


class LimitedFile(io.FileIO):
    """A file that is read in pieces of bounded size, because a zip file may claim any size of its table of entries."""

    def read(self, size: int | None = -1) -> bytes:
        """Read a piece.

        Raises:
            zipfile.BadZipFile: a larger piece is asked for than a book has.
        """
        most = MAX_DOCUMENT_BYTES + 1
        piece = super().read(most + 1 if size is None or not 0 <= size <= most else size) or b""
        if len(piece) > most:
            raise zipfile.BadZipFile(f"its table of entries has more than {most} bytes")
        return piece


class Archive:
    """A zip file with entries that are read within limits.

    Args:
        archive: the open file.
        name: the name of the book, for messages.
        remarks: takes the flaws that are met.
    """

    def __init__(self, archive: zipfile.ZipFile, name: str, remarks: Remarks) -> None:
        self.name, self.remarks = name, remarks
        self._archive = archive
        self._left = MAX_TOTAL_BYTES
        self._marks_left = MAX_MARKS
        self._guesser = Guesser()
        entries = archive.infolist()
        if len(entries) > MAX_ENTRIES:
            raise self.error(f"it has {len(entries)} entries; allowed: {MAX_ENTRIES}")
        if (longest := max((len(info.orig_filename) for info in entries), default=0)) > MAX_NAME:
            raise self.error(f"the name of an entry has {longest} characters; allowed: {MAX_NAME}")
        self._entries = {_entry_name(info): info for info in entries}
        self._folded = {_folded(entry): entry for entry in self._entries}

    def error(self, reason: str) -> RequestError:
        """The error that this book cannot be read."""
        return RequestError(f"cannot read {self.name}: {reason}")

    def __contains__(self, entry: str) -> bool:
        return entry in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def read(self, entry: str) -> bytes:
        """The bytes of an entry. Sizes stated in the archive may lie, so what comes out is counted.

        Raises:
            RequestError: no such entry, an encrypted one, or one beyond the limits.
        """
        if entry not in self:
            raise self.error(f"{entry} is missing from it")
        if self._entries[entry].flag_bits & 1:
            raise self.error(f"{entry} is encrypted; only books without protection can be read")
        if self._entries[entry].compress_type not in _PACKED:
            raise self.error(f"{entry} is packed in a way that EPUBs do not have; allowed: stored and deflated")
        limit = min(MAX_DOCUMENT_BYTES, self._left)
        with self._archive.open(self._entries[entry]) as stream:
            content = stream.read(limit + 1)
        if len(content) > limit:
            raise self.error(f"{entry} unpacks to more than {limit} bytes")
        self._left -= len(content)
        return content

    def xml(self, entry: str) -> Element:
        """The root of an XML entry of the package."""
        return self._parsed(parse_package, entry)

    def document(self, entry: str) -> Markup:
        """An XHTML entry."""
        return self._parsed(parse_document, entry)

    def _parsed(self, parse: object, entry: str) -> Element:
        text = decode_document(self.read(entry), entry, self.remarks, self._guesser)
        self._marks_left -= text.count("<") + text.count("&")
        if self._marks_left < 0:
            raise self.error(f"its documents have more than {MAX_MARKS} tags and entities, which no book has")
        try:
            return parse(text, entry, self.remarks)  # type: ignore[operator]
        except RequestError as error:
            raise self.error(str(error)) from error

    def find(self, base: str, href: str) -> str | None:
        """The entry that href names in the document base; None for an address that is not in the archive.

        Names are compared as they are first, then without regard to case, normal form, slashes and escapes.
        """
        for path in _paths(href):
            entry = _joined(base, path)
            found = entry if entry in self else self._folded.get(_folded(entry))
            if found is not None:
                if found != entry or leads_outside(base, href):
                    self.remarks.warn(
                        base or self.name, f"names {href!r}; {found}, which is in the book, was read instead"
                    )
                return found
        return None


def _entry_name(info: zipfile.ZipInfo) -> str:
    """The name of an entry as the package spells it: UTF-8 even where the archive forgot to say so, with slashes."""
    name = info.orig_filename
    if not info.flag_bits & _UTF8_FLAG:
        try:
            name = name.encode("cp437").decode("utf-8")
        except UnicodeError:
            pass
    return posixpath.normpath(name.replace("\\", "/")).lstrip("/")


def _folded(entry: str) -> str:
    return composed(composed(entry).casefold())


def url_path(href: str) -> str | None:
    """The path of a reference within the book, as it is written; None for an address elsewhere, or a broken one."""
    try:
        parts = urlsplit(href.strip())
    except ValueError:
        return None
    return None if parts.scheme or parts.netloc else parts.path


def url_fragment(href: str) -> str:
    """The id that a reference names; "" for none."""
    return unquote(href.strip().partition("#")[2])


def _paths(href: str) -> list[str]:
    """The entries that a reference may mean, the most likely first."""
    path = url_path(href)
    found = [] if path is None else [unquote(path), path, unquote(path, "latin-1"), unquote(unquote(path))]
    # A name may have a colon, a question mark or a sharp in it.
    found.append(unquote(href.strip()))
    return [variant.replace("\\", "/") for variant in dict.fromkeys(found) if variant]


def _joined(base: str, path: str) -> str:
    """An entry's name; a path with a leading slash counts from the top of the archive."""
    return posixpath.normpath(posixpath.join("/" + posixpath.dirname(base), path)).lstrip("/")


def leads_outside(base: str, href: str) -> bool:
    """Whether a path leads out of the archive; an address elsewhere is no path."""
    path = url_path(href)
    if path is None:
        return False
    plain = unquote(path).replace("\\", "/")
    inside = posixpath.normpath(posixpath.join(posixpath.dirname(base), plain))
    return inside.startswith(("../", "/")) or inside == ".."
