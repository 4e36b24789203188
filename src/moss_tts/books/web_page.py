"""HTML and XHTML files to chapters: a book on one page, such as Project Gutenberg has them."""

from __future__ import annotations

import html
import re
from pathlib import PurePath
from typing import Final

from moss_tts.books.archive import MAX_MARKS
from moss_tts.books.chapters import Book, chapters_of
from moss_tts.books.encodings import Guesser, decode_document
from moss_tts.books.gutenberg import body_of
from moss_tts.books.headings import sections_of, without_contents
from moss_tts.books.markup import Element, local_name, parse_document
from moss_tts.books.remarks import Remarks
from moss_tts.books.xhtml import read_blocks
from moss_tts.errors import RequestError

# Pages that are repaired have no title left.
_TITLE: Final = re.compile(r"<title\b[^<>]*>([^<]*)<", re.IGNORECASE)


def read_web_page(content: bytes, name: str, remarks: Remarks) -> Book:
    """The book on a page; the file's name is its title if the page gives none.

    Raises:
        RequestError: far more markup than a book has, entities that expand, or elements nested too deeply.
    """
    text = decode_document(content, name, remarks, Guesser())
    if (marks := text.count("<") + text.count("&")) > MAX_MARKS:
        raise RequestError(f"{name} has {marks} tags and entities; allowed in a book: {MAX_MARKS}")
    markup = parse_document(text, name, remarks)
    fields = {} if markup.root is None else _fields(markup.root)
    titled = _TITLE.search(text)
    blocks = read_blocks(markup, name, remarks).blocks
    body = blocks[body_of([block.text for block in blocks], remarks)]
    sections = [section for _, section in sections_of(without_contents(body, remarks))]
    title = (titled and " ".join(html.unescape(titled[1]).split())) or PurePath(name).stem
    return Book(title, fields.get("author"), fields.get("language"), chapters_of(sections, title))


def _fields(root: Element) -> dict[str, str]:
    """Author and language as the head of a page gives them."""
    found = {"language": root.get("lang") or root.get("{http://www.w3.org/XML/1998/namespace}lang") or ""}
    for element in root.iter():
        if local_name(element) == "meta" and (element.get("name") or "").lower() in ("author", "dc.creator"):
            found.setdefault("author", " ".join((element.get("content") or "").split()))
        elif local_name(element) == "body":
            break
    return {name: value for name, value in found.items() if value}
