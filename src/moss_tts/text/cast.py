"""Casts: which voice speaks for the narrator, and for each speaker of a text.

A file has a line for each of them; # begins a comment:

    narrator = ada
    "Alice" = bob, seed 7
    S1 = default, adapter warm=0.8  # the voice that the model has by itself

`voice_marks.py` finds the speakers in a text.
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import regex

from moss_tts.errors import RequestError, shown
from moss_tts.sampling import MAX_SEED
from moss_tts.strict import NUMBERS, is_number
from moss_tts.text.entry_files import entry_lines, errors_name_line, read_entry_file

NARRATOR: Final = "narrator"
# The voice that a model has without a recording.
OWN_VOICE: Final = "default"
# OpenAI's voices: its clients have to name one.
OPENAI_VOICES: Final = frozenset("alloy ash ballad cedar coral echo fable marin nova onyx sage shimmer verse".split())
MOST_CHARACTERS: Final = 60
_ENTRY: Final = regex.compile(
    r"(?P<speaker>narrator|S\d{1,2}|[\"“„«][^\"“”„«»]*[\"“”»])\s*=(?P<casting>[^#]*)(?:#.*)?", regex.IGNORECASE
)
# Programs put „“ and «» in the place of "".
_QUOTES: Final = '"“”„«»'
_NAME: Final = regex.compile(r"[^\[\]{}:\n]*\w[^\[\]{}:\n]*")
_FORM: Final = 'write narrator = VOICE, "Name" = VOICE or S1 = VOICE'


def is_own_voice(name: str, registered: Container[object]) -> bool:
    """Whether a name means the voice that the model has by itself: "default", or OpenAI's if it is not registered."""
    return name.lower() == OWN_VOICE or (name.lower() in OPENAI_VOICES and name.lower() not in registered)


@dataclass(frozen=True)
class Casting:
    """The voice that speaks for somebody; two that are equal sound the same.

    Attributes:
        voice: the name of a registered voice; None: the voice that the model has by itself.
        seed: the seed of what it speaks; None: that of the whole text.
        adapters: (name, weight) of adapters.
        where: where it was written, for messages.
    """

    voice: str | None = None
    seed: int | None = None
    adapters: tuple[tuple[str, float], ...] = ()
    where: str = field(default="", compare=False)

    def __str__(self) -> str:
        """The entry as a file has it."""
        seed = [] if self.seed is None else [f"seed {self.seed}"]
        return ", ".join([self.voice or OWN_VOICE, *seed, *(f"adapter {name}={w:g}" for name, w in self.adapters)])


@dataclass(frozen=True)
class Cast:
    """Speakers and the voices that speak for them.

    Attributes:
        castings: the casting of each speaker: "narrator", a name as it was written, or "S1".
    """

    castings: Mapping[str, Casting] = field(default_factory=dict)
    _folded: Mapping[str, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_folded", {_folded(name): name for name in self.castings})

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Cast:
        """Read a file.

        Raises:
            RequestError: it cannot be read, or a line of it is no entry; the message names the line.
        """
        where = f"cast {os.fspath(path)}"
        castings: dict[str, Casting] = {}
        for number, line in entry_lines(read_entry_file(path, where)):
            with errors_name_line(where, number):
                speaker, casting = _entry(line, f"{where}, line {number}")
                if speaker in cls(castings):
                    raise RequestError(f"{speaker} has a voice already")
                castings[speaker] = casting
        return cls(castings)

    @property
    def names(self) -> Iterator[str]:
        """The speakers that have names of their own."""
        return (name for name in self.castings if name != NARRATOR and not is_numbered(name))

    @property
    def is_numbered(self) -> bool:
        """Whether it has voices for speakers such as S1."""
        return any(map(is_numbered, self.castings))

    def __getitem__(self, speaker: str) -> Casting:
        """The casting of a speaker; capitals and the number of blanks between its words do not matter.

        Raises:
            RequestError: the cast has no such speaker.
        """
        name = self._folded.get(_folded(speaker))
        if name is None:
            known = f"The cast has {', '.join(self.castings)}." if self.castings else "The cast is empty."
            raise RequestError(f"The cast has no voice for {shown(speaker)}. {known}")
        return self.castings[name]

    def __contains__(self, speaker: str) -> bool:
        return _folded(speaker) in self._folded

    @property
    def narrator(self) -> Casting | None:
        """The voice of what nobody else speaks; None: the voice that was chosen for the whole text."""
        return self.castings.get(NARRATOR)


def is_numbered(speaker: str) -> bool:
    """Whether a speaker is one of a dialogue, such as S1."""
    return regex.fullmatch(r"S\d{1,2}", speaker) is not None


def registered(voice: str) -> str | None:
    """The name under which a voice is registered; None for the voice that a model has by itself."""
    return None if voice.lower() == OWN_VOICE else voice.lower()


def _folded(name: str) -> str:
    return " ".join(name.split()).casefold()


def _entry(line: str, where: str) -> tuple[str, Casting]:
    """The speaker and the casting of a line."""
    match = _ENTRY.fullmatch(line)
    if match is None:
        raise RequestError(f"{shown(line)} is no entry; {_FORM}")
    speaker = match["speaker"].strip(_QUOTES).strip()
    if _NAME.fullmatch(speaker) is None or len(speaker) > MOST_CHARACTERS:
        raise RequestError(
            f"the name {shown(speaker)} must have 1 to {MOST_CHARACTERS} characters, a letter or digit among them, and "
            "neither brackets nor colons"
        )
    if match["speaker"][0] not in _QUOTES:
        speaker = NARRATOR if speaker.casefold() == NARRATOR else speaker.upper()
    elif speaker.casefold() == NARRATOR or is_numbered(speaker.upper()):
        raise RequestError(f"write {speaker} without quotes")
    voice, *more = (part.strip() for part in match["casting"].split(","))
    if not voice or len(voice.split()) > 1:
        raise RequestError(f"{speaker} needs the name of one voice, got {shown(voice)}; {_FORM}")
    return speaker, Casting(registered(voice), *_options(more), where)


def _options(parts: list[str]) -> tuple[int | None, tuple[tuple[str, float], ...]]:
    """The seed and the adapters behind the name of a voice."""
    seed, adapters = None, dict[str, float]()
    for part in parts:
        kind, _, value = part.partition(" ")
        if kind == "seed" and seed is None:
            seed = _seed(value.strip())
        elif kind == "adapter" and value.strip():
            name, _, weight = value.strip().partition("=")
            adapters[name.strip()] = _weight(weight.strip() or "1")
        else:
            raise RequestError(f"{shown(part)} is not known; behind the voice may stand: seed N, adapter NAME=WEIGHT")
    return seed, tuple(sorted(adapters.items()))


def _seed(value: str) -> int:
    if not (value.isascii() and value.isdigit() and int(value) <= MAX_SEED):
        raise RequestError(f"a seed is a whole number of 0 to {MAX_SEED}, got {shown(value)}")
    return int(value)


def _weight(value: str) -> float:
    try:
        weight = float(value)
    except ValueError:
        weight = float("nan")
    if not is_number(weight):
        raise RequestError(f"the weight of an adapter is {NUMBERS}, got {shown(value)}")
    return weight
