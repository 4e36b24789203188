"""Books as they are read aloud: a title, and chapters of plain text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Chapter:
    """One chapter.

    Attributes:
        title: for names and marks.
        text: paragraphs with a blank line between them; its heading, where it has one, is the first.
    """

    title: str
    text: str


@dataclass(frozen=True)
class Book:
    """A book. Author and language (as the file spells it, "en-GB") are None where the file does not say."""

    title: str
    author: str | None
    language: str | None
    chapters: tuple[Chapter, ...]


@dataclass(frozen=True)
class Section:
    """A stretch of a book under one heading.

    Attributes:
        title: "" before the first heading.
        paragraphs: in order, the heading among them.
        has_body: whether any of them is more than a heading.
    """

    title: str
    paragraphs: tuple[str, ...]
    has_body: bool


def chapters_of(sections: Iterable[Section], book_title: str) -> tuple[Chapter, ...]:
    """One chapter for each section with a body.

    Headings without one ("PART TWO" before "Chapter 9", a table of contents) are read with the chapter that
    follows them, so that no text is lost. Untitled sections are named after the book, then numbered.
    """
    chapters: list[Chapter] = []
    waiting: list[str] = []
    for section in sections:
        waiting += section.paragraphs
        if section.has_body:
            title = section.title or (f"{book_title} {len(chapters) + 1}" if chapters else book_title)
            chapters.append(Chapter(title, "\n\n".join(waiting)))
            waiting = []
    if waiting and chapters:
        last = chapters.pop()
        chapters.append(Chapter(last.title, "\n\n".join([last.text, *waiting])))
    elif waiting:
        chapters.append(Chapter(book_title, "\n\n".join(waiting)))
    return tuple(chapters)
