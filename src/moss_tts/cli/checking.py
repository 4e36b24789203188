"""The options --check and --retakes: what hears the segments of a book, and how often they are spoken again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from moss_tts.cli.terminal import Terminal
from moss_tts.errors import RequestError

if TYPE_CHECKING:
    from moss_tts.speaking.checking import Check

RETAKES: Final = 2
MOST_RETAKES: Final = 20


@dataclass(frozen=True)
class WantedCheck:
    """The check of segments that a command was asked for.

    Attributes:
        limit: the value of --check, errors per word; None for no check.
        retakes: the value of --retakes.
        recogniser: the model that hears them; None is the packaged one.
    """

    limit: float | None = None
    retakes: int | None = None
    recogniser: str | None = None

    def check(self) -> None:
        """Refuse what cannot be had, before anything is loaded.

        Raises:
            RequestError: values out of range, --retakes without --check, or nothing that hears.
        """
        from moss_tts.subtitles.recogniser import check_recogniser

        if self.limit is None:
            if self.retakes is not None:
                raise RequestError("--retakes says how often misspoken segments are repeated. Give --check as well.")
            return
        if not 0 <= self.limit <= 1:
            raise RequestError(f"--check must be errors per word, 0 to 1, got {self.limit}.")
        if self.retakes is not None and not 0 <= self.retakes <= MOST_RETAKES:
            raise RequestError(f"--retakes must be 0 to {MOST_RETAKES}, got {self.retakes}.")
        check_recogniser(self.recogniser)

    def fingerprints(self) -> dict[str, Any]:
        """What decides which attempt at a segment is kept, for the manifest of a reading."""
        if self.limit is None:
            return {}
        return {"check": self.limit, "retakes": self._retakes, "recogniser": self.recogniser}

    @property
    def _retakes(self) -> int:
        return RETAKES if self.retakes is None else self.retakes

    def loaded(self, language: str | None, terminal: Terminal) -> Check | None:
        """The check with its recogniser in memory; None if none is wanted.

        Args:
            language: the language of the text; None if it is not known.
            terminal: shows what happens.

        Raises:
            RequestError: the recogniser cannot be loaded, or does not hear that language.
        """
        if self.limit is None:
            return None
        from moss_tts.audio.waveform import resample
        from moss_tts.speaking.checking import Check
        from moss_tts.subtitles.recogniser import RATE, Recogniser
        from moss_tts.subtitles.word_errors import language_code

        with terminal.loading("recogniser"):
            recogniser = Recogniser(self.recogniser)
        code = language_code(language)
        recogniser.check_language(code)

        def hear(audio: np.ndarray, sample_rate: int) -> tuple[str, str]:
            mono = np.ascontiguousarray(audio if audio.ndim == 1 else audio.mean(axis=1), dtype=np.float32)
            return recogniser.hear(resample(mono, sample_rate, RATE), code)

        return Check(self.limit, self._retakes, hear)


NO_CHECK: Final = WantedCheck()
