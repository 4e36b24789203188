"""The narrators of a book, one for each chapter: which request speaks in each voice, with which seed and reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from threading import Event
from typing import Any, Final

from moss_tts.books.chapter_files import SpokenBook
from moss_tts.books.voices import ONE_VOICE, BookVoices
from moss_tts.errors import RequestError
from moss_tts.model import Model
from moss_tts.request import MossNormalizedRequest
from moss_tts.sampling import mixed_seed
from moss_tts.speaking.checking import Check
from moss_tts.speaking.engine import SpeechChunk
from moss_tts.speaking.narration import Narrator
from moss_tts.text.cast import Casting
from moss_tts.text.tags import SPEAKER_TAG

# Options that choose the voice; without any, the first segment in a voice sets how it sounds.
VOICE_OPTIONS: Final = ("voice", "ref_audio", "reference", "dialogue_speakers", "mode")


@dataclass(frozen=True, eq=False)
class BookNarrators:
    """Makes the narrators of a book.

    Attributes:
        model: the model that speaks.
        spoken: the book with its plan and its kept segments.
        options: the options of generate for the whole book.
        seed: the seed of the book.
        voices: the voices that its plan names.
        check: hears the segments.
        cancel: ends the segment that is being spoken.
    """

    model: Model
    spoken: SpokenBook
    options: Mapping[str, Any]
    seed: int
    voices: BookVoices = ONE_VOICE
    check: Check | None = None
    cancel: Event | None = None
    # The chapter and the number of the first segment in each voice.
    first: Mapping[Casting | None, tuple[int, int]] = field(init=False)

    def __post_init__(self) -> None:
        first: dict[Casting | None, tuple[int, int]] = {}
        for chapter, plan in enumerate(self.spoken.plans):
            for number, segment in enumerate(plan):
                first.setdefault(segment.casting, (chapter, number))
        object.__setattr__(self, "first", first)

    def check_voices(self) -> None:
        """Refuse options that a voice cannot have, before anything is spoken.

        Raises:
            RequestError: there are such options.
        """
        for casting, (chapter, _) in self.first.items():
            try:
                self._request(casting, chapter)
            except RequestError as error:
                raise RequestError(str(error) if casting is None else f"{casting.where}: {error}") from error

    def chapter(self, number: int) -> Narrator:
        """The narrator of a chapter, before its first segment. The chapters before it are spoken.

        Raises:
            RequestError: options that a voice cannot have.
        """
        plan = tuple(self.spoken.plans[number])
        requests = {casting: self._request(casting, number) for casting in dict.fromkeys(part.casting for part in plan)}
        main = replace(requests[plan[0].casting], plan=plan)
        voices = {casting: request for casting, request in requests.items() if casting is not None}
        return self.model.narrator(main, cancel=self.cancel, voices=voices, check=self.check)

    def alone(self, casting: Casting | None) -> SpeechChunk:
        """The first segment in a voice, as it will be in the book: no other one decides how it sounds.

        Raises:
            GenerationError: it failed all its attempts.
        """
        chapter, number = self.first[casting]
        request = replace(self._request(casting, chapter), plan=tuple(self.spoken.plans[chapter]))
        voices = {} if casting is None else {casting: request}
        return self.model.narrator(request, cancel=self.cancel, voices=voices, check=self.check).alone(number)

    def _request(self, casting: Casting | None, chapter: int) -> MossNormalizedRequest:
        """The request for what one voice speaks of a chapter."""
        plan = self.spoken.plans[chapter]
        text = "\n\n".join(segment.spoken_text for segment in plan if segment.casting == casting)
        seed = self.seed if casting is None or casting.seed is None else casting.seed
        given = {**self.voices.options(self.options, casting), "text": text, "long_form": True}
        given |= {"seed": chapter_seed(seed, chapter), **self._reference(given, casting, chapter)}
        return self.model.request(given)

    def _reference(self, options: Mapping[str, Any], casting: Casting | None, chapter: int) -> dict[str, Any]:
        """The first segment in a voice as its reference, if nothing else says how it sounds."""
        first, number = self.first[casting]
        given = any(options.get(name) is not None for name in VOICE_OPTIONS)
        if given or first == chapter or SPEAKER_TAG.search(options["text"]):
            return {}
        codes = self.spoken.kept.spoken(first, number).codes
        return {"reference": codes} if len(codes) else {}


def chapter_seed(seed: int, chapter: int) -> int:
    """The seed of a chapter; the first has the book's, so that a book of one chapter is a long text."""
    if chapter == 0:
        return seed
    return mixed_seed("chapter", seed, chapter)
