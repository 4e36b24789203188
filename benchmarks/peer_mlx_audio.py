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
from mlx_audio.tts.models import moss_tts, moss_tts_nano  # noqa: E402

Model = moss_tts.Model | moss_tts_nano.Model


def load(directory: Path) -> Model:
    """The model, strictly."""
    raw = json.loads((directory / "config.json").read_text())
    peer = moss_tts_nano if raw["model_type"] == "moss_tts_nano" else moss_tts
    model = peer.Model(peer.ModelConfig.from_dict(raw))
    weights = model.sanitize(mx.load(str(directory / "model.safetensors")))
    model.load_weights(list(weights.items()), strict=True)
    mx.eval(model.parameters())
    model.eval()
    return model


def stamp_steps(model: Model) -> list[float]:
    """When each step of the backbone begins, from now on."""
    stamps: list[float] = []
    # Nano's depth decoder is of the backbone's class.
    kind, name = type(model), "_build_inputs_embeds"
    if not isinstance(model, moss_tts_nano.Model):
        kind = type(next((getattr(model, part) for part in ("model", "transformer") if hasattr(model, part)), model))
        name = "__call__"
    forward = getattr(kind, name)

    def stamped(self, *args, **options):
        stamps.append(time.perf_counter())
        return forward(self, *args, **options)

    setattr(kind, name, stamped)
    return stamps


def nano_rows(model: Model, prompt: mx.array, frames: int) -> mx.array:
    """Greedy rows (F, 1 + Q) of Nano."""
    codes = model.generate_audio_token_ids(
        prompt_input_ids=prompt, max_new_frames=frames, do_sample=False, audio_repetition_penalty=1.0
    )[0]
    slots = mx.full((len(codes), 1), model.config.audio_assistant_slot_token_id, dtype=mx.int32)
    return mx.concatenate([slots, codes], axis=1)


def other_rows(model: Model, prompt: mx.array, frames: int) -> mx.array:
    """Greedy rows (F, 1 + Q) of Delay and Local."""
    config = model.config
    generate = model.generate_local_ids if config.is_local_transformer else model.generate_delay_pattern_ids
    if config.is_v15_local_transformer:
        generate = model.generate_v15_local_ids
    greedy = {"text_temperature": 0.0, "audio_temperature": 0.0, "audio_repetition_penalty": 1.0}
    [(_, rows)] = generate(prompt, max_new_tokens=frames, **greedy)
    return rows


def answer(model: Model, stamps: list[float], request: dict) -> dict:
    """Greedy rows behind a prompt, and the seconds of each."""
    stamps.clear()
    rows_of = nano_rows if isinstance(model, moss_tts_nano.Model) else other_rows
    rows = rows_of(model, mx.array([request["prompt"]], dtype=mx.int32), request["frames"])
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
