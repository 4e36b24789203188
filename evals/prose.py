"""How well everyday prose is read: letters, recipes, prices, dates, dialogue, through the product as users call it.

    python evals/prose.py                          # the packaged voice
    python evals/prose.py --model DIR --seed 3
    python evals/prose.py --passages mine.toml --output heard.tsv

Passages are in prose.toml: the text as it is typed, and as a person reads it out. Each goes whole through
Model.generate; a recogniser hears it, and its words are compared with the spoken form. The long passage is also read
sentence by sentence: the ratio of both durations shows whether a long text babbles. Results are a table and a line of
JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metrics import Heard, compare, word_error_rate
from recogniser import MISSING, Recogniser, installed
from rich.console import Console
from rich.table import Table
from spoken import Speaker, model_speaker

from moss_tts.checkpoints.packaged import packaged_voice
from moss_tts.errors import MossTTSError
from moss_tts.text.lines import paragraphs
from moss_tts.text.sentences import sentences

PASSAGES = Path(__file__).with_name("prose.toml")


@dataclass(frozen=True)
class Passage:
    """A text as it is typed, and as a person reads it out."""

    name: str
    text: str
    spoken: str


@dataclass(frozen=True)
class Read:
    """A passage that was read and heard.

    Attributes:
        passage: what was to be read.
        heard: what the recogniser made of it.
        seconds: of audio.
        failure: why it was not read to its end; None if it was.
    """

    passage: Passage
    heard: Heard
    seconds: float
    failure: str | None


def main(arguments: Sequence[str] | None = None) -> int:
    given = parsed(arguments)
    if given.recogniser is None and not installed():
        print(f"prose.py: {MISSING}", file=sys.stderr)
        return 1
    passages, long = read_passages(given.passages)
    speak = model_speaker(given.model or packaged_voice(), given.seed, {})
    recogniser = Recogniser("en", given.recogniser)
    reads = [read(passage, speak, recogniser) for passage in [*passages, long]]
    apart = sum(speak(sentence).duration for sentence in one_by_one(long.text))
    ratio = reads[-1].seconds / max(apart, 1e-9)
    Console(stderr=given.json).print(as_table(reads, ratio))
    if given.output:
        write_heard(given.output, reads)
    print(json.dumps(summary(reads, ratio)), flush=True)
    return 0


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", metavar="DIR|HUB_ID", help="the packaged voice")
    parser.add_argument("--passages", type=Path, default=PASSAGES, metavar="FILE", help="TOML as prose.toml")
    parser.add_argument("--recogniser", type=Path, metavar="DIR", help="a faster-whisper model; packaged tiny.en")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, metavar="FILE", help="what was heard, as tab separated values")
    parser.add_argument("--json", action="store_true", help="nothing but the JSON line on standard output")
    return parser.parse_args(arguments)


def read_passages(path: Path) -> tuple[list[Passage], Passage]:
    """The passages of a file, and its long one."""
    tables = tomllib.loads(path.read_text(encoding="utf-8"))
    return [Passage(**table) for table in tables["passage"]], Passage("long", **tables["long"])


def read(passage: Passage, speak: Speaker, recogniser: Recogniser) -> Read:
    """Read a passage as one request and hear it; one that fails was heard as silence."""
    try:
        spoken = speak(passage.text)
    except MossTTSError as error:
        return Read(passage, compare(passage.spoken, ""), 0.0, str(error))
    heard = recogniser.hear(spoken.audio, spoken.sample_rate)
    failure = None if spoken.finish_reason == "stop" else f"ended with {spoken.finish_reason!r}"
    return Read(passage, compare(passage.spoken, heard), spoken.duration, failure)


def one_by_one(text: str) -> list[str]:
    """The sentences of a text as they are typed."""
    return [sentence for paragraph in paragraphs(text) for sentence in sentences(paragraph)]


def summary(reads: Sequence[Read], ratio: float) -> dict[str, Any]:
    """Word errors over all passages but the long one; the long one's duration by that of its sentences; failures."""
    return {
        "wer": round(word_error_rate(r.heard for r in reads[:-1]), 4),
        "length_ratio": round(ratio, 3),
        "failed": sum(r.failure is not None for r in reads),
    }


def as_table(reads: Sequence[Read], ratio: float) -> Table:
    table = Table(title="What a recogniser heard", caption=f"long: {ratio:.2f} times its sentences one by one")
    for column in ("passage", "words", "wrong", "seconds", "failure"):
        table.add_column(column, justify="left" if column in ("passage", "failure") else "right")
    for r in reads:
        wrong = f"{r.heard.word_errors / max(1, r.heard.words):.1%}"
        table.add_row(r.passage.name, str(r.heard.words), wrong, f"{r.seconds:.1f}", r.failure or "-")
    table.add_section()
    everyday = [r.heard for r in reads[:-1]]
    seconds = sum(r.seconds for r in reads[:-1])
    words = sum(h.words for h in everyday)
    table.add_row("all but the long one", str(words), f"{word_error_rate(everyday):.1%}", f"{seconds:.1f}", "")
    return table


def write_heard(path: Path, reads: Sequence[Read]) -> None:
    """Errors, words, name, what was wanted and what was heard, a line each."""
    lines = ["errors\twords\tpassage\twanted\theard"]
    for r in reads:
        wanted = " ".join(r.heard.wanted.split())
        lines.append(f"{r.heard.word_errors}\t{r.heard.words}\t{r.passage.name}\t{wanted}\t{r.heard.heard}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
