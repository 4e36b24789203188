"""Speak with one model over several processes, for networks that no machine has the memory for.

    mlx.launch -n 2 --backend ring python deploy/tensor_parallel/speak.py --model DIR --output hello.wav "Hello there."
    mlx.launch --hostfile hosts.json python deploy/tensor_parallel/speak.py ...   # over machines: docs/scaling.md

Every process runs this; the first one writes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import moss_tts  # before mlx: it brings the fast BLAS

import mlx.core as mx  # isort: skip
from moss_tts.device.memory import size
from moss_tts.tensor_parallel import load_part


def main() -> None:
    """Speak a text into a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text")
    parser.add_argument("--model", required=True)
    parser.add_argument("--output", type=Path, default=Path("speech.wav"))
    parser.add_argument("--seed", type=int, default=0, help="the same in all processes")
    parser.add_argument("--max-tokens", type=int, help="frames of 80 ms")
    given = parser.parse_args()
    group = mx.distributed.init(strict=True)
    model = load_part(given.model, group)
    result = next(model.generate(given.text, seed=given.seed, max_tokens=given.max_tokens))
    if group.rank() == 0:
        moss_tts.write_audio(given.output, result.audio, result.sample_rate)
        memory = size(1e9 * result.peak_memory_usage)
        print(f"{given.output}: {result.audio_duration}, {group.size()} processes, {memory} each")


if __name__ == "__main__":
    main()
