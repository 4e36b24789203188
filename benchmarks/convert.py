"""Converting a checkpoint of a released one's shapes, loading the copy and making frames: seconds and memory of each.

    python benchmarks/convert.py --work DIR [--size local_1_7b] [--architecture local] [--recipe mixed_4_8 | --bits 4]
    python benchmarks/convert.py --sizes    # bytes of every released checkpoint at every precision, from shapes alone

Weights are random, in bfloat16, and written a shard at a time; every step runs in a process of its own. The figures
are of memory: what a frame takes on a CPU says nothing of a GPU. DIR needs room for both checkpoints.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

# isort: off
import synthetic
import common

# isort: on
import mlx.core as mx
import numpy as np
from resident import peak_resident

from moss_tts.architectures import ARCHITECTURES
from moss_tts.checkpoints.convert import convert
from moss_tts.checkpoints.footprint import WAYS, model_footprint, smaller
from moss_tts.checkpoints.loading import CheckpointSource, load_architecture, load_config
from moss_tts.checkpoints.plan import plan
from moss_tts.config import LocalConfig, parse_config
from moss_tts.request import FRAME_RATE
from moss_tts.rows import run
from moss_tts.weights.layout import Shapes, read_weights
from moss_tts.weights.quantisation import recipe_of
from moss_tts.weights.shards import check_sums

SHARD_VALUES = 5 * 10**8


def main(arguments: list[str] | None = None) -> int:
    """All steps, or the one that is named."""
    given = parsed(arguments)
    if given.sizes:
        return print_sizes()
    if given.step is not None:
        print(json.dumps({given.step: STEPS[given.step](given) | {"resident_gb": peak_resident() / 1e9}}))
        return 0
    given.work.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {}
    for step in STEPS:
        results |= in_fresh_process(step, sys.argv[1:] if arguments is None else arguments)
        print(step, results[step], flush=True)
    common.print_last_line(results)
    return 0


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, metavar="DIR", help="where the checkpoints go; they stay")
    parser.add_argument("--size", default="local_1_7b", choices=synthetic.SIZES)
    parser.add_argument("--architecture", default="local", choices=synthetic.ARCHITECTURE_NAMES)
    parser.add_argument("--recipe", help="one of convert's mixed recipes")
    parser.add_argument("--bits", type=int, help="4 by default")
    parser.add_argument("--group-size", type=int)
    parser.add_argument("--dtype", default="bfloat16", help="to compute in")
    parser.add_argument("--frames", type=int, default=20, help="0 loads only")
    parser.add_argument("--sizes", action="store_true")
    parser.add_argument("--step", choices=STEPS)
    return parser.parse_args(arguments)


def in_fresh_process(step: str, arguments: list[str]) -> dict[str, Any]:
    """One step, whose memory is its own."""
    finished = subprocess.run(
        [sys.executable, __file__, *arguments, "--step", step], capture_output=True, text=True, check=False
    )
    if finished.returncode:
        raise SystemExit(finished.stderr)
    measured: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return measured


# ----------------------------------------------------------------------------------------------------- steps


def write(given: argparse.Namespace) -> dict[str, float]:
    """The source: random weights under upstream's names."""
    start, directory = time.perf_counter(), given.work / "source"
    directory.mkdir(exist_ok=True)
    raw = synthetic.raw_config(given.architecture, synthetic.SIZES[given.size]) | {"dtype": "bfloat16"}
    shapes = upstream_shapes(raw)
    special = speaking_weights(raw, shapes)
    for number, names in enumerate(shards(shapes)):
        weights = {name: special[name] if name in special else random_weight(name, shapes[name]) for name in names}
        weights = {name: weight.astype(mx.bfloat16) for name, weight in weights.items()}
        mx.save_safetensors(str(directory / f"model-{number:05d}.safetensors"), weights)
        del weights
        mx.clear_cache()
    (directory / "config.json").write_text(json.dumps(raw))
    values = sum(int(np.prod(shape)) for shape in shapes.values())
    return {"parameters": values, "gb": 2 * values / 1e9, "seconds": time.perf_counter() - start}


def upstream_shapes(raw: dict[str, Any]) -> Shapes:
    """Names and shapes of what upstream stores."""
    config = parse_config(raw)
    kind = ARCHITECTURES[type(config)]
    return kind.layout.upstream_shapes(kind.network_class(config), config.n_vq)


