"""Which letter and which phonemes each codec frame says, from the teachers' own durations.

A teacher decides how long each phoneme lasts before it makes any sound; the data stage keeps what it decided.
Words of phonemes and words of text correspond one to one nearly always; inside a word, phonemes are spread evenly
over the letters.
F frames, P phonemes of a sentence.
"""

from pathlib import Path

import numpy as np

from .data import FRAME, Utterance, utterances
from .teachers import hibari

INSIDE = (0.2, 0.5, 0.8)  # where in a frame a phoneme is looked up
PHONEMES = 192  # ids of the teachers' alphabet lie below this
UNKNOWN = -1


def word_spans(text: str) -> list[tuple[int, int]]:
    """Where the words of `text` begin and end."""
    spans, start = [], 0
    for word in text.split():
        begin = text.index(word, start)
        start = begin + len(word)
        spans.append((begin, start))
    return spans


def letters(text: str, readings: list[str]) -> list[int]:
    """The index in `text` of each phoneme and blank of `readings`, UNKNOWN where words do not correspond."""
    spans = word_spans(text)
    words = [word for reading in readings for word in reading.split(" ")]
    if len(words) != len(spans):
        return [UNKNOWN] * sum(len(reading) + 1 for reading in readings)
    found = []
    for word, (begin, end) in zip(words, spans, strict=True):
        found += [begin + (2 * n + 1) * (end - begin) // (2 * len(word)) for n in range(len(word))]
        found.append(end - 1)  # the blank after it
    return found


def spoken(utterance: Utterance) -> tuple[list[int], list[int], np.ndarray]:
    """Of each sound and silence: the letter it belongs to, its phoneme's id, and the sample where it ends."""
    vocab = hibari().vocab
    places, ids, start = [], [], 0
    where = letters(utterance.text, list(utterance.phonemes))
    for reading in utterance.phonemes:
        here = where[start : start + len(reading)]
        start += len(reading) + 1
        kept = [place for place, sound in zip(here, reading, strict=True) if sound in vocab]
        places += [kept[0], *kept, kept[-1]]
        ids += hibari().ids(reading)
    return places, ids, np.cumsum(np.concatenate(utterance.durations))


def alignment(utterance: Utterance) -> np.ndarray:
    """int16 (F, 1 + len(INSIDE)): the index of the letter at each frame's middle, and phoneme ids across it."""
    frames = utterance.samples // FRAME
    unknown = np.full((frames, 1 + len(INSIDE)), UNKNOWN, np.int16)
    if not utterance.phonemes:
        return unknown
    places, ids, ends = spoken(utterance)
    if len(ends) != len(ids) or -(-ends[-1] // FRAME) != frames:
        return unknown
    times = (np.arange(frames)[:, None] + np.asarray((0.5, *INSIDE))) * FRAME
    which = np.minimum(np.searchsorted(ends, times, side="right"), len(ends) - 1)
    found = np.asarray(ids)[which]
    found[:, 0] = np.asarray(places)[which[:, 0]]
    return found.astype(np.int16)


def write_alignment(state: Path, data: Path) -> None:
    """`state`/alignment.npy, frame by frame beside codes.npy: shards made after it are left out."""
    coded = {tuple(line.split("\t")[1:3]) for line in (state / "codes.tsv").read_text().splitlines()}
    found = [alignment(u) for u in utterances(data) if (u.speaker, u.shard.stem) in coded]
    np.save(state / "alignment.npy", np.concatenate(found))
    share = (np.concatenate(found) >= 0).mean(0)
    print(f"alignment: {share[1]:.3f} of all frames have phonemes, {share[0]:.3f} a letter")
