"""How fast a checkpoint is on this machine: rows alone, the codec alone, and both as a listener has them.

The floor of a frame is the time that reading its weights once takes at the bandwidth measured in the same run; no
program can be faster with one voice, and a fraction of 1 would be perfect.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any

import mlx.core as mx
import numpy as np

from moss_tts.device.bandwidth import read_bandwidth
from moss_tts.device.memory import size
from moss_tts.errors import GenerationError
from moss_tts.model import Model
from moss_tts.rows import Prompts, RowBatch, endless
from moss_tts.speaking.engine import SpeechJob

TEXT = "The quick brown fox jumps over the lazy dog, and nobody who watches from the window seems to mind at all."
SEED = 1
WARM_UP = 3


@dataclass(frozen=True)
class Bench:
    """What was measured; times in seconds, sizes in bytes.

    Attributes:
        load: seconds to read the checkpoint.
        prompt_rows: rows of the prompt.
        prefill: seconds to read that prompt.
        row: seconds of the median row.
        row_bytes: weights that a row has to read.
        bandwidth: bytes per second that this machine reads.
        codec_frame: seconds to decode one frame, among many that are decoded together.
        frame_rate: frames per second of audio.
        first_audio: seconds from the call to the first chunk.
        spoken: seconds of audio in a run as a listener hears it.
        took: seconds that this run took.
        weights: bytes in memory after loading, with the codec.
        peak: the most bytes in memory at any time.
    """

    load: float
    prompt_rows: int
    prefill: float
    row: float
    row_bytes: int
    bandwidth: float
    codec_frame: float
    frame_rate: float
    first_audio: float
    spoken: float
    took: float
    weights: int
    peak: int

    @property
    def rows_per_second(self) -> float:
        """Rows a second of the network alone; every row is a frame."""
        return 1 / self.row

    @property
    def floor_fraction(self) -> float:
        """The shortest time that a row can take, divided by the time that it takes."""
        return self.row_bytes / self.bandwidth / self.row

    @property
    def real_time_factor(self) -> float:
        """Seconds of audio per second, as a listener has it."""
        return self.spoken / self.took


def bench(
    load: Callable[[], Model], frames: int, megabytes: int = 512, adapters: Mapping[str, float] | None = None
) -> Bench:
    """Load a checkpoint and measure it.

    Args:
        load: loads it.
        frames: the number of frames to make.
        megabytes: the size of the probe for bandwidth.
        adapters: weights of the checkpoint's adapters, by their names.
    """
    bandwidth = max(read_bandwidth(megabytes).values())
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    start = time.perf_counter()
    model = load()
    model.codec()
    loaded = time.perf_counter() - start
    weights, while_loading = mx.get_active_memory() - before, mx.get_peak_memory()
    options = {model.preset.prompt_field: TEXT, "max_tokens": frames, "seed": SEED, "adapters": adapters}
    job = model.job(model.request(options))
    warm_up(model, job)
    prefill, row = time_rows(model, job, frames)
    first, spoken, took = time_speech(model, options)
    return Bench(
        load=loaded,
        prompt_rows=len(job.prompt),
        prefill=prefill,
        row=row,
        row_bytes=model.architecture.bytes_per_frame(),
        bandwidth=bandwidth,
        codec_frame=time_codec(model, frames),
        frame_rate=model.codec().config.frame_rate,
        first_audio=first,
        spoken=spoken,
        took=took,
        weights=weights,
        # A request counts its own peak, from zero.
        peak=max(while_loading, mx.get_peak_memory()) - before,
    )


def warm_up(model: Model, job: SpeechJob) -> None:
    """Make what is made only once, such as kernels, so that it is not measured."""
    for _ in islice(endless(new_batch(model, job)), WARM_UP):
        pass
    time_codec(model, WARM_UP)


def new_batch(model: Model, job: SpeechJob) -> RowBatch:
    """A batch of one request. Its prompt is read, and it never reaches its budget."""
    request = replace(job.request, max_frames=10**6)
    return model.architecture.batch(Prompts.of(job.prompt), [request], job.n_vq)


def time_rows(model: Model, job: SpeechJob, count: int) -> tuple[float, float]:
    """Seconds until the first row, and of the median row after it."""
    start = time.perf_counter()
    stamps = [time.perf_counter() for _ in islice(endless(new_batch(model, job)), count)]
    return stamps[0] - start, statistics.median(np.diff(stamps).tolist())


def time_codec(model: Model, frames: int) -> float:
    """Seconds per frame of decoding so many frames whole."""
    codec = model.codec()
    codes = np.random.default_rng(SEED).integers(0, codec.config.codebook_size, (model.config.n_vq, frames))
    start = time.perf_counter()
    mx.eval(codec.decode(codes).audio)
    return (time.perf_counter() - start) / frames


def time_speech(model: Model, options: Mapping[str, Any]) -> tuple[float, float, float]:
    """Seconds to the first chunk, seconds of audio, and seconds in all, streamed.

    Raises:
        GenerationError: the checkpoint ended without audio.
    """
    start, stamps, spoken = time.perf_counter(), [], 0.0
    for result in model.generate(**{**options, "stream": True}):
        stamps.append(time.perf_counter() - start)
        spoken += result.samples / result.sample_rate
    if not spoken:
        raise GenerationError(
            "The checkpoint made no audio, so there is nothing to measure. Try another seed or checkpoint."
        )
    return stamps[0], spoken, stamps[-1]


# ------------------------------------------------------------------------------------------------- showing


def as_json(measured: Bench) -> str:
    """All figures as JSON, the derived ones as well."""
    derived = ("rows_per_second", "floor_fraction", "real_time_factor")
    return json.dumps(asdict(measured) | {name: getattr(measured, name) for name in derived}, indent=2)


def as_text(measured: Bench) -> str:
    """All figures as text, one line for each part."""
    return "\n".join(f"{label:<12} {value}" for label, value in _lines(measured))


def _lines(measured: Bench) -> Iterator[tuple[str, str]]:
    yield "loading", f"{measured.load:.1f} s for {size(measured.weights)} of weights"
    yield "prompt", f"{measured.prompt_rows} rows in {1e3 * measured.prefill:.0f} ms"
    yield "frames", f"{measured.rows_per_second:.1f} per second; real time is {measured.frame_rate:g}"
    yield (
        "limit",
        f"{measured.floor_fraction:.0%} of the speed that memory allows: a frame reads {size(measured.row_bytes)} at "
        f"{size(measured.bandwidth)}/s",
    )
    yield "codec", f"{1 / measured.codec_frame:.1f} frames per second"
    yield "first audio", f"after {1e3 * measured.first_audio:.0f} ms"
    yield "speech", f"{measured.real_time_factor:.2f} x real time: {measured.spoken:.1f} s in {measured.took:.1f} s"
    yield "memory", f"{size(measured.peak)} at most"
