"""Run the MOSS-TTS speech models on your own machine, on MLX."""

from moss_tts import blas
from moss_tts._version import __version__

# Has to happen before anything imports mlx.
OPENBLAS = blas.preload()

__all__ = ["__version__"]
