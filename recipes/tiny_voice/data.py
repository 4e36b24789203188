"""The teachers' audio in shards, a folder for each speaker: 24 kHz mono int16, loudness near -20 dB.

A shard is `SPEAKER/NNNNN.npy` (its lines end to end) and `NNNNN.tsv` (start, samples, text, phonemes, durations),
written last: a shard with a table is complete, so a run that was stopped goes on where it was. Same texts, same
shards, anywhere. What a line's phonemes and durations say is kept because Kokoro is too slow to ask again.
"""

import random
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from .teachers import RATE, Reading, Speaker, read_aloud

FRAME = 1_920
SHARD, KOKORO_SHARD = 100, 20  # lines: some minutes' work of each teacher
LETTERS_PER_SECOND = 15
LEVEL_DB, GAIN_DB, PEAK = -20.0, 6.0, 0.95
# A line of Kokoro takes as long as fifty of hibari: it waits for so many of them, else all would wait for it.
KOKORO_WAITS = 8


@dataclass(frozen=True)
class Utterance:
    """One line inside a shard. A line is one sentence or a few: of each the phonemes (P,) and their durations
    (P + 2,) in samples, which count the silence around them; none where they are not known."""

    shard: Path
    start: int
    samples: int
    text: str
    phonemes: tuple[str, ...] = ()
    durations: tuple[tuple[int, ...], ...] = ()

    @property
    def audio(self) -> np.ndarray:
        """float32 (S,)"""
        return open_shard(self.shard)[self.start : self.start + self.samples].astype(np.float32) / 32768

    @property
    def speaker(self) -> str:
        return self.shard.parent.name


@cache
def open_shard(path: Path) -> np.ndarray:
    return np.load(path, mmap_mode="r")


def level(audio: np.ndarray) -> np.ndarray:
    """`audio` with its mean power near LEVEL_DB, at most GAIN_DB away from what it was, and no clipping."""
    power_db = 10 * np.log10(np.mean(np.square(audio)) + 1e-9)
    gain = 10 ** (np.clip(LEVEL_DB - power_db, -GAIN_DB, GAIN_DB) / 20)
    return audio * min(gain, PEAK / max(float(np.abs(audio).max()), 1e-6))


def whole_frames(audio: np.ndarray) -> np.ndarray:
    """`audio` followed by silence up to a whole number of codec frames: the codec drops a partial one."""
    return np.pad(audio, (0, -len(audio) % FRAME))


def recording(reading: Reading) -> np.ndarray:
    """int16 (S,), a whole number of frames."""
    return np.round(whole_frames(level(reading.audio)) * 32767).astype(np.int16)


def row(start: int, samples: int, text: str, reading: Reading) -> str:
    """One line of a shard's table; a stroke stands between sentences."""
    durations = "|".join(" ".join(map(str, part)) for part in reading.durations)
    return f"{start}\t{samples}\t{text}\t{'|'.join(reading.phonemes)}\t{durations}"


def write_shard(lines: list[str], path: Path, read: Callable[[str], Reading]) -> Path:
    readings = [read(line) for line in lines]
    audio = [recording(reading) for reading in readings]
    starts = np.cumsum([0, *map(len, audio)])
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.concatenate(audio))
    rows = [row(a, len(w), t, r) for a, w, t, r in zip(starts, audio, lines, readings, strict=False)]
    table = path.with_suffix(".tmp")
    table.write_text("\n".join(rows) + "\n")
    return table.rename(path.with_suffix(".tsv"))


@dataclass(frozen=True)
class Task:
    """One shard that is to be made."""

    speaker: Speaker
    lines: list[str]
    path: Path

    def run(self) -> Path:
        return write_shard(self.lines, self.path, lambda text: read_aloud(self.speaker, text))


def tasks(speaker: Speaker, lines: list[str], folder: Path) -> list[Task]:
    """The shards that fill the speaker's hours; its lines come in an order of its own."""
    own = lines[:]
    random.Random(zlib.crc32(speaker.name.encode())).shuffle(own)
    shard = KOKORO_SHARD if speaker.styles else SHARD
    groups = [own[i : i + shard] for i in range(0, len(own), shard)]
    seconds = np.cumsum([sum(map(len, group)) / LETTERS_PER_SECOND for group in groups])
    enough = int(np.searchsorted(seconds, 3600 * speaker.hours, side="left")) + 1
    paths = [folder / speaker.name / f"{n:05d}.npy" for n in range(enough)]
    return [Task(speaker, group, path) for group, path in zip(groups, paths, strict=False)]


def in_turn(speakers: list[Speaker], lines: list[str], folder: Path) -> list[Task]:
    """All speakers' tasks, so that each grows beside the others, the slow ones more slowly."""
    ranked = []
    for place, speaker in enumerate(speakers):
        weight = KOKORO_WAITS if speaker.styles else 1
        made = 0
        for task in tasks(speaker, lines, folder):
            made += len(task.lines)
            ranked.append((made * weight, place, task))
    return [task for *_, task in sorted(ranked, key=lambda entry: entry[:2])]


def synthesise(speakers: list[Speaker], lines: list[str], folder: Path, workers: int = 1) -> None:
    """Shards of all speakers in `folder`; those already there are kept."""
    todo = [t for t in in_turn(speakers, lines, folder) if not t.path.with_suffix(".tsv").exists()]
    with ProcessPoolExecutor(workers) as pool:
        for done in pool.map(Task.run, todo):
            print(done, flush=True)


def utterance(shard: Path, line: str) -> Utterance:
    start, samples, text, phonemes, durations = line.split("\t")
    sentences = tuple(phonemes.split("|")) if phonemes else ()
    lengths = tuple(tuple(map(int, part.split())) for part in durations.split("|")) if durations else ()
    return Utterance(shard, int(start), int(samples), text, sentences, lengths)


def utterances(folder: Path) -> Iterator[Utterance]:
    """Every line of every complete shard below `folder`, in order."""
    for table in sorted(folder.rglob("*.tsv")):
        for line in table.read_text().splitlines():
            yield utterance(table.with_suffix(".npy"), line)


def buzz(seconds: float, seed: int, octave: float = 1.0) -> np.ndarray:
    """float32 (S,): harmonics over a gliding pitch, for smoke runs where the teacher is not installed."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    phase = 2 * np.pi * np.cumsum(octave * (120 + 40 * np.sin(2 * np.pi * rng.uniform(0.5, 2) * time))) / RATE
    wave = sum(np.sin(k * phase) / k for k in range(1, 12)) * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * time))
    return (wave + 0.02 * rng.standard_normal(len(time))).astype(np.float32)
