"""This runtime inside mlx-audio: after `import moss_tts.mlx_audio`, `mlx_audio.tts.load` speaks MOSS models with it.

Only the model registry of mlx-audio is changed, and in it only the entries of MOSS models.
"""

import sys
from importlib.machinery import ModuleSpec

try:
    from mlx_audio.tts import utils
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("moss_tts.mlx_audio needs mlx-audio: pip install mlx-audio==0.6.2") from error

from moss_tts.mlx_audio import runtime

# The values of model_type in config.json. Delay, TTSD, VoiceGenerator, SoundEffect and Local v1.0 share the first.
MODEL_TYPES = ("moss_tts_delay", "moss_tts_local", "moss_tts_nano", "moss_tts_realtime")
NAME = "moss_tts_mlx"

_MODULE = f"mlx_audio.tts.models.{NAME}"
sys.modules[_MODULE] = runtime
runtime.__spec__ = ModuleSpec(_MODULE, None)
utils.MODEL_REMAPPING |= dict.fromkeys(MODEL_TYPES, NAME)
