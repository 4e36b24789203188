"""The check that a segment was spoken as it is written: a recogniser hears each attempt at it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from moss_tts.long_form import TextSegment
from moss_tts.subtitles.cues import caption
from moss_tts.subtitles.word_errors import word_error


@dataclass(frozen=True)
class Take:
    """An attempt at a segment that was heard.

    Attributes:
        heard: what a recogniser understood.
        word_error: errors per word that was to be said.
    """

    heard: str
    word_error: float


# Hears (S,) or (S, C) at a rate in Hz: the words, and the code of their language.
Hear = Callable[[np.ndarray, int], tuple[str, str]]


@dataclass(frozen=True, eq=False)
class Check:
    """How segments are checked.

    Attributes:
        limit: the word error above which a segment is spoken again.
        retakes: how often it is spoken again at most; the best attempt is kept.
        hear: the recogniser.
    """

    limit: float
    retakes: int
    hear: Hear

    def take(self, segment: TextSegment, audio: np.ndarray, sample_rate: int) -> Take:
        """What is heard of an attempt at a segment, float32 (S,) or (S, C).

        Both its text as it was written and as a lexicon spells it are right.
        """
        heard, language = self.hear(audio, sample_rate)
        wanted = {caption(text) for text in (segment.text, segment.written) if text is not None}
        return Take(heard, min(word_error(text, heard, language) for text in wanted))

    def is_enough(self, takes: Sequence[Take]) -> bool:
        """Whether no further attempt follows these."""
        return takes[-1].word_error <= self.limit or len(takes) > self.retakes


def best(takes: Sequence[Take]) -> Take | None:
    """The attempt that is kept, the first of those with the fewest errors; None where none was heard."""
    return min(takes, key=lambda take: take.word_error, default=None)