def speaking_weights(raw: dict[str, Any], shapes: Shapes) -> dict[str, mx.array]:
    """Those that make a Local model go on speaking."""
    config = parse_config(raw)
    if not isinstance(config, LocalConfig):
        return {}
    ways = [f"local_to_speech_embedding_mlps.0.{part}_proj.weight" for part in ("gate", "up", "down")]
    special = {name: random_weight(name, shapes[name]) for name in (*ways, "lm_heads.0.weight")}
    synthetic._prefer_gen_slot(special, config)
    return special


def random_weight(name: str, shape: tuple[int, ...]) -> mx.array:
    """The same for the same name."""
    return synthetic._random({name: shape}, seed=sum(name.encode()))[name]


def shards(shapes: Shapes) -> Iterator[list[str]]:
    """Names in order, some GB of values together."""
    names: list[str] = []
    values = 0
    for name, shape in shapes.items():
        if values + np.prod(shape) > SHARD_VALUES and names:
            yield names
            names, values = [], 0
        names.append(name)
        values += int(np.prod(shape))
    yield names


def quantise(given: argparse.Namespace) -> dict[str, float]:
    """The conversion, as the command does it."""
    start, source = time.perf_counter(), given.work / "source"
    recipe = recipe_of(given.recipe, given.bits, given.group_size)
    planned = plan(source, load_config(source), recipe)
    mx.reset_peak_memory()
    convert(CheckpointSource(str(source), source, from_hub=False), given.work / "quantised", planned)
    return {
        "gb": planned.nbytes / 1e9,
        "bits_per_weight": planned.bits_per_weight,
        "seconds": time.perf_counter() - start,
        "mlx_peak_gb": mx.get_peak_memory() / 1e9,
    }


def speak(given: argparse.Namespace) -> dict[str, float]:
    """The copy, checked, loaded, and run."""
    start, directory = time.perf_counter(), given.work / "quantised"
    check_sums(directory)
    checked = time.perf_counter()
    config = load_config(directory)
    mx.reset_peak_memory()
    architecture = load_architecture(directory, config, read_weights(directory), given.dtype)
    loaded, weights, peak = time.perf_counter(), mx.get_active_memory(), mx.get_peak_memory()
    mx.reset_peak_memory()
    loading = {
        "sums_seconds": checked - start,
        "load_seconds": loaded - checked,
        "weights_gb": weights / 1e9,
        "foretold_gb": model_footprint(directory, config, given.dtype)[1] / 1e9,
        "loading_peak_gb": peak / 1e9,
        "loading_peak_of_weights": peak / weights,
    }
    if not given.frames:
        return loading
    prompt = synthetic.prompt_rows(config, text_rows=8, frames=4)
    rows = np.stack(list(islice(run(common.new_batch(architecture, prompt, 1)), given.frames)))
    spoken = time.perf_counter() - loaded
    return loading | {
        "frames": len(rows),
        "different_frames": len(np.unique(rows[:, 0, 1:], axis=0)),
        "seconds_of_frames": spoken,
        "times_real_time": len(rows) / FRAME_RATE / spoken,
        "speaking_peak_gb": mx.get_peak_memory() / 1e9,
    }


STEPS = {"write": write, "quantise": quantise, "speak": speak}


# ----------------------------------------------------------------------------------------------------- sizes


def print_sizes() -> int:
    """A row for each released checkpoint: GB of its weights in memory, bfloat16 where not quantised."""
    results = {}
    with tempfile.TemporaryDirectory() as root:
        for size, architecture in synthetic.RELEASED.items():
            directory = hollow_checkpoint(Path(root) / size, synthetic.raw_config(architecture, synthetic.SIZES[size]))
            config = load_config(directory)
            sizes = {"bfloat16": model_footprint(directory, config, "bfloat16")[1]}
            results[size] = sizes | smaller(directory, config, mx.bfloat16)
    rows = [[size, *[f"{value / 1e9:.2f}" for value in sizes.values()]] for size, sizes in results.items()]
    common.print_table("GB of weights", ["checkpoint", "bfloat16", *WAYS], rows)
    common.print_last_line(results)
    return 0


def hollow_checkpoint(directory: Path, raw: dict[str, Any]) -> Path:
    """A checkpoint of the right size whose weights are a hole in the disk: all that is read is its header."""
    directory.mkdir()
    header, end = {}, 0
    for name, shape in upstream_shapes(raw).items():
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    content = json.dumps(header).encode()
    with (directory / "model.safetensors").open("wb") as file:
        file.write(len(content).to_bytes(8, "little") + content)
        file.truncate(8 + len(content) + end)
    (directory / "config.json").write_text(json.dumps(raw))
    return directory


if __name__ == "__main__":
    raise SystemExit(main())
