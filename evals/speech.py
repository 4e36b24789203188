"""How well a checkpoint speaks: it reads sentences aloud, and a recogniser says what it understood.

    python evals/speech.py                                  # the packaged voice, 50 held-out sentences
    python evals/speech.py --model MOSS-TTS-4bit --model MOSS-TTS-8bit --output quantisations
    python evals/speech.py --codec                          # the codec alone, on a teacher's recordings
    python evals/speech.py --model DIR --sentences zh.txt --language zh --recogniser whisper-base

Results are a table, a JSON line at the end, and with --output a folder: heard.tsv (worst first), results.json,
results.png and, with --keep-audio, the recordings. Speed counts speech only: loading and the first sentence, which
compiles, are left out. "mos" is DistillMOS (evals/quality.py), null where that is not installed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import quality
from metrics import Heard, compare, length_ratio, letter_error_rate, word_error_rate
from recogniser import MISSING, Recogniser, installed
from rich.console import Console
from rich.table import Table
from spoken import Speaker, Spoken, codec_speaker, model_speaker

from moss_tts import write_audio

HELD_OUT = Path(__file__).parents[1] / "recipes" / "tiny_voice" / "held_out.txt"
SENTENCES = 50


@dataclass(frozen=True)
class Judged:
    """One sentence, spoken and judged."""

    spoken: Spoken
    heard: Heard
    mos: float | None


def main(arguments: Sequence[str] | None = None) -> int:
    given = parsed(arguments)
    if given.recogniser is None and not installed():
        print(f"speech.py: {MISSING}", file=sys.stderr)
        return 1
    sentences = read_sentences(given.sentences, given.limit)
    results = {}
    for name, checkpoint in checkpoints(given).items():
        judged = judge_all(speaker(checkpoint, given), sentences, given)
        results[name] = {"checkpoint": name, **summary(judged)}
        if given.output:
            write_folder(given.output / name if len(given.model) > 1 else given.output, judged, given.keep_audio)
    console = Console(stderr=given.json)
    console.print(as_table(list(results.values())))
    if given.output:
        write_results(given.output, list(results.values()))
    last = next(iter(results.values())) if len(results) == 1 else {"checkpoints": list(results.values())}
    print(json.dumps(last), flush=True)
    return 0


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", action="append", default=[], metavar="DIR|HUB_ID", help="repeat to compare; the packaged voice"
    )
    parser.add_argument("--codec", action="store_true", help="judge the checkpoint's codec alone")
    parser.add_argument("--sentences", type=Path, default=HELD_OUT, metavar="FILE", help="one sentence a line")
    parser.add_argument("--limit", type=int, metavar="N", help="so many of them, evenly spread; 50 of our own")
    parser.add_argument("--language", default="en", help="of the recogniser, as Whisper calls it")
    parser.add_argument("--recogniser", type=Path, metavar="DIR", help="a faster-whisper model; packaged tiny.en")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--temperature", type=float, help="of the audio; the checkpoint's own")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="write everything there")
    parser.add_argument("--keep-audio", action="store_true", help="and the recordings")
    parser.add_argument("--json", action="store_true", help="nothing but the JSON line on standard output")
    given = parser.parse_args(arguments)
    if given.limit is None and given.sentences == HELD_OUT:
        given.limit = SENTENCES
    return given


def read_sentences(path: Path, limit: int | None) -> list[str]:
    """The lines of a file that hold anything, or `limit` of them, evenly spread."""
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not lines:
        raise SystemExit(f"speech.py: {path} has no sentences; write one a line.")
    if limit is None or limit >= len(lines):
        return lines
    return [lines[n * len(lines) // limit] for n in range(limit)]


def checkpoints(given: argparse.Namespace) -> dict[str, Path | str]:
    """What to judge, by the names that results carry."""
    if not given.model:
        from moss_tts.checkpoints.packaged import packaged_voice

        return {"packaged voice": packaged_voice()}
    names = [Path(model).name for model in given.model]
    return {name if names.count(name) == 1 else model: model for name, model in zip(names, given.model, strict=True)}


def speaker(checkpoint: Path | str, given: argparse.Namespace) -> Speaker:
    if given.codec:
        return codec_speaker(checkpoint)
    options = {} if given.temperature is None else {"temperature": given.temperature}
    return model_speaker(checkpoint, given.seed, options)


def judge_all(speak: Speaker, sentences: Sequence[str], given: argparse.Namespace) -> list[Judged]:
    recogniser = Recogniser(given.language, given.recogniser)
    speak(sentences[0])
    return [judge(speak(sentence), sentence, recogniser) for sentence in sentences]


def judge(spoken: Spoken, sentence: str, recogniser: Recogniser) -> Judged:
    heard = compare(sentence, recogniser.hear(spoken.audio, spoken.sample_rate), recogniser.language)
    mos = quality.distillmos(spoken.audio, spoken.sample_rate) if quality.installed() else None
    return Judged(spoken, heard, mos)


def summary(judged: Sequence[Judged]) -> dict[str, Any]:
    """Figures over all sentences; `real_time_factor` is seconds of audio per second of compute."""
    heard = [j.heard for j in judged]
    seconds, compute = sum(j.spoken.duration for j in judged), sum(j.spoken.seconds for j in judged)
    rated = [j.mos for j in judged if j.mos is not None]
    return {
        "wer": round(word_error_rate(heard), 4),
        "cer": round(letter_error_rate(heard), 4),
        "length_ratio": round(length_ratio(heard), 3),
        "mos": round(float(np.mean(rated)), 2) if rated else None,
        "real_time_factor": round(seconds / max(compute, 1e-9), 2),
        "audio_seconds": round(seconds, 1),
        "silent": sum(j.spoken.is_silent for j in judged),
        "cut_off": sum(j.spoken.finish_reason != "stop" for j in judged),
        "sentences": len(judged),
    }


def as_table(results: Sequence[dict[str, Any]]) -> Table:
    titles = {"wer": "word errors", "cer": "letter errors", "length_ratio": "length", "mos": "DistillMOS"}
    titles |= {"real_time_factor": "x real time"}
    table = Table(title="What a recogniser heard")
    for key in results[0]:
        table.add_column(titles.get(key, key.replace("_", " ")), justify="left" if key == "checkpoint" else "right")
    for result in results:
        shown = {**result, "wer": f"{result['wer']:.1%}", "cer": f"{result['cer']:.1%}"}
        table.add_row(*["-" if value is None else str(value) for value in shown.values()])
    return table


def write_folder(folder: Path, judged: Sequence[Judged], keep_audio: bool) -> None:
    """heard.tsv, worst first, and the recordings, numbered as the sentences."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["errors\twords\tseconds\twanted\theard"]
    for j in sorted(judged, key=lambda j: -j.heard.word_errors / max(1, j.heard.words)):
        h = j.heard
        lines.append(f"{h.word_errors}\t{h.words}\t{j.spoken.duration:.2f}\t{h.wanted}\t{h.heard}")
    (folder / "heard.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for number, j in enumerate(judged if keep_audio else (), 1):
        write_audio(folder / f"{number:03d}.wav", j.spoken.audio, j.spoken.sample_rate)


def write_results(folder: Path, results: Sequence[dict[str, Any]]) -> None:
    """results.json, and where matplotlib is installed a picture of it."""
    (folder / "results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    try:
        from matplotlib import pyplot
    except ModuleNotFoundError:
        print("speech.py: no results.png: pip install matplotlib", file=sys.stderr)
        return
    figure, axes = pyplot.subplots(1, 3, figsize=(11, 0.8 + 0.6 * len(results)), layout="constrained")
    panels = {"wer": "word error rate", "cer": "letter error rate", "real_time_factor": "times real time"}
    for axis, (key, title) in zip(axes, panels.items(), strict=True):
        bars = axis.barh([r["checkpoint"] for r in results], [r[key] for r in results], color="#4c72b0")
        axis.bar_label(bars, padding=3)
        axis.set(title=title)
        axis.margins(x=0.2)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[1:]:
        axis.set_yticks([])
    figure.savefig(folder / "results.png", dpi=100)
    pyplot.close(figure)


if __name__ == "__main__":
    sys.exit(main())
