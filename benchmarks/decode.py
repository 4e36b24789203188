"""The decode loop without a codec: prefill, time per frame, first audio, and how far from the floor of the memory.

    python benchmarks/decode.py [--size small wide] [--architecture delay local] [--batch 1 4 8 16] [--frames 30]

Weights are random, by seed. The floor is the time that reading a frame's weights once takes at the bandwidth that
the machine shows in the same run; "floor" is the floor over the time measured, 1 at best.

--bits 8 4 adds copies in 8 and in 4 bit, as `convert -q` makes them of bfloat16 weights, beside float32.

With --adapters 64,16,16 each case is also measured with adapters of these ranks beside every linear layer and head,
in turns with the same requests without; "adapted" is the time per frame over that without.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

# isort: off
import synthetic
import common

# isort: on
import numpy as np

from moss_tts.adapters.low_rank import Wanted
from moss_tts.architectures import Architecture
from moss_tts.codec import MossAudioTokenizer
from moss_tts.device.bandwidth import read_bandwidth
from moss_tts.rows import RowRequest
from moss_tts.sampling import Sampling
from moss_tts.speaking.engine import ChunkSizes, SpeechEngine, SpeechJob
from moss_tts.weights.quantisation import AFFINE_BITS

TURNS = 5
COLUMNS = (
    "case",
    "prefill ms",
    "ms/frame",
    "frames/s",
    "first audio ms",
    "primitives",
    "syncs",
    "GB/frame",
    "floor",
    "adapted",
)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Run the cases, print a table and a line of JSON."""
    options = parsed(arguments)
    bandwidth = read_bandwidth(options.probe_megabytes)
    results: dict[str, Any] = {}
    for size in options.size:
        for name in options.architecture:
            raw = synthetic.raw_config(name, synthetic.SIZES[size])
            architecture = synthetic.architecture_of(raw, synthetic.speech_weights(raw, options.seed))
            first = first_audio(architecture, synthetic.prompt_rows(architecture.config, seed=options.seed))
            cases = {
                f"{size}/{name}/{count}": measured(architecture, count, options, max(bandwidth.values()))
                | {"first_audio_ms": first, "bits": {}}
                for count in options.batch
            }
            if options.adapters:
                wanted = synthetic.add_adapters(architecture, options.adapters)
                for count in options.batch:
                    cases[f"{size}/{name}/{count}"] |= with_adapters(architecture, wanted, count, options)
            del architecture
            for bits in options.bits:
                add_bits(cases, bits, raw, options, max(bandwidth.values()))
            results |= cases
    report(results, bandwidth)
    return results


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", nargs="+", default=["small", "wide"], choices=synthetic.SIZES)
    parser.add_argument("--architecture", nargs="+", default=["delay", "local"], choices=synthetic.ARCHITECTURE_NAMES)
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 4, 8, 16])
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--adapters", type=ranks, default=[], help="ranks of adapters, such as 64,16,16")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bits", nargs="+", type=int, default=[], choices=AFFINE_BITS, help="quantised copies as well")
    parser.add_argument("--sampled", action="store_true", help="sample the codes instead of taking the best")
    parser.add_argument("--probe-megabytes", type=int, default=512, help="size of the bandwidth probe")
    return parser.parse_args(arguments)


def ranks(given: str) -> list[int]:
    """The ranks of an option."""
    return [int(rank) for rank in given.split(",")]


def with_adapters(
    architecture: Architecture[Any, Any], wanted: Wanted, count: int, options: argparse.Namespace
) -> dict[str, Any]:
    """One case without adapters and with them, in turns; medians of the turns, but for the first."""
    audio = common.SAMPLED if options.sampled else common.GREEDY
    prompt = synthetic.prompt_rows(architecture.config, seed=options.seed)

    def seconds(adapters: Wanted) -> float:
        steps = 1 + options.frames
        return common.timed_run(architecture, prompt, count, steps, audio=audio, adapters=adapters).median

    turns = [(seconds(()), seconds(wanted)) for _ in range(1 + TURNS)][1:]
    return {
        "adapters": options.adapters,
        "ms_per_frame_without": 1e3 * statistics.median(without for without, _ in turns),
        "ms_per_frame_adapted": 1e3 * statistics.median(adapted for _, adapted in turns),
        "adapted": statistics.median(adapted / without for without, adapted in turns),
    }


