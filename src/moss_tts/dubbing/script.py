"""Cues to what is said: the words without the signs around them, and the voice of each.

<i>Stop!</i>  {\\an8}Stop!      Stop!
ada: Stop!  [S1] Stop!          Stop!, in the voice of ada or S1
[door slams]  (SIGHS)  ♪ La ♪   nothing
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass
from typing import Final

import regex

from moss_tts.dubbing.subtitle_files import FilmCue
from moss_tts.errors import RequestError, shown
from moss_tts.text.cast import NARRATOR, Cast, Casting
from moss_tts.text.tags import PAUSE, SPEAKER_TAG, has_words
from moss_tts.text.voice_marks import VOICE_MARK, Stretch, stretches

_VOICE_TAG: Final = regex.compile(r"<v(?:\.[^\s>]*)?\s+([^>]*)>", regex.IGNORECASE)
_TAG: Final = regex.compile(r"</?[a-zA-Z][^<>]*>|<[\d:.]+>|</?v[^<>]*>")
_BRACKETS: Final = regex.compile(r"\[[^\[\]]*\]")
# Round brackets are words of the speaker, unless nothing else stands in the line or all of it is in capitals.
_ROUND: Final = regex.compile(r"\(([^()]*)\)|（([^（）]*)）")
# What is sung, up to the note at its end; a note without another one stands for all of its line. Where an encoding has
# no notes, # or ¶ is one, with a blank behind it.
_SUNG: Final = regex.compile(
    r"[♪♫♬♩]+[^♪♫♬♩]*[♪♫♬♩]+|^[^\n]*[♪♫♬♩][^\n]*$|^(?:[-–—] ?)?([#¶])\s[^#¶]*(?:\1$|\Z|(?=\n[#¶]\s))", regex.MULTILINE
)
_BEFORE_COLON: Final = regex.compile(r"^([^:]{1,60}?)\s+:\s")
# A dash, or >> as broadcasters write it, before each speaker.
_DASH: Final = regex.compile(r"^(?:[-‐‑–—―]|>>>?)\s*(?=\S)")
# Marks of the direction of writing, which are not seen.
_DIRECTIONS: Final = regex.compile("[\u200e\u200f\u202a-\u202e\u2066-\u2069]")
# A name in capitals, at the beginning of a line or behind a sentence.
_LABEL: Final = regex.compile(r"(?:^|(?<=[.!?…][\"'”’»]?\s))(\p{Lu}[\p{Lu}\d .'’#-]{0,30}):\s+(?=\S)")


@dataclass(frozen=True)
class Part:
    """Words of a cue that one voice says.

    Attributes:
        casting: the voice; None: the one that was chosen for all cues.
        text: the words.
    """

    casting: Casting | None
    text: str


@dataclass(frozen=True)
class SpokenCue:
    """A cue with what is said in it.

    Attributes:
        cue: the cue, or the first of several with the same start.
        end: when it goes, in seconds.
        parts: its words, one part for each change of the voice; at least one.
    """

    cue: FilmCue
    end: float
    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        """Its words, for people."""
        return " ".join(part.text for part in self.parts)

    @property
    def voice(self) -> str | None:
        """The registered voice that speaks it, if it is only one."""
        names = {part.casting.voice if part.casting is not None else None for part in self.parts}
        return names.pop() if len(names) == 1 else None


@dataclass(frozen=True)
class Script:
    """What is said in a film.

    Attributes:
        cues: the cues that have words, in the order of time, each with a start of its own.
        left_out: what is not said, and how often: "[door slams]", "♪ La la ♪".
        labels: names in capitals before words that no voice belongs to, and how often.
    """

    cues: tuple[SpokenCue, ...]
    left_out: Counter[str]
    labels: Counter[str]


def script_of(cues: Sequence[FilmCue], cast: Cast, voices: Iterable[str] = ()) -> Script:
    """The words of cues and their voices.

    Args:
        cues: the cues of a film, in the order of time.
        cast: the voices of speakers.
        voices: names of registered voices, which stand for themselves before a colon.

    Raises:
        RequestError: a mark that names no voice, or a voice that is not registered; the message names the line.
    """
    registered = set(voices)
    known = Cast({**{name: Casting(name) for name in registered}, **cast.castings})
    reader, spoken = _Reader(known), list[SpokenCue]()
    for cue in cues:
        try:
            said = [one for one in stretches(reader.words(cue), known) if has_words(one.text)]
            _check_voices(said, registered)
        except RequestError as error:
            raise RequestError(f"line {cue.line}: {error}") from error
        if not said:
            continue
        parts = tuple(Part(one.casting, " ".join(one.text.split())) for one in said)
        if spoken and cue.start <= spoken[-1].cue.start:
            last = spoken[-1]
            spoken[-1] = SpokenCue(last.cue, max(last.end, cue.end), (*last.parts, *parts))
        else:
            spoken.append(SpokenCue(cue, cue.end, parts))
    return Script(tuple(spoken), reader.left_out, reader.labels)


def _check_voices(said: Iterable[Stretch], registered: Set[str]) -> None:
    for one in said:
        if one.casting is not None and one.casting.voice is not None and one.casting.voice not in registered:
            known = f"registered are {', '.join(sorted(registered))}" if registered else "none is registered"
            raise RequestError(f"there is no voice {shown(one.casting.voice)} ({one.casting.where}); {known}.")


class _Reader:
    """Takes the words out of cues."""

    def __init__(self, cast: Cast) -> None:
        self._cast = cast
        self.left_out, self.labels = Counter[str](), Counter[str]()

    def words(self, cue: FilmCue) -> str:
        """The words of a cue with marks of voices, a paragraph for each speaker."""
        text = html.unescape(_TAG.sub("", _VOICE_TAG.sub(self._voice_tag, _DIRECTIONS.sub("", cue.text))))
        text = self._without(_SUNG, text, lambda _: True)
        text = self._without(_BRACKETS, text, lambda match: not self._is_mark(match[0]))
        lines, actor = list[str](), self._mark(cue.actor)
        for line in text.split("\n"):
            is_turn = _DASH.search(line.strip()) is not None
            words = self._line(_DASH.sub("", line.strip()))
            if not words:
                continue
            if lines and not is_turn and not self._begins_with_voice(words):
                lines[-1] += f" {words}"
            else:
                lines.append(words)
        return "\n\n".join(line if self._begins_with_voice(line) else actor + line for line in lines)

    def _line(self, line: str) -> str:
        alone = _ROUND.fullmatch(line) is not None
        line = self._without(_ROUND, line, lambda match: alone or match[0].isupper())
        return _LABEL.sub(self._unvoiced, _BEFORE_COLON.sub(r"\1: ", " ".join(line.split())))

    def _unvoiced(self, label: regex.Match[str]) -> str:
        """A label as it stands if a voice belongs to it, else nothing."""
        if label[1] in self._cast:
            return label[0]
        self.labels[label[1]] += 1
        return ""

    def _without(self, pattern: regex.Pattern[str], text: str, is_sign: Callable[[regex.Match[str]], bool]) -> str:
        def replaced(match: regex.Match[str]) -> str:
            if not is_sign(match):
                return match[0]
            self.left_out[" ".join(match[0].split())] += 1
            return " "

        return pattern.sub(replaced, text)

    def _is_mark(self, brackets: str) -> bool:
        name = brackets[1:-1].strip()
        is_tag = any(tag.fullmatch(brackets) for tag in (SPEAKER_TAG, PAUSE, VOICE_MARK))
        return is_tag or name.casefold() == NARRATOR or name in self._cast

    def _begins_with_voice(self, line: str) -> bool:
        if match := _BRACKETS.match(line):
            return PAUSE.fullmatch(match[0]) is None
        name, colon, _ = line.partition(":")
        return bool(colon) and name.strip() in self._cast

    def _voice_tag(self, match: regex.Match[str]) -> str:
        return self._mark(match[1])

    def _mark(self, name: str) -> str:
        """The mark of a speaker that the file names; nothing if no voice belongs to the name."""
        return f"[{name.strip()}] " if name.strip() in self._cast else ""
