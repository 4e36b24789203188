"""Runaway speech: far more audio than the text can need, or a long silence.

These are pure functions over text and levels; generation asks them and ends the segment. The limits are generous,
because a false alarm cuts a good reading off: they catch loops and silence, not slow speakers.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from moss_tts.text.tags import PAUSE, SPEAKER_TAG

# Seconds allowed whatever the text: a short one may be drawn out, and every reading has silence at its ends.
FLOOR_SECONDS = 8.0
# Seconds allowed per character: about three times what a calm reading takes. Alphabets: 150 English words a
# minute are 14 characters a second, 0.07 s each.
LETTER_SECONDS = 0.22
# Abjads leave vowels out and abugidas write a syllable in one letter: 5 to 8 syllables a second.
SYLLABIC_SECONDS = 0.45
# Han, kana and Hangul: 4 to 5 a second in Mandarin; a kanji of Japanese can be three morae.
WIDE_SECONDS = 0.7
# A digit of a number can be two words ("forty-one million"); so can a sign ("percent", "square metres").
DIGIT_SECONDS = 1.2
SYMBOL_SECONDS = 1.5
# Capitals may be an initialism, each letter by name ("W").
CAPITAL_SECONDS = 0.7
PUNCTUATION_SECONDS = 0.8
TURN_SECONDS = 1.5
# A pause asked for may come out longer than asked.
PAUSE_STRETCH = 1.5

# The allowances above are about so many times what a calm reading takes.
ALLOWED_FOR_USUAL = 3.0

# Nobody pauses this long between two words of a reading; paragraphs take 1 to 2 s.
MAX_QUIET_SECONDS = 5.0
# Windows of the level; shorter than any syllable.
WINDOW_SECONDS = 0.02
# RMS of full scale. Speech lies about -20 dB, -40 dB when whispered.
SPEECH_LEVEL = 10 ** (-40 / 20)
QUIET_LEVEL = 10 ** (-50 / 20)
# A stretch is quiet, too, when it lies this far below the loudest window heard: hiss after speech.
QUIET_BELOW_LOUDEST = 10 ** (-40 / 20)


def longest_plausible_seconds(text: str) -> float:
    """Seconds of speech beyond which no language and no speaker has read this text."""
    pauses = sum(float(pause) for pause in PAUSE.findall(text))
    turns = len(SPEAKER_TAG.findall(text))
    spoken = SPEAKER_TAG.sub("", PAUSE.sub("", text))
    characters = math.fsum(_allowance(character) for character in spoken)
    return FLOOR_SECONDS + PAUSE_STRETCH * pauses + TURN_SECONDS * turns + characters


def usual_seconds(text: str) -> float:
    """Seconds in which a calm reader speaks a text, roughly: an estimate for people, before anything is spoken."""
    return (longest_plausible_seconds(text) - FLOOR_SECONDS) / ALLOWED_FOR_USUAL


def longest_quiet_seconds(text: str) -> float:
    """Seconds of low level within a reading of this text that no pause in it explains."""
    longest = max((float(pause) for pause in PAUSE.findall(text)), default=0.0)
    return MAX_QUIET_SECONDS + PAUSE_STRETCH * longest


# Marks that read as a pause; other punctuation may be read as a word ("at", "percent", "and").
_PAUSING = frozenset(".,;:!?…—–-()[]{}\"'“”‘’«»。，、；：！？「」『』（）《》【】·\n")
_ALPHABETS = ("LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "GEORGIAN")


def _allowance(character: str) -> float:
    if character in _PAUSING:
        return PUNCTUATION_SECONDS
    kind = unicodedata.category(character)
    if kind[0] in "ZMC":
        return 0.0
    if kind[0] == "N":
        return DIGIT_SECONDS
    if kind[0] in "SP":
        return SYMBOL_SECONDS
    if unicodedata.east_asian_width(character) in "WF":
        return WIDE_SECONDS
    return _letter_allowance(character, kind)


def _letter_allowance(character: str, kind: str) -> float:
    if kind == "Lu":
        return CAPITAL_SECONDS
    is_alphabetic = unicodedata.name(character, "").startswith(_ALPHABETS)
    return LETTER_SECONDS if is_alphabetic else SYLLABIC_SECONDS


@dataclass(frozen=True, eq=False)
class QuietState:
    """The state after the audio of a segment so far.

    Attributes:
        loudest: RMS of its loudest window.
        quiet_samples: length of the quiet stretch at its end; 0 before any speech.
        rest: mono samples (S,) of the window not yet full.
    """

    loudest: float = 0.0
    quiet_samples: int = 0
    rest: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))


def states(state: QuietState, chunk: npt.ArrayLike, sample_rate: int) -> Iterator[QuietState]:
    """The states after each window that a chunk (S,) or (S, C) completes, and at last the one with the rest of it.

    However audio is cut into chunks, the last state is the same.
    """
    samples: npt.NDArray[np.float64] = np.asarray(chunk, dtype=np.float64)
    mono = np.concatenate([state.rest, samples if samples.ndim == 1 else samples.mean(axis=1)])
    width = window_samples(sample_rate)
    full = len(mono) // width
    levels = np.sqrt(np.mean(np.square(mono[: full * width].reshape(full, width)), axis=1))
    for level in levels.tolist():
        state = _hear_window(state, level, width)
        yield state
    yield replace(state, rest=mono[full * width :])


def window_samples(sample_rate: int) -> int:
    """Samples of a window."""
    return max(1, round(WINDOW_SECONDS * sample_rate))


def _hear_window(state: QuietState, level: float, width: int) -> QuietState:
    loudest = max(state.loudest, level)
    is_quiet = level < max(QUIET_LEVEL, QUIET_BELOW_LOUDEST * loudest)
    counts = is_quiet and loudest >= SPEECH_LEVEL
    # Not dataclasses.replace, which takes four times as long: fifty windows a second, of every voice.
    return QuietState(loudest, state.quiet_samples + width if counts else 0, state.rest)


class QuietWatch:
    """Watches the chunks of one request for a long quiet stretch after speech.

    Args:
        text: what is spoken; pauses asked for in it are allowed.
        sample_rate: the sample rate of the chunks.
    """

    def __init__(self, text: str, sample_rate: int) -> None:
        self._longest = longest_quiet_seconds(text) * sample_rate
        self._sample_rate = sample_rate
        self._heard = QuietState()

    def hear(self, audio: npt.ArrayLike) -> int | None:
        """Take in a chunk (S,) or (S, C).

        Returns:
            The samples of it before which the quiet has lasted too long, wherever audio is cut into chunks; else None.
        """
        rest, width = len(self._heard.rest), window_samples(self._sample_rate)
        for count, state in enumerate(states(self._heard, audio, self._sample_rate), 1):
            self._heard = state
            if state.quiet_samples > self._longest:
                return count * width - rest
        return None
