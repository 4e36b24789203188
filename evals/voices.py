"""Whether speech follows its reference: every voice speaks, and each result is compared with every reference.

    python evals/voices.py --model DIR                          # all registered voices
    python evals/voices.py --model DIR --voice ada --voice bob=bob.wav --output voices

Results are a matrix (rows speak, columns are references), a JSON line at the end, and with --output matrix.json and
matrix.png. "margin" is how much more a voice is like its own reference than like the others, for the voice where
that is least; "nearest" is the same against the most similar other reference.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import likeness
import numpy as np
from rich.console import Console
from rich.table import Table
from speech import HELD_OUT, read_sentences
from spoken import model_speaker

from moss_tts.audio.files import read_audio
from moss_tts.voices import Voices

SENTENCES = 40


def main(arguments: Sequence[str] | None = None) -> int:
    given = parsed(arguments)
    if not likeness.installed():
        print(f"voices.py: {likeness.MISSING}", file=sys.stderr)
        return 1
    references = named(given.voice)
    if len(references) < 2:
        print("voices.py: two voices at least are compared; name them with --voice.", file=sys.stderr)
        return 1
    sentences = read_sentences(given.sentences, given.limit)
    matrix = compare(references, sentences, given)
    found = {**summary(matrix), "voices": list(references), "sentences": len(sentences)}
    Console(stderr=given.json).print(as_table(list(references), matrix))
    if given.output:
        write(given.output, list(references), matrix, found)
    print(json.dumps(found), flush=True)
    return 0


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, metavar="DIR|HUB_ID")
    parser.add_argument(
        "--voice", action="append", default=[], metavar="NAME[=FILE]", help="registered, or a recording; repeat"
    )
    parser.add_argument("--sentences", type=Path, default=HELD_OUT, metavar="FILE", help="one sentence a line")
    parser.add_argument("--limit", type=int, default=SENTENCES, metavar="N", help="so many of them, evenly spread")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="write matrix.json and matrix.png there")
    parser.add_argument("--json", action="store_true", help="nothing but the JSON line on standard output")
    return parser.parse_args(arguments)


def named(given: Sequence[str]) -> dict[str, Path]:
    """The recordings of the voices by name; of all registered ones where none is given."""
    voices = Voices()
    pairs = [text.partition("=") for text in given or voices.names()]
    return {name: Path(file) if file else voices[name].sample for name, _, file in pairs}


def compare(references: dict[str, Path], sentences: Sequence[str], given: argparse.Namespace) -> np.ndarray:
    """(V, V): how alike the speech of a voice is to each reference, in the mean over all sentences."""
    heard = np.stack([likeness.likeness(*_recording(path)) for path in references.values()])
    rows = []
    for path in references.values():
        speak = model_speaker(given.model, given.seed, {"reference": [path]})
        spoken = [speak(sentence) for sentence in sentences]
        vectors = np.stack([likeness.likeness(one.audio, one.sample_rate) for one in spoken])
        rows.append((vectors @ heard.T).mean(0))
    return np.stack(rows)


def _recording(path: Path) -> tuple[np.ndarray, int]:
    sound = read_audio(path)
    return sound.samples.T, sound.sample_rate


def summary(matrix: np.ndarray) -> dict[str, Any]:
    """Figures of a matrix (V, V)."""
    own, others = np.diag(matrix), matrix[~np.eye(len(matrix), dtype=bool)].reshape(len(matrix), -1)
    return {
        "own": round(float(own.mean()), 3),
        "others": round(float(others.mean()), 3),
        "margin": round(float((own - others.mean(1)).min()), 3),
        "nearest": round(float((own - others.max(1)).min()), 3),
    }


def as_table(names: Sequence[str], matrix: np.ndarray) -> Table:
    table = Table("speaks", *names, title="How alike to each reference")
    for name, row in zip(names, matrix, strict=True):
        best = row.argmax()
        table.add_row(name, *(f"[bold]{x:.2f}[/]" if n == best else f"{x:.2f}" for n, x in enumerate(row)))
    return table


def write(folder: Path, names: Sequence[str], matrix: np.ndarray, found: dict[str, Any]) -> None:
    """matrix.json, and where matplotlib is installed a picture of it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "matrix.json").write_text(json.dumps({**found, "matrix": matrix.round(4).tolist()}, indent=2) + "\n")
    try:
        from matplotlib import pyplot
    except ModuleNotFoundError:
        print("voices.py: no matrix.png: pip install matplotlib", file=sys.stderr)
        return
    size = 1.5 + 0.8 * len(names)
    figure, axis = pyplot.subplots(figsize=(size, size), layout="constrained")
    axis.imshow(matrix, vmin=0, vmax=1)
    axis.set(xlabel="reference", ylabel="speaks")
    axis.set_xticks(range(len(names)), names)
    axis.set_yticks(range(len(names)), names)
    for (row, column), value in np.ndenumerate(matrix):
        axis.text(column, row, f"{value:.2f}", ha="center", va="center", color="white" if value < 0.6 else "black")
    figure.savefig(folder / "matrix.png", dpi=100)
    pyplot.close(figure)


if __name__ == "__main__":
    sys.exit(main())
