"""Which checks a golden has: one entry for each kind of checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from moss_tts.errors import CheckFailedError
from moss_tts.evidence.codecs import CODEC_CHECKS
from moss_tts.evidence.goldens import kind_of
from moss_tts.evidence.nano import NANO_CHECKS
from moss_tts.evidence.realtime import REALTIME_CHECKS
from moss_tts.evidence.sounds import SOUND_CHECKS
from moss_tts.evidence.speech import SPEECH_CHECKS

# What config.json says of its kind -> checks of a golden's folder, each with a sentence as its docstring.
CHECKS: dict[str, list[Callable[[Path], None]]] = {
    "moss_tts_delay": SPEECH_CHECKS,
    "moss_tts_local": SPEECH_CHECKS,
    "moss_tts_nano": NANO_CHECKS,
    "moss_tts_realtime": REALTIME_CHECKS,
    "moss-audio-tokenizer": CODEC_CHECKS,
    "MossSoundEffectPipeline": SOUND_CHECKS,
}


def check_is_known(folder: Path) -> None:
    """There are checks for goldens of this kind."""
    raise CheckFailedError(f"{folder.name} is a golden of a kind that nothing compares: model_type {kind_of(folder)}.")


def checks_of(folder: Path) -> list[Callable[[Path], None]]:
    """The checks of a golden; of one of an unknown kind, a check that fails."""
    return CHECKS.get(kind_of(folder), [check_is_known])
