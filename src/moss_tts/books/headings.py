"""Pages that are whole books: chapters begin at headings, and a table of contents is left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from moss_tts.books.chapters import Section
from moss_tts.books.link_lists import contents_blocks
from moss_tts.books.remarks import Remarks
from moss_tts.books.xhtml import Block

# Headings up to this level begin a chapter; deeper ones are text.
CHAPTER_LEVEL = 2


def without_contents(blocks: list[Block], remarks: Remarks) -> list[Block]:
    """The blocks of a page without its table of contents; a page that is nothing else stays."""
    contents = contents_blocks(blocks)
    if contents and len(contents) < len(blocks):
        remarks.leave_out_passage("the table of contents")
        return [block for at, block in enumerate(blocks) if at not in contents]
    return blocks


def sections_of(blocks: Sequence[Block]) -> Iterator[tuple[int, Section]]:
    """Sections with the level of their heading, 0 before the first."""
    level, title, paragraphs, has_body = 0, "", list[str](), False
    for block in blocks:
        if 0 < block.level <= CHAPTER_LEVEL:
            yield level, Section(title, tuple(paragraphs), has_body)
            level, title = block.level, " ".join(block.text.split())
            paragraphs, has_body = [block.text], False
        else:
            paragraphs.append(block.text)
            has_body = True
    yield level, Section(title, tuple(paragraphs), has_body)
