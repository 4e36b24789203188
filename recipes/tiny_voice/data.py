"""Teacher audio in shards: hibari-tts reads a list of sentences; 24 kHz mono int16, loudness near -20 dB.

A shard is `NNNNN.npy` (its sentences end to end) and `NNNNN.tsv` (start, samples, text), written last: a shard
with a table is complete, so a run that was stopped goes on where it was. Same sentences, same shards, anywhere.
"""

import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

RATE = 24_000
FRAME = 1_920
SHARD = 500
LEVEL_DB, GAIN_DB, PEAK = -20.0, 6.0, 0.95


@dataclass(frozen=True)
class Utterance:
    """One sentence inside a shard."""

    shard: Path
    start: int
    samples: int
    text: str

    @property
    def audio(self) -> np.ndarray:
        """float32 (S,)"""
        return open_shard(self.shard)[self.start : self.start + self.samples].astype(np.float32) / 32768


@cache
def open_shard(path: Path) -> np.ndarray:
    return np.load(path, mmap_mode="r")


@cache
def teacher():
    from hibari import Hibari  # only the data stage needs it

    return Hibari()


def level(audio: np.ndarray) -> np.ndarray:
    """`audio` with its mean power near LEVEL_DB, at most GAIN_DB away from what it was, and no clipping."""
    power_db = 10 * np.log10(np.mean(np.square(audio)) + 1e-9)
    gain = 10 ** (np.clip(LEVEL_DB - power_db, -GAIN_DB, GAIN_DB) / 20)
    return audio * min(gain, PEAK / max(float(np.abs(audio).max()), 1e-6))


def whole_frames(audio: np.ndarray) -> np.ndarray:
    """`audio` followed by silence up to a whole number of codec frames: the codec drops a partial one."""
    return np.pad(audio, (0, -len(audio) % FRAME))


def read_aloud(text: str) -> np.ndarray:
    """float32 (S,): the teacher's reading, the same on every run."""
    return whole_frames(level(teacher()(text, seed=zlib.crc32(text.encode()))))


def write_shard(sentences: list[str], path: Path, read: Callable[[str], np.ndarray] = read_aloud) -> Path:
    audio = [np.round(read(text) * 32767).astype(np.int16) for text in sentences]
    starts = np.cumsum([0, *map(len, audio)])
    np.save(path, np.concatenate(audio))
    rows = [f"{start}\t{len(wave)}\t{text}" for start, wave, text in zip(starts, audio, sentences, strict=False)]
    table = path.with_suffix(".tmp")
    table.write_text("\n".join(rows) + "\n")
    return table.rename(path.with_suffix(".tsv"))


def synthesise(sentences: list[str], folder: Path, workers: int = 1) -> None:
    """Shards of `sentences` in `folder`; those already there are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    groups = [sentences[i : i + SHARD] for i in range(0, len(sentences), SHARD)]
    paths = [folder / f"{n:05d}.npy" for n in range(len(groups))]
    todo = [(g, p) for g, p in zip(groups, paths, strict=True) if not p.with_suffix(".tsv").exists()]
    with ProcessPoolExecutor(workers) as pool:
        for done in pool.map(write_shard, *zip(*todo, strict=True)) if todo else ():
            print(done, flush=True)


def utterances(folder: Path) -> Iterator[Utterance]:
    """Every sentence of every complete shard below `folder`, in order."""
    for table in sorted(folder.rglob("*.tsv")):
        for line in table.read_text().splitlines():
            start, samples, text = line.split("\t")
            yield Utterance(table.with_suffix(".npy"), int(start), int(samples), text)


def buzz(seconds: float, seed: int) -> np.ndarray:
    """float32 (S,): harmonics over a gliding pitch, for smoke runs where the teacher is not installed."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    phase = 2 * np.pi * np.cumsum(180 + 60 * np.sin(2 * np.pi * rng.uniform(0.5, 2) * time)) / RATE
    wave = sum(np.sin(k * phase) / k for k in range(1, 12)) * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * time))
    return whole_frames(level((wave + 0.02 * rng.standard_normal(len(time))).astype(np.float32)))
