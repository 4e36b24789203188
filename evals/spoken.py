"""The recordings under test: sentences as a checkpoint speaks them, or a teacher's recordings through a codec."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

# isort: off
import moss_tts  # before mlx: it brings the fast BLAS

# isort: on
import mlx.core as mx
import numpy as np

from moss_tts.audio.waveform import fit_channels, resample
from moss_tts.checkpoints.loading import LazyCodec, find_checkpoint, load_config
from moss_tts.codec import MossAudioTokenizer
from moss_tts.codec.config import MODEL_TYPES
from moss_tts.weights.layout import read_json

TEACHER_RATE = 24_000
TEACHER_MISSING = "the codec alone is judged on a teacher's recordings: pip install hibari-tts==0.2.1"


@dataclass(frozen=True)
class Spoken:
    """One sentence as audio.

    Attributes:
        audio: float32 (S,) or (S, C).
        sample_rate: in Hz.
        seconds: of compute it took.
        finish_reason: why speech ended; "stop" for a codec.
    """

    audio: np.ndarray
    sample_rate: int
    seconds: float
    finish_reason: str

    @property
    def duration(self) -> float:
        return len(self.audio) / self.sample_rate

    @property
    def is_silent(self) -> bool:
        """Whether nothing of it is above -50 dB of full scale."""
        return float(np.abs(self.audio).max(initial=0.0)) < 10 ** (-50 / 20)


Speaker = Callable[[str], Spoken]


def model_speaker(checkpoint: Path | str, seed: int, options: dict[str, Any]) -> Speaker:
    """Speaks with a checkpoint, every sentence with the same seed."""
    model = moss_tts.load(checkpoint)
    model.codec()

    def speak(sentence: str) -> Spoken:
        began = time.perf_counter()
        result = list(model.generate(sentence, seed=seed, **options))[-1]
        return Spoken(result.audio, result.sample_rate, time.perf_counter() - began, str(result.finish_reason))

    return speak


def codec_of(checkpoint: Path | str) -> MossAudioTokenizer:
    """The codec of a checkpoint, without its model; or the codec that the directory is."""
    source = find_checkpoint(checkpoint)
    if read_json(source.directory / "config.json").get("model_type") in MODEL_TYPES:
        return MossAudioTokenizer.from_pretrained(source.directory)
    return LazyCodec(source, load_config(source.directory))()


def codec_speaker(checkpoint: Path | str) -> Speaker:
    """The teacher's reading of a sentence, encoded and decoded by the codec of a checkpoint."""
    codec = codec_of(checkpoint)
    config = codec.config

    def speak(sentence: str) -> Spoken:
        told = resample(
            fit_channels(teacher_reads(sentence)[None], config.channels), TEACHER_RATE, config.sampling_rate
        )
        began = time.perf_counter()
        encoded = codec.encode(mx.array(told[0] if config.channels == 1 else told))
        audio = np.array(codec.decode(encoded.rows()[0]).rows()[0])
        seconds = time.perf_counter() - began
        return Spoken(audio.T if config.channels > 1 else audio[0], config.sampling_rate, seconds, "stop")

    return speak


def teacher_reads(sentence: str) -> np.ndarray:
    """float32 (S,) at TEACHER_RATE; the same on every run."""
    return np.asarray(teacher()(sentence, seed=zlib.crc32(sentence.encode())), np.float32)


@cache
def teacher() -> Any:
    try:
        from hibari import Hibari
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(TEACHER_MISSING) from error
    return Hibari()
