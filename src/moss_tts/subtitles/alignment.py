"""The words of cues: where each is heard, by a recogniser, and by the pauses between them.

A recogniser tells the order of words well and their edges to some 100 ms. Where there is a pause between two words, it
tells the edges better.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Final

import numpy as np
import regex

from moss_tts.audio.waveform import resample
from moss_tts.subtitles.cues import Cue, Word
from moss_tts.subtitles.recogniser import RATE, WINDOW_SECONDS, Heard
from moss_tts.text.lexicon import WITHOUT_SPACES

Find = Callable[[np.ndarray, str], Sequence[Heard]]
# A word for each character of scripts without spaces, with the marks behind it; else what spaces enclose.
_WORD = regex.compile(rf"[^\w\s]*[{WITHOUT_SPACES}]\p{{M}}*(?:[^\w\s]*)|(?:(?![{WITHOUT_SPACES}])\S)+")
# Seconds of a step in which the level is measured, and of the shortest pause between words: a stop in the middle of one
# is shorter.
_STEP: Final = 0.01
_LEAST_PAUSE: Final = 0.06
# Quiet is this much below the loudest step.
_QUIET: Final = 10 ** (-35 / 20)
# How far from a pause an edge may have been told.
_MOST_SHIFT: Final = 0.15
# Whisper tells edges late in running speech: its tiny English model by 80 ms, against forced alignment by PocketSphinx,
# in eleven sentences of two voices. In words one by one it does not; half of it is best for both.
_LAG: Final = 0.04
# Of a text that does not fit into a window, the part of the words that is taken over from one: the last are squeezed.
_TRUSTED: Final = 2 / 3


def with_words(cue: Cue, audio: np.ndarray, sample_rate: int, find: Find) -> Cue:
    """A cue with its words, each inside it.

    Args:
        cue: a cue with times from the start of the audio.
        audio: float32 (S,) or (S, C), the whole recording.
        sample_rate: its sample rate, in Hz.
        find: finds the parts of a text in a recording at RATE, such as Recogniser.find.
    """
    part = audio[round(cue.start * sample_rate) : round(cue.end * sample_rate)]
    mono = np.ascontiguousarray(part if part.ndim == 1 else part.mean(axis=1), dtype=np.float32)
    words = words_of(cue.text)
    if not words or not mono.any():
        return cue
    heard = resample(mono, sample_rate, RATE)
    edges = _at_pauses(_edges(heard, words, find), pauses(heard), len(heard) / RATE)
    bounds = np.clip(np.maximum.accumulate(np.array(edges).ravel()), 0, cue.end - cue.start) + cue.start
    timed = [
        Word(float(start), float(end), text) for (start, end), text in zip(bounds.reshape(-1, 2), words, strict=True)
    ]
    return replace(cue, words=tuple(timed))


def words_of(text: str) -> list[str]:
    """The words of a text as they stand in it, with their marks.

    Marks alone belong to the word behind them, the last ones to the last word.
    """
    ends: list[tuple[int, int]] = []
    start: int | None = None
    for found in _WORD.finditer(text):
        start = found.start() if start is None else start
        if any(character.isalnum() for character in found[0]):
            ends.append((start, found.end()))
            start = None
    if start is not None and ends:
        ends[-1] = ends[-1][0], len(text.rstrip())
    return [text[begin:end] for begin, end in ends]


def _edges(audio: np.ndarray, words: Sequence[str], find: Find) -> list[tuple[float, float]]:
    """(start, end) of each word as a recogniser tells them, window by window."""
    window = round(WINDOW_SECONDS * RATE)
    edges: list[tuple[float, float]] = []
    at = 0.0
    while len(edges) < len(words):
        rest, left = audio[round(at * RATE) :], words[len(edges) :]
        is_last = len(rest) <= window or len(left) == 1
        if not is_last:
            share = window / len(rest) * sum(map(len, left))
            left = left[: max(1, int(np.searchsorted(np.cumsum([len(word) for word in left]), share)))]
        told = _told(find(rest[:window], " ".join(left)), left)
        kept = told if is_last else told[: max(1, int(_TRUSTED * len(told)))]
        edges += [(at + start - _LAG, at + end - _LAG) for start, end in kept]
        at = max(at, edges[-1][1])
    return edges


def _told(parts: Sequence[Heard], words: Sequence[str]) -> list[tuple[float, float]]:
    """(start, end) of each word, from parts that are cut otherwise."""
    # The text that was looked for begins with a space.
    starts = np.cumsum([1, *(len(word) + 1 for word in words)])
    edges: list[list[float]] = [[] for _ in words]
    position, last = 0, 0.0
    for part in parts:
        for offset, character in enumerate(part.text):
            if character.isalnum():
                word = int(np.searchsorted(starts, position + offset, side="right")) - 1
                edges[min(max(word, 0), len(words) - 1)] += [part.start, part.end]
        position += len(part.text)
    told = []
    for times in edges:
        told.append((min(times), max(times)) if times else (last, last))
        last = told[-1][1]
    return told


def pauses(audio: np.ndarray) -> list[tuple[float, float]]:
    """(start, end) of the quiet stretches of a recording (S,) at RATE, in seconds, those at its ends included."""
    step = round(_STEP * RATE)
    steps = audio[: len(audio) // step * step].reshape(-1, step)
    levels = np.sqrt(np.mean(np.square(steps), axis=1)) if len(steps) else np.zeros(0)
    quiet = np.concatenate([[False], levels < _QUIET * levels.max(initial=0.0), [False]])
    starts, ends = (np.flatnonzero(np.diff(quiet.astype(np.int8)) == sign) for sign in (1, -1))
    found = [(float(start * _STEP), float(end * _STEP)) for start, end in zip(starts, ends, strict=True)]
    ends_with = len(levels) * _STEP
    return [(start, end) for start, end in found if end - start >= _LEAST_PAUSE or not start or end == ends_with]


def _at_pauses(
    edges: Sequence[tuple[float, float]], silences: Sequence[tuple[float, float]], seconds: float
) -> list[tuple[float, float]]:
    """Edges moved to the pauses beside them: the word before a pause ends where it begins, the next begins at its end.

    A pause belongs to the nearest place between two words, and such a place to the longest of its pauses. The silence
    at the ends of the recording, which lasts some seconds, belongs to its first and its last word.
    """
    places = np.array([(before[1] + after[0]) / 2 for before, after in pairwise(edges)])
    starts, ends = (list(times) for times in zip(*edges, strict=True))
    longest = np.zeros(len(places))
    for start, end in silences:
        if start == 0:
            starts[0] = end
        elif end >= seconds - _STEP:
            ends[-1] = start
        elif len(places):
            away = np.maximum(0, np.maximum(start - places, places - end))
            place = int(np.argmin(away))
            if away[place] <= _MOST_SHIFT and end - start > longest[place]:
                longest[place], ends[place], starts[place + 1] = end - start, start, end
    return [(start, max(start, end)) for start, end in zip(starts, ends, strict=True)]
