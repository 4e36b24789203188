"""DistillMOS: how good a recording sounds, 1 (bad) to 5, as people would rate it. Needs PyTorch.

pip install torch && pip install --no-deps distillmos==0.9.1 xls-r-sqa==0.1.0
"""

from __future__ import annotations

import sys
from functools import cache
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np
import soxr

RATE = 16_000


def installed() -> bool:
    return all(find_spec(name) for name in ("torch", "distillmos", "xls_r_sqa"))


@cache
def judge() -> Any:
    """The network. It imports torchaudio for its command line alone, so an empty stand-in serves as well."""
    if "torchaudio" not in sys.modules and not find_spec("torchaudio"):
        sys.modules["torchaudio"] = ModuleType("torchaudio")
        sys.modules["torchaudio"].__spec__ = ModuleSpec("torchaudio", None)
    from distillmos import ConvTransformerSQAModel

    return ConvTransformerSQAModel().eval()


def distillmos(audio: np.ndarray, sample_rate: int) -> float:
    """The rating of (S,) or (S, C); 1 where there is nothing to hear."""
    import torch

    mono = audio.mean(axis=1) if audio.ndim == 2 else audio
    if len(mono) < sample_rate // 4:
        return 1.0
    wave = torch.from_numpy(soxr.resample(mono.astype(np.float32), sample_rate, RATE))[None]
    with torch.no_grad():
        return float(judge()(wave)[0])
