"""One of several processes: speaks checkpoints together with the others; the first one writes their codes.

mlx.launch -n 2 --backend ring tests/support/tensor_parallel_frames.py OUTPUT CHECKPOINT...
"""

from __future__ import annotations

import sys
from typing import Any

import moss_tts  # noqa: F401 - before mlx: it brings the fast BLAS

import mlx.core as mx  # isort: skip
import numpy as np

from moss_tts.speaking.driving import speak_one
from moss_tts.speaking.engine import SpeechEngine
from moss_tts.tensor_parallel import load_part

OPTIONS = {"text": "Hello there.", "max_tokens": 30, "seed": 3}


def frames(model: Any) -> np.ndarray:
    """Codes (F, Q) of a request."""
    engine = SpeechEngine(model.architecture, model.codec)
    chunks = speak_one(engine, model.job(model.request(OPTIONS)))
    return np.concatenate([chunk.frames for chunk in chunks])


if __name__ == "__main__":
    group = mx.distributed.init(strict=True)
    models = [load_part(checkpoint, group) for checkpoint in sys.argv[2:]]
    spoken = {str(index): frames(model) for index, model in enumerate(models)}
    backbones = [model.architecture.network["backbone"] for model in models]
    largest = [backbone.layers[0].self_attn.o_proj.part.weight.size for backbone in backbones]
    if group.rank() == 0:
        np.savez(sys.argv[1], processes=group.size(), o_proj=largest, **spoken)
