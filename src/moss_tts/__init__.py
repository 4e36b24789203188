"""Run the MOSS-TTS speech models on your own machine, on MLX.

import moss_tts

model = moss_tts.load("path/to/MOSS-TTS")
for result in model.generate("Hello there.", seed=1):
    moss_tts.write_audio("hello.wav", result.audio, result.sample_rate)
"""

import os
from typing import TYPE_CHECKING, Any

from moss_tts._version import __version__
from moss_tts.device import blas

# Has to happen before anything imports mlx.
OPENBLAS = blas.preload()
# transformers would advise to install PyTorch; tokenizers need none.
os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")

if TYPE_CHECKING:
    from moss_tts.audio.files import write_audio
    from moss_tts.model import Model, load
    from moss_tts.result import GenerationResult

__all__ = ["GenerationResult", "Model", "__version__", "load", "write_audio"]

_HOMES = {"GenerationResult": "result", "Model": "model", "load": "model", "write_audio": "audio.files"}


def __getattr__(name: str) -> Any:
    """Import the parts on first use: `moss-tts --help` should not wait for mlx and transformers."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"moss_tts.{_HOMES[name]}"), name)
