"""Lexicons: words and phrases of a text, and how they are to be spoken.

A file has a line `word = spoken form` or `word = /IPA/` for each entry. A line that begins with # is a comment, as is
what follows # behind a spoken form, and the lines after one such as [French] hold for that language alone. Case counts,
and an entry is a whole word or phrase.
"""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

import regex

from moss_tts.errors import RequestError, first_of, shown
from moss_tts.text.cleanup import TAG
from moss_tts.text.entry_files import entry_lines, errors_name_line, read_entry_file

MOST_CHARACTERS: Final = 500
_IPA: Final = regex.compile(r"/[^/\n]+/")
_SECTION: Final = regex.compile(r"\[([^\[\]]+)\]")
# Scripts that write words without spaces between them, as classes of a regular expression.
WITHOUT_SPACES: Final = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
# Letters, digits and marks that belong to a word with spaces around it.
_OF_A_WORD: Final = regex.compile(rf"(?![{WITHOUT_SPACES}])[\w\p{{M}}]")
_RUN: Final = regex.compile(rf"(?:{_OF_A_WORD.pattern})++")
# Signs of which a text may have another one than the lexicon: keyboards have one kind, books another.
_SAME_SIGNS: Final = ("'’ʼ", "-‐‑")
_KEYBOARD: Final = str.maketrans({sign: signs[0] for signs in _SAME_SIGNS for sign in signs})
# Don't is no form of don.
_NOT: Final = r"(?!['’ʼ]t\b)"
# Between a word and its spoken form, the first one that is found; a word such as E=mc² has = in it.
_EQUALS: Final = (regex.compile(r"\s=\s"), regex.compile("="))
_COMMENT: Final = regex.compile(r"\s#.*")


@dataclass(frozen=True)
class Entry:
    """A word or a phrase, and how it is spoken.

    Attributes:
        written: the word as it stands in texts.
        spoken: the words to speak instead, or /IPA/.
        language: the only language that it holds for, in lower case; None for all.
    """

    written: str
    spoken: str
    language: str | None = None

    def __post_init__(self) -> None:
        for name, value in (("word", self.written), ("spoken form", self.spoken)):
            if not any(map(str.isalnum, value)) or len(value) > MOST_CHARACTERS or "\n" in value:
                raise RequestError(
                    f"the {name} {shown(value)} must be one line of at most {MOST_CHARACTERS} characters, a letter or "
                    "a digit among them"
                )
        if not set("[]{}").isdisjoint(self.written):
            raise RequestError(f"the word {shown(self.written)} has brackets; tags are never replaced")

    @property
    def is_ipa(self) -> bool:
        """Whether it is spoken by its sounds."""
        return _IPA.fullmatch(self.spoken) is not None


@dataclass(frozen=True)
class Lexicon:
    """Entries in order; of several for the same word, the last holds, and one for the language holds before others."""

    entries: tuple[Entry, ...] = ()

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Lexicon:
        """Read a file.

        Raises:
            RequestError: it cannot be read, or a line of it is no entry; the message names the line.
        """
        where = f"lexicon {os.fspath(path)}"
        return cls(tuple(_entries(read_entry_file(path, where), where)))

    @classmethod
    def of(cls, entries: Mapping[str, str]) -> Lexicon:
        """A lexicon of words and their spoken forms.

        Raises:
            RequestError: a word or a form that cannot be one.
        """
        if not all(isinstance(text, str) for entry in entries.items() for text in entry):
            raise RequestError(f"a lexicon must map words to spoken forms, got {shown(dict(entries))}")
        return cls(tuple(Entry(written.strip(), spoken.strip()) for written, spoken in entries.items()))

    @classmethod
    def joined(cls, lexicons: Iterable[Lexicon]) -> Lexicon:
        """Several lexicons as one; later ones hold before earlier ones."""
        return cls(tuple(entry for lexicon in lexicons for entry in lexicon.entries))

    def respeller(self, language: str | None = None, reads_ipa: bool = True) -> Respeller:
        """What replaces its words in texts of a language, by its English name, for a model that reads IPA or not."""
        known = None if language is None else language.strip().lower()
        general = [entry for entry in self.entries if entry.language is None]
        special = [entry for entry in self.entries if entry.language is not None and entry.language == known]
        return Respeller({entry.written: entry for entry in [*general, *special]}, reads_ipa)


def _entries(content: str, where: str) -> Iterator[Entry]:
    language = None
    for number, line in entry_lines(content):
        if section := _SECTION.fullmatch(line):
            language = section[1].strip().lower()
            continue
        equals = next(filter(None, (sign.search(line) for sign in _EQUALS)), None)
        with errors_name_line(where, number):
            if equals is None:
                raise RequestError(f"there is no = in {shown(line)}; write word = spoken form, or word = /IPA/")
            spoken = _COMMENT.sub("", line[equals.end() :])
            entry = Entry(line[: equals.start()].strip(), spoken.strip(), language)
        yield entry


