"""Cues: what is said from when to when. Times are seconds from the start of the audio."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from moss_tts.long_form import LongFormOptions, TextSegment
from moss_tts.text.tags import PAUSE, SPEAKER_TAG


@dataclass(frozen=True)
class Word:
    """A word of a cue, with its marks.

    Attributes:
        start: when it begins, in seconds.
        end: when it ends, in seconds.
        text: the word as it is written.
    """

    start: float
    end: float
    text: str


@dataclass(frozen=True)
class Cue:
    """A segment of a speech as a subtitle.

    Attributes:
        start: when it begins, in seconds.
        end: when it ends, in seconds.
        text: its text without the tags of speakers and pauses; each turn of a dialogue is a line that begins with "- ".
        voice: the registered voice, or the speaker "S1"; None if it has no name, or there are several.
        words: the words of the text in order, if they were looked for.
    """

    start: float
    end: float
    text: str
    voice: str | None = None
    words: tuple[Word, ...] = ()

    def shifted(self, seconds: float) -> Cue:
        """The same cue, later by some seconds."""
        words = tuple(replace(word, start=word.start + seconds, end=word.end + seconds) for word in self.words)
        return replace(self, start=self.start + seconds, end=self.end + seconds, words=words)

    def as_json(self) -> dict[str, Any]:
        """The cue with the names that OpenAI's transcriptions have; times to 0.1 ms."""
        times = {"start": round(self.start, 4), "end": round(self.end, 4)}
        words = [{"word": word.text, "start": round(word.start, 4), "end": round(word.end, 4)} for word in self.words]
        return {**times, "text": self.text, "voice": self.voice} | ({"words": words} if words else {})


@dataclass(frozen=True)
class CueRules:
    """What the cues of one request have in common.

    Attributes:
        sample_rate: the sample rate of the audio, in Hz.
        speed: how many times as fast as the model speaks the audio is.
        ties: how its segments are joined; None for a text in one piece.
        voice: the registered voice that speaks.
    """

    sample_rate: int
    speed: float = 1.0
    ties: LongFormOptions | None = None
    voice: str | None = None

    def cue(self, segment: TextSegment, start: int, end: int, is_whole: bool = True) -> Cue:
        """The cue of a segment that has the samples start to end; the silence around its words is none of it.

        Where silence at seams is trimmed, what is left of it cannot be told from the segment's own.
        """
        before, after = self._silence(segment.silence_before), self._silence(segment.silence_after)
        if self.ties is not None:
            after = max(0, after - round(self.ties.crossfade_ms * self.sample_rate / 1000))
        if (self.ties is not None and self.ties.trim_silence) or before + after >= end - start:
            before = after = 0
        first, last = start + before, end - (after if is_whole else 0)
        times = first / self.sample_rate, last / self.sample_rate
        return Cue(*times, caption(segment.written or segment.text), self._voice_of(segment))

    def _silence(self, seconds: float) -> int:
        return round(seconds * self.sample_rate / self.speed)

    def _voice_of(self, segment: TextSegment) -> str | None:
        if segment.casting is not None:
            return segment.casting.voice
        speakers = {tag for tag in (segment.speaker, *SPEAKER_TAG.findall(segment.text)) if tag is not None}
        return self.voice or (speakers.pop().strip("[]") if len(speakers) == 1 else None)


class CueClock:
    """The cues of one request, while its audio is made.

    Args:
        rules: what its cues have in common.
        segments: its segments in order; one for a text in one piece.
    """

    def __init__(self, rules: CueRules, segments: Sequence[TextSegment]) -> None:
        self._rules, self._segments = rules, segments
        self._index = self._start = self._end = 0

    def after(self, segment: int, samples: int, finish_reason: str | None) -> tuple[Cue, ...]:
        """The cues that are known once a segment has some more samples: those that have ended."""
        ended = []
        if segment != self._index:
            ended.append(self._cue())
            self._index, self._start = segment, self._end
        self._end += samples
        if finish_reason is not None:
            ended.append(self._cue(finish_reason != "cancelled"))
        return tuple(cue for cue in ended if cue.end > cue.start)

    def _cue(self, is_whole: bool = True) -> Cue:
        return self._rules.cue(self._segments[self._index], self._start, self._end, is_whole)


def caption(text: str) -> str:
    """A text as it is shown: no tags of speakers and pauses, no repeated spaces, a line for each of several turns."""
    tags = [match.start() for match in SPEAKER_TAG.finditer(text)]
    turns = [text[start:end] for start, end in pairwise(sorted({0, *tags, len(text)}))]
    plain = [_plain(turn) for turn in turns]
    spoken = [turn for turn in plain if turn]
    return "\n".join(f"- {turn}" for turn in spoken) if len(spoken) > 1 else "".join(spoken)


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", PAUSE.sub(" ", SPEAKER_TAG.sub(" ", text))).strip()
