"""The command `moss-tts batch`. What is slow to import waits inside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moss_tts.cli.arguments import read_bytes, read_lora
from moss_tts.cli.options import (
    Checkpoint,
    Codec,
    CodecDtype,
    Dtype,
    KvBits,
    Language,
    LexiconFiles,
    Lora,
    Mark,
    MaxMemory,
    Quiet,
    RecogniserModel,
    RegisteredVoice,
    Revision,
    Seed,
    Speed,
    Subtitles,
    TiedHeads,
    Words,
    examples,
    panel,
)

OUTPUT = panel("Output")
EXAMPLES = examples(
    ("Speak each line of a file", "moss-tts batch jobs.jsonl --output spoken"),
    (
        "A file of two jobs",
        '{"id": "hello", "text": "Hello there.", "seed": 1}\n  {"id": "train", "text": "Mind the gap.", "speed": 0.9}',
    ),
    ("Write mp3 files and subtitles", "moss-tts batch jobs.jsonl --output spoken --format mp3 --subtitles .srt"),
    ("Take the jobs of a program", "make-jobs | moss-tts batch - --output spoken --model DIR"),
    notes=(
        "A job has the options of moss-tts generate as fields, with _ instead of -: text (or file), voice, ref_audio, "
        "seed, max_tokens and so on. Its id names its files; without one, its line does.",
        "Run the same command again after Ctrl-C, or with more jobs: what is done is not spoken again, unless the job "
        "has changed. results.jsonl in the directory has a line for each job, and says why one failed.",
        "The options of the command hold for jobs that have no such field.",
    ),
)


def batch(
    jobs: Annotated[
        str, typer.Argument(metavar="JOBS.jsonl", help="Speak the jobs of this file, one JSON object on each line.")
    ],
    model: Checkpoint = None,
    codec: Codec = None,
    dtype: Dtype = None,
    revision: Revision = None,
    codec_dtype: CodecDtype = None,
    kv_bits: KvBits = None,
    tied_heads: TiedHeads = None,
    lora: Lora = None,
    max_memory: MaxMemory = None,
    language: Language = None,
    lexicon: LexiconFiles = None,
    voice: RegisteredVoice = None,
    seed: Seed = None,
    output: Annotated[
        Path, OUTPUT("--output", "-o", metavar="DIR", help="Write the files of all jobs into this directory.")
    ] = Path("batch"),
    format: Annotated[str, OUTPUT("--format", metavar="WORD", help="Write wav, flac, mp3 or ogg files.")] = "wav",
    at_once: Annotated[
        int, OUTPUT("--batch", min=1, metavar="N", help="Speak N jobs at the same time. More take more memory.")
    ] = 8,
    speed: Speed = None,
    subtitles: Subtitles = None,
    words: Words = False,
    recogniser: RecogniserModel = None,
    mark: Mark = True,
    quiet: Quiet = False,
) -> None:
    """Speak many texts side by side, each into a file of its own."""
    given = dict(locals())
    from moss_tts.bulk.jobs import read_jobs
    from moss_tts.cli.speak_jobs import Destination, speak_to_files
    from moss_tts.cli.speak_text import Source
    from moss_tts.cli.subtitles import WantedSubtitles
    from moss_tts.cli.terminal import Terminal

    adapters, weights = read_lora(lora or [], voice=voice)
    defaults = {name: given[name] for name in ("voice", "language", "lexicon", "seed", "speed")}
    found = read_jobs(*read_bytes(jobs), defaults | {"adapters": weights or None})
    source = Source.of(given, adapters)
    wanted = WantedSubtitles(subtitles, words, recogniser)
    to = Destination(output, f".{format.lower().removeprefix('.')}", wanted, mark)
    raise typer.Exit(speak_to_files(found, to, source, at_once, Terminal(quiet)))
