"""How fast a sound model is on this machine: its description, a step and decoding, and a whole sound from these."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import islice, pairwise
from statistics import median

import mlx.core as mx

from moss_tts.device.memory import cache_limit, size
from moss_tts.diffusion.engine import make_latents
from moss_tts.diffusion.model import SoundModel

TEXT = "Rain falls on a tin roof, and a door creaks."
SEED = 1
# The first step comes after the description, and is timed with it.
STEPS = 3


@dataclass(frozen=True)
class SoundBench:
    """What was measured; times in seconds, sizes in bytes.

    Attributes:
        load: seconds to read the model.
        description: seconds to read the description, which loads the text encoder.
        step: seconds of the median step.
        steps: steps of a sound.
        decoding: seconds to decode a sound.
        seconds: seconds of that sound.
        peak: the most bytes in memory at any time.
    """

    load: float
    description: float
    step: float
    steps: int
    decoding: float
    seconds: float
    peak: int

    @property
    def whole(self) -> float:
        """Seconds that a sound takes."""
        return self.description + self.steps * self.step + self.decoding

    def as_json(self) -> str:
        """All figures as JSON."""
        return json.dumps(asdict(self) | {"whole": self.whole}, indent=2)

    def as_text(self) -> str:
        """All figures as text, one line for each part."""
        lines = {
            "loading": f"{self.load:.1f} s",
            "description": f"{self.description:.1f} s, with the loading of the text encoder",
            "step": f"{self.step:.2f} s",
            "decoding": f"{self.decoding:.1f} s for a sound of {self.seconds:g} s",
            "sound": f"about {self.whole:.0f} s for {self.steps} steps",
            "memory": f"{size(self.peak)} at most",
        }
        return "\n".join(f"{label:<12} {value}" for label, value in lines.items())


def bench_sounds(load: Callable[[], SoundModel]) -> SoundBench:
    """Load a sound model and time a part of a sound with its default options.

    Args:
        load: loads it.
    """
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    start = time.perf_counter()
    model = load()
    loaded = time.perf_counter() - start
    request = model.request({"ambient_sound": TEXT, "seed": SEED})
    with cache_limit():
        stamps, steps = [time.perf_counter()], make_latents(model.parts, [model.job(request)])
        for latents in islice(steps, 1 + STEPS):  # noqa: B007 - the last ones are decoded
            stamps.append(time.perf_counter())
        steps.close()
        start = time.perf_counter()
        for _ in model.parts.decoder.parts(latents, request.samples):
            pass
        decoding = time.perf_counter() - start
    step = median(after - at for at, after in pairwise(stamps[1:]))
    return SoundBench(
        load=loaded,
        description=max(0.0, stamps[1] - stamps[0] - step),
        step=step,
        steps=request.steps,
        decoding=decoding,
        seconds=request.seconds,
        peak=mx.get_peak_memory() - before,
    )