# ------------------------------------------------------------------------------------------------- in a text


@dataclass(frozen=True)
class Change:
    """A word that was replaced.

    Attributes:
        start: where its spoken form begins in the new text.
        end: the offset after its spoken form.
        written: the word as the caller wrote it.
    """

    start: int
    end: int
    written: str


@dataclass(frozen=True)
class Respelt:
    """A text with its words as they are to be spoken.

    Attributes:
        text: the new text.
        changes: the words that were replaced, in order.
        unread: entries in IPA that were left as they are written, because the model does not read IPA.
    """

    text: str
    changes: tuple[Change, ...] = ()
    unread: tuple[str, ...] = ()

    def written(self, start: int, end: int) -> str:
        """What the caller wrote in the place of the new text's characters start to end.

        A word that lies in several places belongs to the one that it begins in.
        """
        parts, at = [], start
        for change in self.changes:
            if change.end <= start or change.start >= end:
                continue
            parts += [self.text[at : change.start], change.written if change.start >= start else ""]
            at = min(change.end, end)
        return "".join([*parts, self.text[at:end]])

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for people."""
        if not self.unread:
            return ()
        return (
            "This model does not read IPA, so these words of the lexicon are spoken as they are written: "
            f"{first_of(list(map(repr, self.unread)))}. Give them a spoken form in letters.",
        )


@dataclass(frozen=True, eq=False)
class Respeller:
    """Replaces the words of a lexicon in a text: each once, the longest first, never inside a tag or IPA.

    Attributes:
        entries: the entries by their words.
        reads_ipa: whether the model reads IPA.
    """

    entries: Mapping[str, Entry]
    reads_ipa: bool = True
    _by_start: Mapping[str, list[tuple[str, Entry]]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        by_start = defaultdict(list)
        for written, entry in sorted(self.entries.items(), key=lambda item: -len(item[0])):
            for form in {unicodedata.normalize(kind, written) for kind in ("NFC", "NFD")} | {written}:
                by_start[_start_of(form, 0)].append((form, entry))
        object.__setattr__(self, "_by_start", dict(by_start))

    def __call__(self, text: str) -> Respelt:
        """The text as it is to be spoken."""
        parts, changes, unread, length, done = list[str](), list[Change](), dict[str, None](), 0, 0
        for start, end, entry in self._found(text):
            if entry.is_ipa and not self.reads_ipa:
                unread[entry.written] = None
                continue
            parts += [text[done:start], entry.spoken]
            begins = length + start - done
            length = begins + len(entry.spoken)
            changes.append(Change(begins, length, text[start:end]))
            done = end
        return Respelt("".join([*parts, text[done:]]), tuple(changes), tuple(unread))

    def _found(self, text: str) -> Iterator[tuple[int, int, Entry]]:
        """(start, end, entry) of the words in a text, in order."""
        at = 0
        tags = [match.span() for match in TAG.finditer(text)]
        while at < len(text):
            while tags and tags[0][1] <= at:
                tags.pop(0)
            if tags and tags[0][0] <= at:
                at = tags[0][1]
                continue
            limit = tags[0][0] if tags else len(text)
            found = self._at(text, at, limit)
            if found is None:
                at += len(_start_of(text, at))
                continue
            yield at, found[0], found[1]
            at = found[0]

    def _at(self, text: str, at: int, limit: int) -> tuple[int, Entry] | None:
        """The end of the longest word that begins at a place, and its entry."""
        for form, entry in self._by_start.get(_start_of(text, at), ()):
            if (match := _pattern(form).match(text, at)) and match.end() <= limit:
                return match.end(), entry
        return None


def _start_of(text: str, at: int) -> str:
    """What entries are looked up by: the first characters that a word has between spaces, or else one character."""
    match = _RUN.match(text, at)
    return match[0] if match else text[at : at + 1].translate(_KEYBOARD)


@lru_cache(4096)
def _pattern(written: str) -> regex.Pattern[str]:
    """A word where nothing of its script touches it; any white space, apostrophe and hyphen stands for its own."""
    before = rf"(?<!{_OF_A_WORD.pattern})" if _OF_A_WORD.match(written) else ""
    after = rf"(?!{_OF_A_WORD.pattern}){_NOT}" if _OF_A_WORD.match(written[-1]) else ""
    word = r"\s+".join(map(regex.escape, written.translate(_KEYBOARD).split()))
    for signs in _SAME_SIGNS:
        word = word.replace(regex.escape(signs[0]), f"[{signs}]")
    return regex.compile(before + word + after)
