"""The command `moss-tts read`; cli.py registers it. Everything slow to import is imported inside."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated, Any

import typer

EXAMPLES = (
    "[bold]Examples[/bold]",
    "How will it be cut?  moss-tts read book.epub --plan",
    "One file with chapter marks:  moss-tts read book.epub --model DIR --output book.m4b",
    "One file per chapter, in a voice of your choice:  moss-tts read book.txt --model DIR --output book "
    "--format mp3 --ref-audio alice.wav",
    "Ctrl-C, a crash, no power: give the same command again. What is finished is never spoken twice; it is kept in "
    "OUTPUT.work, which you may delete when the book is done.",
)


def _panel(title: str) -> Any:
    return functools.partial(typer.Option, rich_help_panel=title)


MODEL, VOICE, OUTPUT, LONG = _panel("Model"), _panel("Voice"), _panel("Output"), _panel("Segments")
GUARD = _panel("Runaway speech")


def read(
    book: Annotated[
        Path, typer.Argument(metavar="BOOK", exists=True, dir_okay=False, help="A .txt, .md or .epub file.")
    ],
    model: Annotated[
        str | None, MODEL("--model", "-m", metavar="DIR|HUB_ID", help="The checkpoint; not needed for --plan.")
    ] = None,
    codec: Annotated[
        str | None, MODEL(metavar="DIR|HUB_ID", help="The codec, if it is not beside the weights.")
    ] = None,
    dtype: Annotated[str | None, MODEL(help="float32 or bfloat16 to compute in.")] = None,
    revision: Annotated[str | None, MODEL(help="Branch, tag or commit of a hub id.")] = None,
    codec_dtype: Annotated[
        str | None, MODEL(help="float32, bfloat16 or 8bit, for the codec's decoder: less memory, a little noise.")
    ] = None,
    kv_bits: Annotated[
        int | None, MODEL(metavar="8|4", help="Keep the context in so many bits: less memory for long requests.")
    ] = None,
    max_memory: Annotated[
        float | None, MODEL(metavar="GB", help="Refuse a checkpoint that needs more, and keep below.")
    ] = None,
    voice: Annotated[str | None, VOICE(metavar="NAME", help="A registered voice; see moss-tts voices --help.")] = None,
    ref_audio: Annotated[
        list[Path] | None,
        VOICE(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="Recording of the voice; without one, the voice of the first segment is kept.",
        ),
    ] = None,
    ref_text: Annotated[str | None, VOICE(help="What the recording says.")] = None,
    instruction: Annotated[str | None, VOICE(help="How to speak, or what the voice is like.")] = None,
    language: Annotated[str | None, VOICE(help='English name of the language: "French".')] = None,
    preset: Annotated[str | None, VOICE(help="The variant, told from the checkpoint's name by default.")] = None,
    seed: Annotated[int | None, VOICE(help="The same seed gives the same book; random by default.")] = None,
    temperature: Annotated[float | None, VOICE(help="Of the audio; 0 is greedy.")] = None,
    max_tokens: Annotated[
        int | None, VOICE(metavar="FRAMES", help="Longest segment, in frames of 80 ms; 4096 by default.")
    ] = None,
    output: Annotated[
        Path | None,
        OUTPUT(
            "--output",
            "-o",
            metavar="FILE.m4b|DIR",
            help="One .m4b, or a directory for one file per chapter; by default a directory named like the book.",
            show_default=False,
        ),
    ] = None,
    format: Annotated[
        str, OUTPUT("--format", metavar="WORD", help="Of files per chapter: wav, flac, mp3 or ogg.")
    ] = "mp3",
    plan: Annotated[bool, OUTPUT("--plan", help="Print the chapters and segments, and do nothing else.")] = False,
    report: Annotated[
        Path | None, OUTPUT(metavar="FILE.html", help="Write a page with waveform, seams and speed.")
    ] = None,
    force: Annotated[
        bool, OUTPUT("--force", help="Drop what is kept if it is of another text or other options.")
    ] = False,
    quiet: Annotated[bool, OUTPUT("--quiet", "-q", help="Only warnings and errors.")] = False,
    long_form_min_chars: Annotated[int | None, LONG(metavar="N", help="Least characters of a segment.")] = None,
    long_form_target_chars: Annotated[int | None, LONG(metavar="N", help="Characters to aim at.")] = None,
    long_form_max_chars: Annotated[int | None, LONG(metavar="N", help="Most characters of a segment.")] = None,
    long_form_continuity: Annotated[
        str | None, LONG(metavar="WORD", help="voice: same voice; continue: as one recording.")
    ] = None,
    long_form_prefix_audio_seconds: Annotated[
        float | None, LONG(metavar="N", help="Audio of a segment that the next one hears.")
    ] = None,
    long_form_prefix_audio_max_tokens: Annotated[
        int | None, LONG(metavar="N", help="The same in frames; the smaller one rules.")
    ] = None,
    long_form_prefix_text_chars: Annotated[
        int | None, LONG(metavar="N", help="Text of a segment that the next one sees.")
    ] = None,
    long_form_retry_attempts: Annotated[
        int | None, LONG(metavar="N", help="Further attempts at a segment that failed; 2 by default.")
    ] = None,
    long_form_parallel: Annotated[
        int | None, LONG(metavar="N", help="Segments spoken at a time; needs prefixes of 0.")
    ] = None,
    long_form_crossfade_ms: Annotated[float | None, LONG(metavar="N", help="Overlap of segments.")] = None,
    long_form_trim_silence: Annotated[
        bool | None, LONG("--long-form-trim-silence", help="Shorten long silence between segments.")
    ] = None,
    runaway_guard: Annotated[
        bool | None, GUARD(help="End a segment that goes on far longer than its text, or in silence.")
    ] = None,
) -> None:
    """Read a book aloud into files; the same command goes on where an earlier one ended."""
    given = dict(locals())
    from moss_tts.books.book import read_book
    from moss_tts.reading_command import Destination, given_options, read_aloud, show_plan
    from moss_tts.speaking import Source
    from moss_tts.terminal import Terminal
    from moss_tts.voices import spoken_by

    terminal, options = Terminal(quiet), given_options(spoken_by(given))
    if plan:
        show_plan(read_book(book), options, terminal)
        return
    if model is None:
        raise typer.BadParameter("a checkpoint is needed: --model DIR. Only --plan does without.")
    to = Destination(output or Path(book.stem), f".{format.lower().removeprefix('.')}", report, force)
    source = Source(model, codec, dtype, revision, max_memory, codec_dtype, kv_bits)
    raise typer.Exit(read_aloud(read_book(book), options, to, source, terminal))
