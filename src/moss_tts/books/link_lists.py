"""Tables of contents on the pages of a book: lists of links, told from text with links in it."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count

from moss_tts.books.xhtml import Block
from moss_tts.text.tags import has_words

# A page with a larger share of links than this is a table of contents.
LINKED_SHARE = 0.7
# A part's name between such links is no longer than this.
MAX_LABEL = 40
_CONTENTS_TITLES = frozenset(
    title.strip()
    for line in """
    contents|table of contents|brief contents|detailed contents|inhalt|inhaltsverzeichnis|inhaltsübersicht
    table des matières|sommaire|índice|indice|tabla de contenido|contenido|sumário|sommario|inhoud|inhoudsopgave
    spis treści|obsah|innehåll|innehållsförteckning|indhold|innhold|sisällys|tartalom|cuprins|içindekiler
    содержание|оглавление|зміст|περιεχόμενα|目录|目錄|目次|もくじ|차례|목차
    """.splitlines()
    for title in line.split("|")
)


def contents_blocks(blocks: list[Block]) -> set[int]:
    """Which blocks are a table of contents: links below such a title, or a page of little but links and labels."""
    links = {at: block for at, block in enumerate(blocks) if _is_linked(block)}
    titles = [at for at, block in enumerate(blocks) if is_contents_title(block)]
    body = [at for at, block in enumerate(blocks) if not block.is_heading and has_words(block.text)]
    linked, letters = sum(blocks[at].linked for at in body), _letters(blocks, {*body} - {*titles})
    if _lines(blocks, links) > 1 and linked >= LINKED_SHARE * letters:
        between = range(min(links), max(links))
        return {at for at in body if at in links or (at in between and _is_label(blocks[at]))} | {*titles}
    chosen: set[int] = set()
    run = range(0)
    for title in titles:
        # A title that is itself a link of the list above it begins no list of its own.
        if title not in run:
            run = range(title + 1, next(at for at in count(title + 1) if at not in links))
            chosen |= {title, *run} if _lines(blocks, run) > 1 else set()
    return chosen


def _is_label(block: Block) -> bool:
    """Whether it is too short for text: "Part One"."""
    return len(block.text) <= MAX_LABEL and not block.text.endswith((".", "!", "?"))


def _lines(blocks: list[Block], chosen: Iterable[int]) -> int:
    return sum(blocks[at].text.count("\n") + 1 for at in chosen)


def _is_linked(block: Block) -> bool:
    return 0 < sum(map(str.isalpha, block.text)) * LINKED_SHARE <= block.linked


def _letters(blocks: list[Block], chosen: set[int]) -> int:
    return sum(sum(map(str.isalpha, blocks[at].text)) for at in chosen)


def is_contents_title(block: Block) -> bool:
    """Whether it says "Contents", in any of a few languages."""
    return " ".join(block.text.split()).strip(" .:").lower() in _CONTENTS_TITLES