def measured(
    architecture: Architecture[Any, Any], count: int, options: argparse.Namespace, bandwidth: float
) -> dict[str, float]:
    """One case: `count` requests side by side."""
    audio = common.SAMPLED if options.sampled else common.GREEDY
    prompt = synthetic.prompt_rows(architecture.config, seed=options.seed)
    common.timed_run(architecture, prompt, count, 3, audio=audio)
    run = common.timed_run(architecture, prompt, count, options.frames, audio=audio)
    batch = common.new_batch(architecture, prompt, count, audio)
    batch.step()
    weights = architecture.bytes_per_frame()
    return {
        "prefill_ms": 1e3 * run.prefill,
        "ms_per_frame": 1e3 * run.median,
        "frames_per_second": count / run.median,
        "primitives_per_frame": common.primitives_of_step(batch),
        "syncs_per_frame": common.syncs_per_frame(batch),
        "gigabytes_per_frame": weights / 1e9,
        "floor_fraction": weights / bandwidth / run.median,
    }


def add_bits(
    cases: dict[str, Any], bits: int, raw: synthetic.Raw, options: argparse.Namespace, bandwidth: float
) -> None:
    """Measure a quantised copy in each case, and compare it with the case itself."""
    copy = synthetic.quantised(raw, synthetic.speech_weights(raw, options.seed), bits)
    architecture = synthetic.architecture_of(*copy)
    del copy
    for (name, case), count in zip(cases.items(), options.batch, strict=True):
        made = measured(architecture, count, options, bandwidth)
        case["bits"][str(bits)] = {
            "ms": made["ms_per_frame"],
            "floor_fraction": made["floor_fraction"],
            "vs_float32": made["ms_per_frame"] / case["ms_per_frame"],
            "gigabytes_per_frame": made["gigabytes_per_frame"],
            "prefill_ms": made["prefill_ms"],
            "prefill_vs_float32": made["prefill_ms"] / case["prefill_ms"],
        }
        print(name, bits, {key: round(value, 3) for key, value in case["bits"][str(bits)].items()}, flush=True)


def first_audio(architecture: Architecture[Any, Any], prompt: np.ndarray) -> float:
    """Milliseconds from a request to its first chunk, with a codec of a sixteenth of the layers."""
    config = architecture.config
    raw = synthetic.codec_raw_config(scale=16, n_vq=config.n_vq, codebook=config.audio_vocab_size)
    codec = synthetic.codec_of(raw, synthetic.codec_weights(raw))
    _speak_first(architecture, codec, prompt)
    return 1e3 * _speak_first(architecture, codec, prompt)


def _speak_first(architecture: Architecture[Any, Any], codec: MossAudioTokenizer, prompt: np.ndarray) -> float:
    request = RowRequest(Sampling(common.GREEDY, common.GREEDY), seed=0, max_frames=1000)
    engine = SpeechEngine(architecture, lambda: codec)
    start = time.perf_counter()
    voice = engine.submit(
        SpeechJob(prompt, request, architecture.config.n_vq, ChunkSizes(architecture.first_chunks, later=8))
    )
    while not engine.step():
        pass
    seconds = time.perf_counter() - start
    engine.drop(voice)
    return seconds


def report(results: dict[str, Any], bandwidth: dict[str, float]) -> None:
    """Table and last line."""
    keys = ("prefill_ms", "ms_per_frame", "frames_per_second", "first_audio_ms", "primitives_per_frame")
    keys += ("syncs_per_frame", "gigabytes_per_frame", "floor_fraction")
    reads = ", ".join(f"{name} {value / 1e9:.1f} GB/s" for name, value in bandwidth.items())
    rows = [[name, *[case[key] for key in keys], case.get("adapted", "")] for name, case in results.items()]
    common.print_table(f"Decode; memory reads: {reads}", COLUMNS, rows)
    common.print_last_line(results | {"bandwidth_gb_s": {name: value / 1e9 for name, value in bandwidth.items()}})


if __name__ == "__main__":
    main()
