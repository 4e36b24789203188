"""What tying segments costs: rows of prompt and time per segment of a long text, for each way to carry the voice.

    python benchmarks/continuity.py [--checkpoint DIR]

Without a checkpoint the tiny ones of `moss-tts demo-checkpoint` are used: costs have their true shape there, voices
do not. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

SENTENCES = 24
SENTENCE = "It was a bright cold day in April, and the clocks were striking thirteen."
BUDGETS = {"long_form_min_chars": 60, "long_form_target_chars": 140, "long_form_max_chars": 160}
FRAMES_PER_SEGMENT = 100
NO_PREFIX = {"long_form_prefix_audio_seconds": 0.0, "long_form_prefix_audio_max_tokens": 0}
WAYS: dict[str, dict[str, Any]] = {
    "voice": {},
    "voice, no prefix": NO_PREFIX,
    "voice, no prefix, 8 at a time": {**NO_PREFIX, "long_form_parallel": 8},
    "continue": {"long_form_continuity": "continue"},
}


def main() -> None:
    """Print a row for each architecture and way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path)
    given = parser.parse_args().checkpoint
    with tempfile.TemporaryDirectory() as root:
        checkpoints = {given.name: given} if given else demo_checkpoints(Path(root))
        measured = {name: measure(directory) for name, directory in checkpoints.items()}
    print(f"{'':12} {'':30} {'prompt rows':>11} {'s / segment':>11} {'x real time':>11}")
    for name, ways in measured.items():
        for way, row in ways.items():
            print(
                f"{name:12} {way:30} {row['prompt_rows']:11.0f} {row['seconds']:11.2f} {row['real_time_factor']:11.2f}"
            )
    print(json.dumps(measured))


def demo_checkpoints(root: Path) -> dict[str, Path]:
    """A tiny checkpoint of Delay and one of Local."""
    from moss_tts.checkpoints.demo import write_demo_checkpoint

    return {kind: write_demo_checkpoint(root / kind, kind) for kind in ("delay", "local")}


def measure(directory: Path) -> dict[str, dict[str, float]]:
    """Means over the segments but the first, which nothing conditions."""
    import moss_tts

    model = moss_tts.load(directory)
    speak(model, {})  # warm
    return {way: speak(model, options) for way, options in WAYS.items()}


def speak(model: Any, options: dict[str, Any]) -> dict[str, float]:
    """One reading of the text."""
    chunks = model.generate(
        " ".join([SENTENCE] * SENTENCES),
        seed=1,
        stream=True,
        long_form=True,
        max_tokens=FRAMES_PER_SEGMENT,
        text_temperature=0.0,
        runaway_guard=False,
        **BUDGETS,
        **options,
    )
    rows: dict[int, int] = {}
    spoken, seconds = 0.0, 0.0
    for chunk in chunks:
        rows[chunk.segment_idx] = chunk.prompt["tokens"]
        spoken += chunk.samples / chunk.sample_rate
        seconds += chunk.processing_time_seconds
    later = [count for index, count in rows.items() if index]
    return {
        "segments": len(rows),
        "prompt_rows": round(statistics.mean(later), 1),
        "seconds": round(seconds / len(rows), 3),
        "real_time_factor": round(spoken / seconds, 2),
    }


if __name__ == "__main__":
    main()
