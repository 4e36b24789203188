"""Laws that need no weights: they hold for tiny checkpoints with random weights, and for products of random numbers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache
from typing import Any, Unpack

import mlx.core as mx
import numpy as np

from moss_tts.device.kernels import on_cpu
from moss_tts.errors import GenerationError
from moss_tts.evidence.comparing import close, require, same
from moss_tts.model import Model
from moss_tts.prompts.options import GenerateOptions
from moss_tts.result import GenerationResult

TEXT = "Good morning to you all."
FRAMES = 12
# A type to compute in -> the largest difference that passes, as a share of the largest product.
TYPES = {mx.float32: 1e-5, mx.bfloat16: 1e-2}


def speak(model: Model, text: str | None = TEXT, **options: Unpack[GenerateOptions]) -> GenerationResult:
    """The one result of a request."""
    defaults: GenerateOptions = {"seed": 1, "max_tokens": FRAMES}
    (result,) = model.generate(text, **(defaults | options))
    return result


def reference(model: Model, n_frames: int, seed: int = 0) -> np.ndarray:
    """Random codes (F, Q) that stand for a recording."""
    size = (n_frames, model.config.n_vq)
    return np.random.default_rng(seed).integers(0, model.config.audio_vocab_size, size, dtype=np.int32)


@cache
def talkative(model: Model) -> int:
    """A seed with which the model speaks for more than 31 frames."""
    return next(seed for seed in range(40) if speak(model, seed=seed, max_tokens=32).finish_reason == "length")


def greedy_text(model: Model) -> GenerateOptions:
    """The option that takes the likeliest text, of models that write text."""
    return {} if "text_temperature" in model.preset.no_place_for else {"text_temperature": 0.0}


# ------------------------------------------------------------------------------------------------ of every model


def check_stream(model: Model) -> None:
    """Streamed audio, joined, is the whole audio, however long its chunks are."""
    options: dict[str, Any] = {"seed": talkative(model), "max_tokens": 16}
    whole = speak(model, **options)
    for interval in (0.01, 0.5):
        chunks = list(model.generate(TEXT, **options, stream=True, streaming_interval=interval))
        joined = np.concatenate([chunk.audio for chunk in chunks])
        close(joined, whole.audio, f"audio in chunks of {interval:g} s")


def check_side_by_side(model: Model) -> None:
    """Requests side by side, more of them than run at a time, have the audio that each has alone."""
    asked: list[dict[str, Any]] = [
        {"text": TEXT, "seed": 1, "max_tokens": 12},
        {"text": "Hi.", "seed": 2, "max_tokens": 3},
        {"text": TEXT, "seed": 3, "max_tokens": 9, "reference": reference(model, 6)},
        {"text": "Third.", "seed": 4, "max_tokens": 12, "temperature": 0.0},
        {"text": TEXT, "seed": 5, "max_tokens": 7, "mode": "continuation", "reference": reference(model, 8)},
    ]
    asked = [options for options in asked if model.preset.no_place_for.isdisjoint({*options, options.get("mode")})]
    made = dict(model.generate_batch(asked, max_batch=2))
    require(sorted(made) == list(range(len(asked))), f"{len(asked)} requests gave the results {sorted(made)}.")
    for index, options in enumerate(asked):
        (alone,) = model.generate(**options)
        beside = made[index]
        if isinstance(beside, GenerationError):
            raise beside
        close(beside.audio, alone.audio, f"audio of request {index}")
        require(beside.finish_reason == alone.finish_reason, f"request {index} ended for another reason.")
        require(beside.prompt["tokens"] == alone.prompt["tokens"], f"request {index} had another prompt.")


def check_seeds(model: Model) -> None:
    """The same seed gives the same audio bit for bit; another seed, or none, gives other audio."""
    first, again, other = (speak(model, seed=seed).audio for seed in (5, 5, 6))
    same(first, again, "audio of one seed")
    require(not np.array_equal(first, other), "two seeds gave the same audio.")
    # Greedy text, so that no unlucky seed ends before its first frame.
    unseeded: GenerateOptions = {**greedy_text(model), "seed": None}
    drawn = [speak(model, **unseeded).audio for _ in range(2)]
    require(not np.array_equal(drawn[0], drawn[1]), "two requests without a seed gave the same audio.")


def check_temperature_0(model: Model) -> None:
    """The seed does not matter at temperature 0."""
    one: GenerateOptions = {**greedy_text(model), "temperature": 0.0, "seed": 1}
    other: GenerateOptions = {**one, "seed": 2}
    same(speak(model, **one).audio, speak(model, **other).audio, "audio of another seed")


def check_cancelling(model: Model) -> None:
    """A cancelled stream ends within a frame and keeps what is complete; the next request is not disturbed."""
    cancel, seed = threading.Event(), talkative(model)
    whole = speak(model, seed=seed, max_tokens=16).audio
    chunks = []
    for chunk in model.generate(TEXT, seed=seed, max_tokens=4000, stream=True, cancel=cancel):
        chunks.append(chunk)
        cancel.set()
    reasons = [chunk.finish_reason for chunk in chunks]
    require(reasons == [None, "cancelled"], f"the chunks of a cancelled stream have the finish reasons {reasons}.")
    require(chunks[1].token_count <= 1, f"{chunks[1].token_count} frames came after the stream was cancelled.")
    joined = np.concatenate([chunk.audio for chunk in chunks])
    close(joined, whole[: len(joined)], "audio before the end")
    same(speak(model, seed=seed, max_tokens=16).audio, whole, "audio of the next request")


MODEL_LAWS: list[Callable[[Model], None]] = [
    check_stream,
    check_side_by_side,
    check_seeds,
    check_temperature_0,
    check_cancelling,
]

# --------------------------------------------------------------------------------------------------- of products


def check_quantised_products() -> None:
    """Products with quantised weights are those with the numbers that the weights stand for."""
    for scales in TYPES:
        # A CPU computes in float32 whatever the type of the scales is.
        dtype = mx.float32 if on_cpu() else scales
        for bits in (2, 3, 4, 5, 6, 8):
            weight, *rest = mx.quantize(_random(96, 256).astype(scales), 64, bits)
            numbers = mx.dequantize(weight, rest[0].astype(mx.float32), rest[1].astype(mx.float32), 64, bits)
            for rows in (1, 3, 40):
                x = _random(rows, 256).astype(dtype)
                made = mx.quantized_matmul(x, weight, rest[0], rest[1], group_size=64, bits=bits)
                _close_products(made, x, numbers, f"{rows} rows times {bits}-bit weights, scales in {scales}")


def check_products() -> None:
    """Products with float32 and bfloat16 weights are those that numpy computes in float64."""
    for dtype in TYPES:
        weight = _random(96, 256).astype(dtype)
        for rows in (1, 3, 40):
            x = _random(rows, 256).astype(dtype)
            _close_products(x @ weight.T, x, weight, f"{rows} rows times {dtype} weights")


def _random(*shape: int) -> mx.array:
    return mx.array(np.random.default_rng(shape[0]).standard_normal(shape, np.float32))


def _close_products(made: mx.array, x: mx.array, weight: mx.array, name: str) -> None:
    wide = [np.array(part.astype(mx.float32)).astype(np.float64) for part in (x, weight)]
    wanted = wide[0] @ wide[1].T
    close(made.astype(mx.float32), wanted, name, TYPES[made.dtype] * float(np.abs(wanted).max()))


PRODUCT_LAWS: list[Callable[[], None]] = [check_products, check_quantised_products]
