"""The voices of a book: its narrator's, and those that its marks and its cast name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from moss_tts.books.chapters import Book, errors_name_chapter
from moss_tts.errors import RequestError, UnknownVoiceError
from moss_tts.text.cast import NARRATOR, Cast, Casting
from moss_tts.text.voice_marks import Stretch, stretches
from moss_tts.voices import Voice, Voices

Options = Mapping[str, Any]
# Options that choose a voice, of which a casting takes the place.
_CHOICES: Final = frozenset({"voice", "ref_audio", "reference", "ref_text", "dialogue_speakers", "mode", "seed"})


@dataclass(frozen=True)
class BookVoices:
    """The voices of a book.

    Attributes:
        cast: the voices of its speakers.
        registered: the voices that its text needs, by name.
        weights: weights of adapters, by name, for voices that have no weights of their own; None: those of the options
            of the whole book, among which may be weights of the voice that these options name.
    """

    cast: Cast = field(default_factory=Cast)
    registered: Mapping[str, Voice] = field(default_factory=dict)
    weights: Mapping[str, float] | None = None

    @classmethod
    def of(cls, book: Book, cast: Cast, voices: Voices, weights: Mapping[str, float] | None = None) -> BookVoices:
        """The voices that a book needs, all of which are registered.

        Args:
            book: what is read.
            cast: the voices of its speakers.
            voices: the registered voices.
            weights: see the attribute.

        Raises:
            RequestError: a voice of the text or of the cast is not registered, or a mark names none; the message says
                where.
        """
        found = {casting.voice: _registered(casting, voices) for casting in cast.castings.values() if casting.voice}
        for number in range(len(book.chapters)):
            for part in parts_of(book, number, cast):
                if part.casting is not None and part.casting.voice and part.casting.voice not in found:
                    with errors_name_chapter(book, number):
                        found[part.casting.voice] = _registered(part.casting, voices)
        return cls(cast, found, weights)

    def options(self, options: Options, casting: Casting | None) -> dict[str, Any]:
        """The options of generate for what a voice speaks.

        Args:
            options: those of the whole book.
            casting: the voice; None: the one that these options name.
        """
        if casting is None:
            return dict(options)
        chosen: dict[str, Any] = {name: value for name, value in options.items() if name not in _CHOICES}
        shared, own = options.get("adapters") if self.weights is None else self.weights, dict(casting.adapters)
        chosen["adapters"] = {**(shared or {}), **own} or None
        if casting.voice is not None:
            chosen["voice"] = self.registered[casting.voice]
            chosen["adapters"] = chosen["voice"].adapters_with(own, shared) or None
        return chosen

    def speakers(self, casting: Casting | None) -> str:
        """The speakers of a voice, for people; the voice itself where only marks name it."""
        names = [speaker for speaker, entry in self.cast.castings.items() if entry == casting]
        return ", ".join(names) or (NARRATOR if casting is None else str(casting))

    def fingerprints(self) -> dict[str, str]:
        """What decides how the voices sound, for the manifest of a reading."""
        cast = {f"cast {name}": str(casting) for name, casting in self.cast.castings.items()}
        recordings = {f"voice {name}": voice.fingerprint for name, voice in self.registered.items()}
        return cast | recordings


def parts_of(book: Book, number: int, cast: Cast) -> list[Stretch]:
    """The parts of a chapter, each for one voice.

    Raises:
        RequestError: a mark that names no voice, or nothing but marks.
    """
    with errors_name_chapter(book, number):
        parts = stretches(book.chapters[number].text, cast)
        if not parts:
            raise RequestError("there are voice marks, and no text that a voice could speak")
        return parts


def _registered(casting: Casting, voices: Voices) -> Voice:
    """The voice of a casting.

    Raises:
        RequestError: it is not registered; the message says where it is named.
    """
    assert casting.voice is not None
    try:
        return voices[casting.voice]
    except UnknownVoiceError as error:
        raise UnknownVoiceError(f"{casting.where}: {error}") from error


ONE_VOICE: Final = BookVoices()
