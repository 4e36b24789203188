"""Run the MOSS-TTS speech models on your own machine, on MLX.

import moss_tts

model = moss_tts.load()                     # the packaged voice, or load("path/to/MOSS-TTS")
speech = model.say("Hello there.", seed=1)
speech.save("hello.wav")
"""

import os
from typing import TYPE_CHECKING, Any

from moss_tts._version import __version__
from moss_tts.device import blas

# This must run before anything imports mlx.
OPENBLAS = blas.preload()
# transformers advises to install PyTorch, but tokenizers do not need it.
os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")

if TYPE_CHECKING:
    from moss_tts.audio.files import read_audio, write_audio
    from moss_tts.diffusion.model import SoundModel
    from moss_tts.errors import (
        AudioError,
        BackendNotFoundError,
        CheckFailedError,
        CheckpointError,
        CodecNotFoundError,
        ConfigError,
        GenerationError,
        HubError,
        MossTTSError,
        MossTTSWarning,
        NotHereError,
        PendingTextError,
        RequestError,
        TurnOverError,
        UnknownOptionError,
        UnknownVoiceError,
    )
    from moss_tts.kinds import load
    from moss_tts.model import Model
    from moss_tts.result import GenerationResult, Speech
    from moss_tts.sessions.session import Session
    from moss_tts.sessions.turn import Turn
    from moss_tts.voices import Voice, Voices

__all__ = [
    "AudioError",
    "BackendNotFoundError",
    "CheckFailedError",
    "CheckpointError",
    "CodecNotFoundError",
    "ConfigError",
    "GenerationError",
    "GenerationResult",
    "HubError",
    "Model",
    "MossTTSError",
    "MossTTSWarning",
    "NotHereError",
    "PendingTextError",
    "RequestError",
    "Session",
    "SoundModel",
    "Speech",
    "Turn",
    "TurnOverError",
    "UnknownOptionError",
    "UnknownVoiceError",
    "Voice",
    "Voices",
    "__version__",
    "load",
    "read_audio",
    "write_audio",
]

_HOMES = {
    "GenerationResult": "result",
    "Model": "model",
    "Session": "sessions.session",
    "SoundModel": "diffusion.model",
    "Speech": "result",
    "Turn": "sessions.turn",
    "Voice": "voices",
    "Voices": "voices",
    "load": "kinds",
    "read_audio": "audio.files",
    "write_audio": "audio.files",
}


def __getattr__(name: str) -> Any:
    """Import the parts on first use: `moss-tts --help` should not wait for mlx and transformers."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    from moss_tts.device.backend import explained_backend

    with explained_backend():
        return getattr(import_module(f"moss_tts.{_HOMES.get(name, 'errors')}"), name)


def __dir__() -> list[str]:
    return __all__
