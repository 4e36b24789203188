"""How far quantised copies of a checkpoint drift from it: both read the same rows, and their logits are compared.

    python evals/drift.py                                    # the packaged voice, every recipe
    python evals/drift.py --model DIR --recipe 8 mixed_4_8 4 --copies FOLDER
    python evals/drift.py --model tests/golden/local_v1_5 --group-size 32

The rows are what the checkpoint itself said with a seed; of a golden, which has no tokenizer, what it says to the
golden's prompts. Top 25: how many of the 25 likeliest choices of a channel are among the copy's 25 (of a codebook of
fewer than 100 codes, a quarter of them). 4_calibrated is 4 with convert's --calibrate. --copies keeps the copies, for
speech.py to listen to. Ends with a line of JSON, which also has the noise of the codec's smaller decoders.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

# isort: off
import moss_tts

# isort: on
import mlx.core as mx
import numpy as np
from rich.console import Console
from rich.table import Table

from moss_tts.architectures import Architecture
from moss_tts.checkpoints.calibration import OPTIONS, Calibration, read_requests, spoken
from moss_tts.checkpoints.convert import convert
from moss_tts.checkpoints.loading import (
    CODEC_DIRECTORIES,
    CheckpointSource,
    find_checkpoint,
    load_architecture,
    load_config,
)
from moss_tts.checkpoints.packaged import packaged_voice
from moss_tts.checkpoints.plan import Plan, plan
from moss_tts.codec.precision import DECODERS
from moss_tts.rows import RowRequest
from moss_tts.sampling import ChannelSampling, Sampling
from moss_tts.weights.layout import read_weights
from moss_tts.weights.quantisation import MIXED, MODES, Recipe, recipe_of

HELD_OUT = Path(__file__).parents[1] / "recipes" / "tiny_voice" / "held_out.txt"
TEXTS = Path(__file__).with_name("calibration.txt")
SENTENCES = 5
TOP = 25
GOLDEN = "golden.safetensors"
BITS = ("8", "6", "5", "4", "3")
PLAIN = ("bfloat16", *BITS, *reversed(MIXED), *(mode for mode in MODES if mode != "affine"))
CALIBRATED = tuple(f"{name}_calibrated" for name in ("5", "4", "3", "mixed_4_6"))
RECIPES = (*PLAIN, *CALIBRATED)

# What a network says of rows that were made: text (N, V) and audio (N, Q, codes) logits.
Logits = tuple[np.ndarray, np.ndarray]
# A prompt (T, 1 + Q) and the rows (N, 1 + Q) that follow it.
Said = tuple[np.ndarray, np.ndarray]


def main(arguments: Sequence[str] | None = None) -> int:
    given = parsed(arguments)
    source = find_checkpoint(given.model or packaged_voice())
    architecture = network_of(source.directory)
    said = list(sayings(source.directory, architecture, given))
    exact = [architecture.teacher_forced_logits(*each) for each in said]
    names = given.recipe or (PLAIN if (source.directory / GOLDEN).is_file() else RECIPES)
    results = []
    with tempfile.TemporaryDirectory() as scratch:
        for name in names:
            folder = (given.copies or Path(scratch)) / name
            planned = copied(source, folder, name, given)
            copy = network_of(folder)
            drift = compared(exact, [copy.teacher_forced_logits(*each) for each in said])
            results.append({"recipe": name, "mb": planned.nbytes / 1e6, "bits": planned.bits_per_weight, **drift})
    Console().print(as_table(source.directory.name, results))
    rows = sum(len(made) for _, made in said)
    codec = {} if (source.directory / GOLDEN).is_file() else codec_noise(source.directory, given)
    print(json.dumps({"checkpoint": source.directory.name, "rows": rows, "recipes": results, "codec_db": codec}))
    return 0


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", metavar="DIR|HUB_ID", help="unquantised; the packaged voice by default")
    parser.add_argument("--recipe", nargs="+", choices=RECIPES, metavar="NAME", help="all by default")
    parser.add_argument("--group-size", type=int, help="weights that share a scale; 64 by default")
    parser.add_argument("--calibration", type=Path, default=TEXTS, metavar="FILE", help="what calibrated ones hear")
    parser.add_argument("--sentences", type=Path, default=HELD_OUT, metavar="FILE", help="one a line")
    parser.add_argument("--limit", type=int, default=SENTENCES, metavar="N", help="so many of them")
    parser.add_argument("--frames", type=int, default=100, metavar="N", help="of each, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--copies", type=Path, metavar="FOLDER", help="keep the copies there")
    return parser.parse_args(arguments)


def network_of(directory: Path) -> Architecture[Any, Any]:
    return load_architecture(directory, load_config(directory), read_weights(directory), "float32")


def copied(source: CheckpointSource, folder: Path, name: str, given: argparse.Namespace) -> Plan:
    config = load_config(source.directory)
    factors = calibrated(source.directory, given.calibration).factor if name in CALIBRATED else None
    recipe = recipe_named(name.removesuffix("_calibrated"), given.group_size)
    planned = plan(source.directory, config, recipe, mx.bfloat16 if name == "bfloat16" else None, factors)
    inside = (source.directory / name for name in CODEC_DIRECTORIES)
    convert(source, folder, planned, codec=next((path for path in inside if path.is_dir()), None))
    return planned


@cache
def calibrated(directory: Path, texts: Path) -> Calibration:
    model = moss_tts.load(directory)
    jobs = [model.job(model.request({**OPTIONS, **given})) for given in read_requests(texts)]
    return Calibration(model.architecture, spoken(model.architecture, jobs))


def recipe_named(name: str, group_size: int | None) -> Recipe | None:
    if name == "bfloat16":
        return None
    if name in MODES:
        return recipe_of(mode=name)
    if name in MIXED:
        return recipe_of(name, group_size=group_size)
    return recipe_of(bits=int(name), group_size=group_size)


# ------------------------------------------------------------------------------------------------------ rows


def sayings(directory: Path, architecture: Architecture[Any, Any], given: argparse.Namespace) -> Iterator[Said]:
    """Prompts, and what the checkpoint says to them."""
    golden = directory / GOLDEN
    if golden.is_file():
        greedy = ChannelSampling(0.0, 1.0, 50)
        request = RowRequest(Sampling(greedy, greedy), given.seed, given.frames)
        prompts = {name: np.array(rows)[0] for name, rows in mx.load(str(golden)).items() if name.endswith("input_ids")}
        for name in sorted(prompts):
            yield prompts[name], architecture.generate_rows(prompts[name], request)
        return
    model = moss_tts.load(directory)
    for sentence in sentences(given):
        job = model.job(model.request({"text": sentence, "max_tokens": given.frames, "seed": given.seed}))
        yield job.prompt, architecture.generate_rows(job.prompt, job.request)


def sentences(given: argparse.Namespace) -> list[str]:
    lines = [line.strip() for line in given.sentences.read_text(encoding="utf-8").splitlines() if line.strip()]
    return lines[: given.limit]


# --------------------------------------------------------------------------------------------------- compare


def compared(exact: Sequence[Logits], made: Sequence[Logits]) -> dict[str, float]:
    """Means over all rows and channels."""
    text, audio = (
        [np.concatenate([part[kind].reshape(-1, part[kind].shape[-1]) for part in side]) for side in (exact, made)]
        for kind in (0, 1)
    )
    return {
        "top25_text": top_shared(*text),
        "top25_audio": top_shared(*audio),
        "top1_audio": float((audio[0].argmax(axis=1) == audio[1].argmax(axis=1)).mean()),
        "kl_audio": divergence(*audio),
    }


def top_shared(exact: np.ndarray, made: np.ndarray) -> float:
    """The share of the likeliest choices that both have; logits (N, V)."""
    count = max(1, min(TOP, exact.shape[1] // 4))
    best = [np.argpartition(-side, count - 1, axis=1)[:, :count] for side in (exact, made)]
    return float(np.mean([len(np.intersect1d(*pair)) / count for pair in zip(*best, strict=True)]))


def divergence(exact: np.ndarray, made: np.ndarray) -> float:
    """Kullback-Leibler divergence of the copy from the checkpoint in nats; logits (N, V)."""
    mine, theirs = (
        side - np.logaddexp.reduce(side.astype(np.float64), axis=1, keepdims=True) for side in (exact, made)
    )
    return float((np.exp(mine) * (mine - theirs)).sum(axis=1).mean())


def codec_noise(directory: Path, given: argparse.Namespace) -> dict[str, float]:
    """Signal to noise in dB of the decoder's other precisions, on the same frames."""
    audio = {name: heard(directory, name, given) for name in DECODERS}
    exact = audio.pop("float32")
    noise = {name: ((made - exact) ** 2).mean() for name, made in audio.items()}
    return {name: float(10 * np.log10((exact**2).mean() / power)) for name, power in noise.items()}


def heard(directory: Path, codec_dtype: str, given: argparse.Namespace) -> np.ndarray:
    """Samples of all sentences, one after the other."""
    model, options = moss_tts.load(directory, codec_dtype=codec_dtype), {"seed": given.seed, "max_tokens": given.frames}
    return np.concatenate([np.array(next(model.generate(text, **options)).audio) for text in sentences(given)])


def as_table(name: str, results: Sequence[dict[str, Any]]) -> Table:
    table = Table(title=f"{name}: drift of its copies")
    titles = ("recipe", "MB", "bits per weight", "top 25, text", "top 25, audio", "first, audio", "KL, audio")
    for title in titles:
        table.add_column(title, justify="left" if title == "recipe" else "right")
    for result in results:
        shares = [f"{result[key]:.1%}" for key in ("top25_text", "top25_audio", "top1_audio")]
        table.add_row(
            result["recipe"], f"{result['mb']:.2f}", f"{result['bits']:.2f}", *shares, f"{result['kl_audio']:.4f}"
        )
    return table


if __name__ == "__main__":
    raise SystemExit(main())
