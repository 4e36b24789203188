"""Does memory stay flat? Streams one minute of audio and sixty, each in a fresh process, and compares the peaks.

    python benchmarks/memory.py            1 minute against 60
    python benchmarks/memory.py --quick    1 minute against 6

The checkpoint is the tiny one of `moss-tts demo-checkpoint`: what grows with the length of a text grows with it,
too, and less is hidden behind the weights. The last line is JSON; exit code 1 if the ratio is above 1.10.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from resident import peak_resident

MAX_RATIO = 1.10
# About as many characters a second as people read, for the segments below.
SEGMENT_CHARS = {"long_form_min_chars": 20, "long_form_target_chars": 40, "long_form_max_chars": 60}
# Segments that are spoken side by side must not be tied to each other.
UNTIED = {"long_form_prefix_audio_seconds": 0.0, "long_form_prefix_audio_max_tokens": 0}
# 5 s each: a minute has enough of them to be spoken side by side as an hour's are. Greedy in the text channel, the
# demo checkpoint never ends by itself, so that the longest segment of an hour is as long as that of a minute.
FRAMES_PER_SEGMENT = 62
SECONDS_PER_SEGMENT = 4.96
SENTENCE = "It was a bright cold day in April."


def main() -> int:
    """Run the comparison, or with --minutes the measurement of one process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="6 minutes instead of 60")
    parser.add_argument("--parallel", type=int, default=8, help="segments spoken at the same time")
    parser.add_argument("--minutes", type=float, help="measure this process only, speaking so much")
    parser.add_argument("--checkpoint", type=Path, help="for --minutes")
    arguments = parser.parse_args()
    if arguments.minutes is not None:
        print(json.dumps(measure(arguments.checkpoint, arguments.minutes, arguments.parallel)))
        return 0
    return compare(6 if arguments.quick else 60, arguments.parallel)


def compare(minutes: int, parallel: int) -> int:
    """Print the peaks of one minute and of many; 1 if they are too far apart."""
    from moss_tts.checkpoints.demo import write_demo_checkpoint

    with tempfile.TemporaryDirectory() as root:
        checkpoint = write_demo_checkpoint(Path(root) / "demo")
        short, long = (_in_fresh_process(checkpoint, length, parallel) for length in (1, minutes))
    for row in (short, long):
        print(
            f"{row['audio_seconds']:7.1f} s of audio in {row['seconds']:6.1f} s: "
            f"resident {row['resident_mb']:6.1f} MB, mlx {row['mlx_mb']:5.1f} MB"
        )
    ratio = long["resident_mb"] / short["resident_mb"]
    peaks = {"peak_1min_mb": short["resident_mb"], f"peak_{minutes}min_mb": long["resident_mb"]}
    print(json.dumps({**peaks, "ratio": round(ratio, 3)}))
    return int(ratio > MAX_RATIO)


def _in_fresh_process(checkpoint: Path, minutes: float, parallel: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--minutes", str(minutes), "--checkpoint", str(checkpoint)]
    finished = subprocess.run([*command, "--parallel", str(parallel)], capture_output=True, text=True, check=False)
    if finished.returncode:
        raise SystemExit(finished.stderr)
    measured: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return measured


def measure(checkpoint: Path, minutes: float, parallel: int) -> dict[str, float]:
    """Stream so many minutes here; what it took."""
    import moss_tts

    # isort: split
    import mlx.core as mx

    model = moss_tts.load(checkpoint)
    sentences = math.ceil(1.5 * minutes * 60 / SECONDS_PER_SEGMENT)
    started, spoken, mlx_peak = time.perf_counter(), 0.0, 0
    results = model.generate(
        " ".join([SENTENCE] * sentences),
        seed=1,
        stream=True,
        long_form=True,
        max_tokens=FRAMES_PER_SEGMENT,
        text_temperature=0.0,
        long_form_parallel=parallel,
        **SEGMENT_CHARS,
        **UNTIED,
    )
    for result in results:
        spoken += result.samples / result.sample_rate
        mlx_peak = max(mlx_peak, mx.get_peak_memory())
        if spoken >= minutes * 60:
            break
    assert spoken >= minutes * 60, f"the text was too short: {spoken:.0f} s"
    return {
        "audio_seconds": round(spoken, 1),
        "seconds": round(time.perf_counter() - started, 1),
        "resident_mb": round(peak_resident() / 1e6, 1),
        "mlx_mb": round(mlx_peak / 1e6, 1),
    }


if __name__ == "__main__":
    raise SystemExit(main())
