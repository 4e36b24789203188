"""The peer's side of vs_peers.py: runs in an environment of its own that has mlx-audio and no moss_tts.

Reads requests from stdin and answers on stdout, a line of JSON each, so that both sides can take turns.
"""

from __future__ import annotations

import ctypes
import json
import sys
import time
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path


def preload_openblas() -> str:
    """The same BLAS as ours, loaded before mlx."""
    spec = find_spec("ngsolve_openblas")
    libraries = [] if spec is None else sorted(Path(spec.origin).parent.glob("libopenblas*.so*"))
    if not libraries:
        return "none"
    ctypes.CDLL(str(libraries[0]), mode=ctypes.RTLD_GLOBAL)
    return libraries[0].name


BLAS = preload_openblas()

import mlx.core as mx  # noqa: E402
from mlx_audio.tts.models.moss_tts import moss_tts as peer  # noqa: E402


def load(directory: Path) -> peer.Model:
    """The model, strictly."""
    config = peer.ModelConfig.from_dict(json.loads((directory / "config.json").read_text()))
    model = peer.Model(config)
    weights = model.sanitize(mx.load(str(directory / "model.safetensors")))
    model.load_weights(list(weights.items()), strict=True)
    mx.eval(model.parameters())
    model.eval()
    return model


def stamp_steps(model: peer.Model) -> list[float]:
    """When each step of the backbone begins, from now on."""
    stamps: list[float] = []
    kind = type(next((getattr(model, part) for part in ("model", "transformer") if hasattr(model, part)), model))
    forward = kind.__call__

    def stamped(self, *args, **options):
        stamps.append(time.perf_counter())
        return forward(self, *args, **options)

    kind.__call__ = stamped
    return stamps


def answer(model: peer.Model, stamps: list[float], request: dict) -> dict:
    """Greedy rows behind a prompt, and the seconds of each."""
    stamps.clear()
    config = model.config
    generate = model.generate_local_ids if config.is_local_transformer else model.generate_delay_pattern_ids
    if config.is_v15_local_transformer:
        generate = model.generate_v15_local_ids
    prompt = mx.array([request["prompt"]], dtype=mx.int32)
    greedy = {"text_temperature": 0.0, "audio_temperature": 0.0, "audio_repetition_penalty": 1.0}
    [(_, rows)] = generate(prompt, max_new_tokens=request["frames"], **greedy)
    seconds = [after - before for before, after in pairwise(stamps[1:])]
    return {"seconds": seconds, "rows": rows[-request["frames"] :].tolist()}


def main() -> None:
    """Answer until stdin ends."""
    model = load(Path(sys.argv[1]))
    stamps = stamp_steps(model)
    print(json.dumps({"blas": BLAS}), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(model, stamps, json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
