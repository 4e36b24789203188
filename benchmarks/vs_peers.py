"""Our decode loop beside mlx-audio's: same random weights, same prompt, greedy, the same OpenBLAS for both.

    python benchmarks/vs_peers.py [--quick] [--peer-python PATH]

The peer runs in a process of its own, in the environment of --peer-python (or MOSS_TTS_PEER_PYTHON); without one, a
virtual environment with mlx-audio is made in the user's cache directory. Tokens are compared before anything is
timed. Both sides then take turns, so that whatever else the machine does hits both alike.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

# isort: off
import synthetic
import common

# isort: on
import mlx.core as mx
import numpy as np

from moss_tts.architectures import Architecture

PEER = "mlx-audio==0.6.2"
PEER_PACKAGES = (PEER, "mlx[cpu]", "ngsolve-openblas==0.3.33.post1")
HERE = Path(__file__).parent
SIDE_BY_SIDE = 8
COLUMNS = (
    "case",
    "peer ms/frame",
    "ours ms/frame",
    "b1: ours / peer",
    f"ours frames/s at {SIDE_BY_SIDE}",
    "b8",
    "equal",
)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Compare, print a table and a line of JSON."""
    options = parsed(arguments)
    python = options.peer_python or os.environ.get("MOSS_TTS_PEER_PYTHON") or peer_environment()
    results: dict[str, Any] = {"tokens_equal": True}
    table = []
    for size in ["small"] if options.quick else options.size:
        for name in [synthetic.RELEASED[size]] if size in synthetic.RELEASED else options.architecture:
            case = compared(name, synthetic.SIZES[size], str(python), options)
            ratios = {"b1": case["b1"], "b8": case["b8"]}
            # Nano is a size and an architecture: {"nano": {"b1": ..., "b8": ...}}.
            results |= {size: ratios} if size == name else {size: results.get(size, {}) | {name: ratios}}
            results["tokens_equal"] &= case["equal"]
            table.append([f"{size}/{name}", *case.values()])
    common.print_table(f"{PEER}, CPU threads {os.cpu_count()}, {options.rounds} rounds", COLUMNS, table)
    common.print_last_line(results)
    return results


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the small size alone")
    parser.add_argument("--size", nargs="+", default=["small", "wide", "nano"], choices=synthetic.SIZES)
    names = synthetic.ARCHITECTURE_NAMES
    parser.add_argument("--architecture", nargs="+", default=names[:-1], choices=names, help="of sizes not released")
    parser.add_argument("--peer-python", help=f"interpreter that has {PEER}")
    parser.add_argument("--frames", type=int, default=10, help="frames per turn")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each side")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(arguments)


def peer_environment() -> Path:
    """An environment with the peer, made at the first run."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "moss_tts"
    directory = cache / PEER.replace("==", "-")
    python = directory / "bin" / "python"
    if not (directory / "complete").exists():
        venv.create(directory, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PEER_PACKAGES], check=True)
        (directory / "complete").touch()
    return python


class Peer:
    """The peer's process."""

    def __init__(self, python: str, checkpoint: Path) -> None:
        command = [python, str(HERE / "peer_mlx_audio.py"), str(checkpoint)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.blas = self._line()["blas"]

    def generate(self, prompt: np.ndarray, frames: int) -> dict[str, Any]:
        """Rows behind the prompt (T, 1 + Q) and the seconds of each frame."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"prompt": prompt.tolist(), "frames": frames}) + "\n")
        self._process.stdin.flush()
        return self._line()

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"the peer's process ended with {self._process.wait()}; its messages are above.")
        return json.loads(line)

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)


def compared(name: str, size: synthetic.Size, python: str, options: argparse.Namespace) -> dict[str, Any]:
    """One architecture at one size."""
    raw = synthetic.raw_config(name, size)
    weights = synthetic.speech_weights(raw, options.seed)
    with tempfile.TemporaryDirectory() as directory:
        write_checkpoint(Path(directory), raw, weights)
        architecture = synthetic.architecture_of(raw, weights)
        del weights
        peer = Peer(python, Path(directory))
        try:
            return in_turns(architecture, peer, options)
        finally:
            peer.close()


def write_checkpoint(directory: Path, raw: synthetic.Raw, weights: synthetic.Weights) -> None:
    """A checkpoint in upstream's layout, with what the peer wants beside it: copies of tied weights, and Local v1.0's
    embedding that nobody uses."""
    if "local_num_layers" in raw:
        shape = weights["model.embedding_list.0.weight"].shape
        weights = weights | {synthetic.UNUSED_EMBEDDING: mx.zeros(shape)}
    if "gpt2_config" in raw:
        embeddings = {f"audio_lm_heads.{q}.weight": f"audio_embeddings.{q}.weight" for q in range(raw["n_vq"])}
        text = ("transformer.embed_tokens.weight", "transformer.wte.weight")
        embeddings["text_lm_head.weight"] = next(name for name in text if name in weights)
        weights = weights | {head: weights[embedding] for head, embedding in embeddings.items()}
    (directory / "config.json").write_text(json.dumps(raw))
    mx.save_safetensors(str(directory / "model.safetensors"), weights)


def in_turns(architecture: Architecture[Any, Any], peer: Peer, options: argparse.Namespace) -> dict[str, Any]:
    """Compare tokens, then time both sides by turns; medians of all frames of all rounds."""
    prompt = synthetic.prompt_rows(architecture.config, seed=options.seed)
    equal = same_tokens(architecture, peer, prompt, options.frames)
    theirs: list[float] = []
    ours: list[float] = []
    together: list[float] = []
    for _ in range(options.rounds):
        theirs += peer.generate(prompt, options.frames)["seconds"]
        ours += common.timed_run(architecture, prompt, 1, options.frames).frames
        together += common.timed_run(architecture, prompt, SIDE_BY_SIDE, options.frames).frames
    peer_frame, frame = statistics.median(theirs), statistics.median(ours)
    per_second = SIDE_BY_SIDE / statistics.median(together)
    return {
        "peer_ms": 1e3 * peer_frame,
        "ours_ms": 1e3 * frame,
        "b1": frame / peer_frame,
        "frames_per_second": per_second,
        "b8": per_second * peer_frame,
        "equal": equal,
    }


def same_tokens(architecture: Architecture[Any, Any], peer: Peer, prompt: np.ndarray, frames: int) -> bool:
    """Whether the peer's rows are ours, alone and side by side; warms both up."""
    theirs = np.array(peer.generate(prompt, frames)["rows"])[:, None]
    alone = common.timed_run(architecture, prompt, 1, frames).rows
    together = common.timed_run(architecture, prompt, SIDE_BY_SIDE, frames).rows
    return bool((theirs == alone).all() and (theirs == together).all())


if __name__ == "__main__":
    main()
