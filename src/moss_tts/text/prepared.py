"""A text as a checkpoint wants it: segments that it can speak, the pauses between them, and notes on what it cannot.

Pure: text in, text out. The order of the work: pauses, lines, tags, emoji, characters, sentences, words, alphabet,
pieces.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from moss_tts.errors import first_of
from moss_tts.text.characters import in_alphabet, in_latin_letters, plain_characters, without_pictures
from moss_tts.text.english.reading import in_words
from moss_tts.text.lines import paragraphs
from moss_tts.text.markup import between_pauses, without_tags
from moss_tts.text.pieces import pieces, with_stop
from moss_tts.text.preparation import TextPreparation
from moss_tts.text.sentences import UNSPOKEN, finished, punctuated, sentences
from moss_tts.text.tags import has_words


@dataclass(frozen=True)
class Pause:
    """Silence between segments, in seconds."""

    seconds: float


@dataclass(frozen=True)
class PreparedText:
    """A text as a checkpoint wants it.

    Attributes:
        parts: segments of text to speak one by one, and pauses, in order.
        notes: a sentence for each kind of characters that was left out or spelt otherwise.
    """

    parts: tuple[str | Pause, ...]
    notes: tuple[str, ...]

    @property
    def text(self) -> str:
        """The segments, joined by blanks."""
        return " ".join(self.segments)

    @property
    def segments(self) -> list[str]:
        """The segments without the pauses; none if there is nothing to speak."""
        return [part for part in self.parts if isinstance(part, str)]


def prepare(text: str, preparation: TextPreparation) -> PreparedText:
    """Cut a text into segments that a checkpoint can speak, everything in them written out in its letters.

    The segments hold every word of the text, in order; notes name what has no sound: tags, emoji, signs.
    """
    editor = _Editor(preparation)
    return PreparedText(tuple(editor.parts(text)), tuple(editor.notes()))


class _Editor:
    """Prepares one text and remembers what it left out."""

    def __init__(self, preparation: TextPreparation) -> None:
        self._preparation = preparation
        self._tags: list[str] = []
        self._signs: list[str] = []
        self._foreign: list[str] = []

    def parts(self, text: str) -> Iterator[str | Pause]:
        """Segments and pauses, in order."""
        for stretch, seconds in between_pauses(text if has_words(text) else ""):
            yield from self._segments(stretch)
            if seconds:
                yield Pause(seconds)

    def notes(self) -> Iterator[str]:
        """A sentence for each kind of characters that was left out."""
        if self._tags:
            yield f"This voice ignores tags, so they were left out: {_named(self._tags)}."
        if self._signs:
            yield f"This voice cannot speak some characters, so they were left out: {_named(self._signs)}."
        if self._foreign:
            yield f"This voice reads English only, so other words were respelt: {_named(self._foreign)}."

    def _segments(self, stretch: str) -> Iterator[str]:
        for paragraph in paragraphs(stretch):
            untagged, tags = without_tags(paragraph)
            plain, pictures = without_pictures(untagged)
            self._tags += tags
            self._signs += pictures
            for sentence in sentences(plain_characters(plain)):
                yield from self._spoken(sentence)

    def _spoken(self, sentence: str) -> Iterator[str]:
        letters, foreign = in_latin_letters(sentence)
        words, outside = in_alphabet(punctuated(in_words(letters)), self._preparation.alphabet)
        self._foreign += foreign
        self._signs += [sign for sign in outside if sign not in UNSPOKEN]
        for part in finished(words):
            yield from pieces(with_stop(part), self._preparation.longest_segment)


def _named(items: list[str]) -> str:
    """The first items, each once, and how many more there are."""
    return first_of(list(dict.fromkeys(items)))
