"""Voice marks in a text: where another voice begins to speak, and how long it does.

There are four: `[voice: ada]` names a registered voice; `[Alice]`, `[narrator]` and `[S1]` name a speaker of the cast;
so does `Alice:`, at the beginning of a line or behind the end of a sentence.

A mark alone in its line holds up to the next mark of that kind, or to the end of the text. Any other one holds up to
the next mark, or to the end of its paragraph. What no mark names is the narrator's. Marks are not spoken.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import regex

from moss_tts.errors import RequestError, shown
from moss_tts.text.cast import NARRATOR, Cast, Casting, registered
from moss_tts.text.tags import SPEAKER_TAG, has_words

VOICE_MARK: Final = regex.compile(r"\[voice:[^\[\]\n]*\]", regex.IGNORECASE)
# The same in a text that is still being written, where a bracket may never be closed.
_GROWING_MARK: Final = regex.compile(r"\[voice:[^\[\]\n]{0,100}\]", regex.IGNORECASE)
_PARAGRAPH_END: Final = regex.compile(r"\n[^\S\n]*\n\s*")
_LINE_END: Final = regex.compile(r"[^\S\n]*(?:\n|\Z)")
# The beginning of a line, or the end of a sentence; no space stands behind a wide one.
_BEFORE_NAME: Final = r"(?:^[^\S\n]*|(?<=[.!?…][\"'”’»)\]]?\s)|(?<=[。！？][”’」』）]?))"
_COLON: Final = r"(?::(?![\w/])|：)"


@dataclass(frozen=True)
class Stretch:
    """A part of a text that one voice speaks.

    Attributes:
        casting: the voice; None: the one that was chosen for the whole text.
        text: its paragraphs, without marks.
        ends_paragraph: whether a paragraph ends where it does.
    """

    casting: Casting | None
    text: str
    ends_paragraph: bool = True


@dataclass(frozen=True)
class _Mark:
    """A mark that was found in a paragraph: its place, the voice that it names, and whether it is alone in its line."""

    start: int
    end: int
    casting: Casting | None
    is_alone: bool


def stretches(text: str, cast: Cast) -> list[Stretch]:
    """The parts of a text, each for one voice. Parts side by side in the same voice are one. Marks alone have none.

    Raises:
        RequestError: a mark that names no voice, or a speaker such as [S3] that the cast does not have while it has
            others of that kind.
    """
    marks = _pattern(cast)
    if not marks.search(text):
        return [Stretch(cast.narrator, text)]
    return list(map(_joined, _by_voice(_voiced(text.replace("\r\n", "\n"), cast, marks))))


def _by_voice(parts: Iterable[Stretch]) -> Iterator[list[Stretch]]:
    """Parts side by side in the same voice. Pauses and scene breaks belong to what stands before them."""
    group, speaks = list[Stretch](), None
    for part in parts:
        has_speech = has_words(part.text)
        if has_speech and speaks is not None and speaks.casting != part.casting:
            yield group
            group = []
        speaks = part if has_speech else speaks
        group.append(part)
    if group:
        yield group


def _joined(parts: Sequence[Stretch]) -> Stretch:
    casting = next((part.casting for part in parts if has_words(part.text)), parts[0].casting)
    text = "".join(part.text + ("\n\n" if part.ends_paragraph else " ") for part in parts[:-1]) + parts[-1].text
    return Stretch(casting, text, parts[-1].ends_paragraph)


def without_voice_marks(text: str) -> str:
    """The text without the marks that name a registered voice."""
    return VOICE_MARK.sub("", text).strip()


class UnmarkedText:
    """Takes a text in pieces, and gives it without the marks that name a registered voice, and the blanks behind them.

    Attributes:
        held: the end of the text, which may be the beginning of a mark.
        marks: the marks that were found.
    """

    def __init__(self) -> None:
        self.held, self.marks = "", list[str]()
        # The last character that was given, and whether the blanks that come next belong to a mark.
        self._last, self._is_behind_mark = "\n", False

    def push(self, text: str) -> str:
        """Take a piece of text; what is known to be no mark."""
        text, self.held = self.held + text, ""
        given = ""
        while match := _GROWING_MARK.search(text, partial=True):
            given += self._given(text[: match.start()])
            if match.partial:
                self.held = text[match.start() :]
                return given
            self.marks.append(match[0])
            self._is_behind_mark = self._last.isspace()
            text = text[match.end() :]
        return given + self._given(text)

    def rest(self) -> str:
        """What is held is no mark, for nothing follows it."""
        text, self.held = self.held, ""
        return self._given(text)

    def _given(self, text: str) -> str:
        if self._is_behind_mark:
            text = text.lstrip(" \t")
        if text:
            self._last, self._is_behind_mark = text[-1], False
        return text


def refuse_voice_marks(text: str | None) -> None:
    """Refuse a text with marks where only one voice can speak.

    Raises:
        RequestError: it has such a mark.
    """
    if mark := VOICE_MARK.search(text or ""):
        raise RequestError(
            f"The text has the mark {shown(mark[0])}, and only `moss-tts read` changes the voice inside a text. Take "
            "the mark out, and choose the voice for the whole text."
        )


def _voiced(text: str, cast: Cast, marks: regex.Pattern[str]) -> Iterator[Stretch]:
    """The parts of the text between marks and ends of paragraphs."""
    standing = cast.narrator
    for paragraph in _PARAGRAPH_END.split(text):
        casting, start, parts = standing, 0, list[tuple[Casting | None, str]]()
        for mark in _marks(paragraph, marks, cast):
            parts.append((casting, paragraph[start : mark.start].strip()))
            casting, start = mark.casting, mark.end
            standing = casting if mark.is_alone else standing
        parts.append((casting, paragraph[start:].strip()))
        spoken = [(casting, part) for casting, part in parts if part]
        for number, (casting, part) in enumerate(spoken, start=1):
            yield Stretch(casting, part, ends_paragraph=number == len(spoken))


def _marks(paragraph: str, pattern: regex.Pattern[str], cast: Cast) -> Iterator[_Mark]:
    for match in pattern.finditer(paragraph):
        start, end = match.span()
        before = start
        while before and paragraph[before - 1].isspace() and paragraph[before - 1] != "\n":
            before -= 1
        is_alone = (not before or paragraph[before - 1] == "\n") and _LINE_END.match(paragraph, end) is not None
        yield _Mark(start, end, _named(match, cast), is_alone)


def _pattern(cast: Cast) -> regex.Pattern[str]:
    """What finds the marks that a cast knows."""
    names = "|".join(r"\s+".join(map(regex.escape, name.split())) for name in cast.names)
    kinds = [rf"(?P<voice>{VOICE_MARK.pattern})", rf"\[(?P<speaker>{NARRATOR}{f'|{names}' if names else ''})\]"]
    if cast.is_numbered:
        kinds.append(rf"(?P<tag>{SPEAKER_TAG.pattern})")
    if names:
        kinds.append(rf"{_BEFORE_NAME}(?P<name>{names}){_COLON}")
    return regex.compile("|".join(kinds), regex.IGNORECASE | regex.MULTILINE)


def _named(match: regex.Match[str], cast: Cast) -> Casting | None:
    """The voice that a mark names."""
    found = match.groupdict()
    if found.get("voice") is not None:
        return _of_voice(match[0])
    speaker = found.get("speaker") or found.get("name") or (found.get("tag") or "").strip("[]")
    return cast.narrator if speaker.casefold() == NARRATOR else cast[speaker]


def _of_voice(mark: str) -> Casting:
    """The voice of [voice: ada]."""
    name = mark[1:-1].partition(":")[2].strip()
    if not name or len(name.split()) > 1:
        raise RequestError(f"the mark {shown(mark)} must name one voice, such as [voice: ada]")
    return Casting(registered(name), where=mark)
