"""The segments that a book is spoken in. Nothing here needs a model, so a plan is there at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moss_tts.books.chapters import Book
from moss_tts.errors import RequestError
from moss_tts.long_form import LongFormOptions, TextSegment
from moss_tts.prompts.options import LONG_FORM, check_options
from moss_tts.prompts.planning import followed, plan_text
from moss_tts.text.preparation import TextPreparation

Options = Mapping[str, Any]


def long_form_options(options: Options) -> LongFormOptions:
    """The long_form_* options among the options of generate.

    Raises:
        RequestError: a bad value.
    """
    checked = check_options(options)
    return LongFormOptions(**{name.removeprefix("long_form_"): checked[name] for name in LONG_FORM if name in checked})


def plan_book(book: Book, options: Options, preparation: TextPreparation | None = None) -> list[list[TextSegment]]:
    """The segments of each chapter; needs no model.

    Args:
        book: what is read.
        options: of generate.
        preparation: how the checkpoint that reads wants its texts.

    Raises:
        RequestError: a bad option, or a chapter without a letter or digit.
    """
    chosen = long_form_options(options)
    plans = []
    for number, chapter in enumerate(book.chapters):
        try:
            plans.append(list(plan_text(chapter.text, chosen, preparation).segments))
        except RequestError as error:
            raise RequestError(f"{name_of_chapter(book, number)}: {error}") from error
    return plans


def reading_notes(book: Book, options: Options, preparation: TextPreparation | None) -> list[str]:
    """Sentences for people: what of the options and the text the checkpoint cannot follow."""
    _, notes = followed(check_options(options), preparation)
    text = "\n\n".join(chapter.text for chapter in book.chapters)
    return [*notes, *plan_text(text, long_form_options(options), preparation).notes]


def name_of_chapter(book: Book, number: int) -> str:
    """A chapter in messages."""
    return f"chapter {number + 1} ({book.chapters[number].title!r})"
