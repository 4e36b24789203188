"""The command `moss-tts read`. Everything slow to import is imported inside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moss_tts.cli.options import (
    EXISTING,
    Codec,
    CodecDtype,
    Continuity,
    CrossfadeMs,
    Dtype,
    Instruction,
    KvBits,
    MaxChars,
    MaxMemory,
    MinChars,
    Parallel,
    PrefixAudioMaxTokens,
    PrefixAudioSeconds,
    PrefixTextChars,
    Quiet,
    RefText,
    RegisteredVoice,
    RetryAttempts,
    Revision,
    RunawayGuard,
    TargetChars,
    TrimSilence,
    panel,
)

EXAMPLES = (
    "[bold]Examples[/bold]",
    "In the packaged voice:  moss-tts read book.epub",
    "How will it be cut?  moss-tts read book.epub --model DIR --plan",
    "One file with chapter marks:  moss-tts read book.epub --model DIR --output book.m4b",
    "One file per chapter, in a voice of your choice:  moss-tts read book.txt --model DIR --output book "
    "--format mp3 --ref-audio alice.wav",
    "Ctrl-C, a crash, no power: give the same command again. What is finished is never spoken twice; it is kept in "
    "OUTPUT.work, which you may delete when the book is done.",
)


MODEL, VOICE, OUTPUT = panel("Model"), panel("Voice"), panel("Output")


def read(
    book: Annotated[Path, typer.Argument(metavar="BOOK", **EXISTING, help="A .txt, .md or .epub file.")],
    model: Annotated[
        str | None, MODEL("--model", "-m", metavar="DIR|HUB_ID", help="The checkpoint; by default the packaged voice.")
    ] = None,
    codec: Codec = None,
    dtype: Dtype = None,
    revision: Revision = None,
    codec_dtype: CodecDtype = None,
    kv_bits: KvBits = None,
    max_memory: MaxMemory = None,
    voice: RegisteredVoice = None,
    ref_audio: Annotated[
        list[Path] | None,
        VOICE(
            metavar="FILE",
            **EXISTING,
            help="Recording of the voice; without one, the voice of the first segment is kept.",
        ),
    ] = None,
    ref_text: RefText = None,
    instruction: Instruction = None,
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
    quiet: Quiet = False,
    long_form_min_chars: MinChars = None,
    long_form_target_chars: TargetChars = None,
    long_form_max_chars: MaxChars = None,
    long_form_continuity: Continuity = None,
    long_form_prefix_audio_seconds: PrefixAudioSeconds = None,
    long_form_prefix_audio_max_tokens: PrefixAudioMaxTokens = None,
    long_form_prefix_text_chars: PrefixTextChars = None,
    long_form_retry_attempts: RetryAttempts = None,
    long_form_parallel: Parallel = None,
    long_form_crossfade_ms: CrossfadeMs = None,
    long_form_trim_silence: TrimSilence = None,
    runaway_guard: RunawayGuard = None,
) -> None:
    """Read a book aloud into files; the same command goes on where an earlier one ended."""
    given = dict(locals())
    from moss_tts.books.book import read_book
    from moss_tts.checkpoints.packaged import packaged_voice
    from moss_tts.cli.read_book import Destination, preparation_of, read_aloud, show_plan
    from moss_tts.cli.speak_text import Source, request_options
    from moss_tts.cli.terminal import Terminal
    from moss_tts.voices import spoken_by

    model = model or str(packaged_voice())
    terminal, options = Terminal(quiet), request_options(spoken_by(given))
    if plan:
        show_plan(read_book(book), options, preparation_of(model), terminal)
        return
    to = Destination(output or Path(book.stem), f".{format.lower().removeprefix('.')}", report, force)
    source = Source(model, codec, dtype, revision, max_memory, codec_dtype, kv_bits)
    raise typer.Exit(read_aloud(read_book(book), options, to, source, terminal))
