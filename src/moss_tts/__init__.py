"""Run the MOSS-TTS speech models on your own machine, on MLX."""

from moss_tts._version import __version__

__all__ = ["__version__"]
