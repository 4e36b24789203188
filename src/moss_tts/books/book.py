"""Book files to chapters of plain text: .txt, .md, .epub and .html.

The layout is undone (wrapped lines, Markdown, XHTML), and words stay: text/cleanup.py cleans them for speech.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from moss_tts.books.chapters import MAX_TITLE, Book, Chapter
from moss_tts.books.encodings import decode_plain
from moss_tts.books.epub import read_epub
from moss_tts.books.markdown import read_markdown
from moss_tts.books.plain_text import read_plain_text
from moss_tts.books.remarks import Remarks
from moss_tts.books.web_page import read_web_page
from moss_tts.errors import RequestError
from moss_tts.text.harmless import one_line

__all__ = ["Book", "Chapter", "read_book"]

# Ten times a long novel; more is no book.
MAX_TEXT_BYTES = 16 << 20
MAX_LINES = 1_000_000


def read_book(path: str | Path) -> Book:
    """Read a .txt, .md, .epub or .html file.

    Harmless faults are listed in the book's `warnings`; parts that are not read are named in `left_out`.

    Raises:
        RequestError: no such file, another kind of file, or one that is broken, encrypted or without text.
    """
    path = Path(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise RequestError(
            f"cannot read {path.name} as a book; allowed: {', '.join(_READERS)}. Programs such as "
            "Calibre and Pandoc make an .epub of most others."
        )
    if not path.is_file():
        raise RequestError(f"there is no file {path}")
    book = reader(path)
    if not book.chapters:
        raise RequestError(f"{path.name} has no text in it")
    author, language = (value and one_line(value, MAX_TITLE) for value in (book.author, book.language))
    return replace(book, title=one_line(book.title, MAX_TITLE), author=author, language=language)


def _read_page(path: Path) -> Book:
    remarks = Remarks()
    book = read_web_page(_content_of(path), path.name, remarks)
    return replace(book, warnings=remarks.warnings, left_out=remarks.left_out)


def _reader_of_text(read: Callable[[str, str, Remarks], Book]) -> Callable[[Path], Book]:
    """A reader of files from a reader of text."""

    def read_file(path: Path) -> Book:
        remarks = Remarks()
        book = read(_text_of(path, remarks), path.name, remarks)
        return replace(book, warnings=remarks.warnings, left_out=remarks.left_out)

    return read_file


def _text_of(path: Path, remarks: Remarks) -> str:
    """The text of a file, with line feeds as line ends.

    Raises:
        RequestError: no text, or a file too large to be a book.
    """
    text = decode_plain(_content_of(path), path.name, remarks)
    if "\0" in text:
        raise RequestError(f"{path.name} is not a text file: it has a NUL character")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if (lines := text.count("\n")) > MAX_LINES:
        raise RequestError(f"{path.name} has {lines} lines; a book may have {MAX_LINES}")
    return text


def _content_of(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        RequestError: a file too large to be a book.
    """
    if path.stat().st_size > MAX_TEXT_BYTES:
        raise RequestError(f"{path.name} has {path.stat().st_size} bytes; a book may have {MAX_TEXT_BYTES}")
    return path.read_bytes()


_READERS: dict[str, Callable[[Path], Book]] = {
    ".txt": _reader_of_text(read_plain_text),
    ".md": _reader_of_text(read_markdown),
    ".markdown": _reader_of_text(read_markdown),
    ".epub": read_epub,
    ".html": _read_page,
    ".htm": _read_page,
    ".xhtml": _read_page,
}
