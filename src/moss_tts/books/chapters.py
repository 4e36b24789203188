"""Books as they are read aloud: a title, and chapters of plain text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from moss_tts.errors import RequestError
from moss_tts.text.harmless import one_line
from moss_tts.text.tags import PAUSE as PAUSE_TAG
from moss_tts.text.tags import SPEAKER_TAG, has_words
from moss_tts.text.voice_marks import VOICE_MARK, without_voice_marks

# The paragraph that stands for a break between scenes; any paragraph without a letter or digit is one.
SCENE_BREAK = "* * *"
# A longer heading is a whole text only in the chapter itself.
MAX_TITLE = 300
# A scene break as it is read: silence, for it stands in a line of its own.
PAUSE = "[pause 2s]"


@dataclass(frozen=True)
class Chapter:
    """One chapter.

    Attributes:
        title: its title, for names and marks.
        text: paragraphs with a blank line between them; its heading, where it has one, is the first.
    """

    title: str
    text: str


@dataclass(frozen=True)
class Book:
    """A book.

    Attributes:
        title: the file's name if the file gives no title.
        author: None if the file gives none.
        language: its language as the file spells it, "en-GB"; None if it gives none.
        chapters: its chapters in reading order.
        warnings: a sentence for each harmless flaw of the file, and what was done about it.
        left_out: the parts of the file that are not read: passages by name, marks and numbers by count.
        cover: its picture, a JPEG or PNG file, if it has one.
    """

    title: str
    author: str | None
    language: str | None
    chapters: tuple[Chapter, ...]
    warnings: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    cover: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Section:
    """A stretch of a book under one heading.

    Attributes:
        title: "" before the first heading.
        paragraphs: its paragraphs in order, with the heading.
        has_body: whether any of them is more than a heading.
    """

    title: str
    paragraphs: tuple[str, ...]
    has_body: bool


def chapters_of(sections: Iterable[Section], book_title: str) -> tuple[Chapter, ...]:
    """One chapter for each section with a body.

    Headings without one ("PART TWO" before "Chapter 9", a table of contents) are read with the chapter that
    follows them, so that no text is lost; but what stands before the first heading, such as a title page, is a part of
    its own. Untitled sections are named after the book, then numbered.
    """
    chapters: list[Chapter] = []
    waiting: list[str] = []
    for section in sections:
        waiting += section.paragraphs
        is_front = not section.title and not chapters
        # A mark before the first heading holds for the chapter under it.
        if (section.has_body or is_front) and not _is_mark(waiting):
            if text := spoken_text(waiting):
                usual = f"{book_title} {len(chapters) + 1}" if chapters else book_title
                title = without_voice_marks(section.title) or usual
                chapters.append(Chapter(one_line(title, MAX_TITLE), text))
            # A break before any text is none.
            waiting = []
    if rest := spoken_text(waiting):
        last = chapters.pop() if chapters else None
        title = last.title if last is not None else one_line(book_title, MAX_TITLE)
        chapters.append(Chapter(title, spoken_text([*([last.text] if last is not None else []), rest])))
    return tuple(chapters)


def _is_mark(paragraphs: Iterable[str]) -> bool:
    """Whether paragraphs say nothing but which voice speaks."""
    text = "\n".join(paragraphs)
    return VOICE_MARK.search(text) is not None and not has_words(without_voice_marks(text))


def spoken_text(paragraphs: Iterable[str]) -> str:
    """Paragraphs with blank lines between; those without a letter or digit become a pause between their neighbours."""
    spoken: list[str] = []
    for paragraph in paragraphs:
        if has_words(paragraph) or PAUSE_TAG.search(paragraph) or SPEAKER_TAG.search(paragraph):
            spoken.append(paragraph)
        elif spoken and spoken[-1] != PAUSE:
            spoken.append(PAUSE)
    if spoken and spoken[-1] == PAUSE:
        spoken.pop()
    return "\n\n".join(spoken)


@contextmanager
def errors_name_chapter(book: Book, number: int) -> Iterator[None]:
    """Errors about a chapter's text that are raised inside name the chapter."""
    try:
        yield
    except RequestError as error:
        raise RequestError(f"{name_of_chapter(book, number)}: {error}") from error


def name_of_chapter(book: Book, number: int) -> str:
    """A chapter in messages."""
    return f"chapter {number + 1} ({book.chapters[number].title!r})"
