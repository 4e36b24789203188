"""The command `moss-tts read`. Everything slow to import is imported inside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moss_tts.cli.arguments import read_cast, read_lora, spoken_by
from moss_tts.cli.options import (
    EXISTING,
    Checkpoint,
    Codec,
    CodecDtype,
    Continuity,
    CrossfadeMs,
    Dtype,
    Instruction,
    KvBits,
    Language,
    LexiconFiles,
    Lora,
    Mark,
    MaxChars,
    MaxMemory,
    MaxTokens,
    MinChars,
    Parallel,
    PrefixAudioMaxTokens,
    PrefixAudioSeconds,
    PrefixTextChars,
    Quiet,
    RecogniserModel,
    RefText,
    RegisteredVoice,
    RetryAttempts,
    Revision,
    RunawayGuard,
    Seed,
    Speed,
    Subtitles,
    TargetChars,
    Temperature,
    TiedHeads,
    TrimSilence,
    Variant,
    Words,
    examples,
    panel,
)
from moss_tts.errors import RequestError

EXAMPLES = examples(
    ("Read in the packaged voice", "moss-tts read book.epub"),
    ("See the chapters and segments of a book", "moss-tts read book.epub --plan"),
    ("Make one file with chapter marks", "moss-tts read book.epub --model DIR --output book.m4b"),
    (
        "Make one file per chapter, in a voice of your choice",
        "moss-tts read book.txt --model DIR --ref-audio alice.wav \\\n    --output book --format mp3",
    ),
    (
        "Let several voices read, and have them checked",
        "moss-tts read book.txt --model DIR --cast cast.txt \\\n    --check 0.2 --report book.html",
    ),
    notes=(
        "After Ctrl-C, a crash or a power cut, run the same command again. It continues where it stopped. Finished "
        "segments are kept in OUTPUT.work until the book is complete.",
    ),
)


VOICE, OUTPUT, CHECK = panel("Voice"), panel("Output"), panel("Check of what was said")


def read(
    book: Annotated[Path, typer.Argument(metavar="BOOK", **EXISTING, help="Read this .epub, .txt, .md or .html file.")],
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
    ref_audio: Annotated[
        list[Path] | None,
        VOICE(
            metavar="FILE",
            **EXISTING,
            help="Read in the voice of this recording. Without one, the first segment sets the voice.",
        ),
    ] = None,
    ref_text: RefText = None,
    cast: Annotated[
        Path | None,
        VOICE(
            metavar="FILE",
            **EXISTING,
            help="Let several voices read, as this file says in lines such as 'narrator = ada' and '\"Alice\" = bob'.",
        ),
    ] = None,
    instruction: Instruction = None,
    preset: Variant = None,
    seed: Seed = None,
    temperature: Temperature = None,
    max_tokens: MaxTokens = None,
    output: Annotated[
        Path | None,
        OUTPUT(
            "--output",
            "-o",
            metavar="FILE.m4b|DIR",
            help="Write one .m4b file, or one file per chapter into a directory. The default is a directory with the "
            "name of the book.",
            show_default=False,
        ),
    ] = None,
    format: Annotated[
        str, OUTPUT("--format", metavar="WORD", help="Write the files of chapters as wav, flac, mp3 or ogg.")
    ] = "mp3",
    cover: Annotated[
        Path | None,
        OUTPUT(
            metavar="FILE", **EXISTING, help="Put this JPEG or PNG into the .m4b. The default is the cover of the EPUB."
        ),
    ] = None,
    plan: Annotated[bool, OUTPUT("--plan", help="Show the chapters and segments, and do nothing else.")] = False,
    preview: Annotated[
        bool,
        OUTPUT("--preview", help="Speak the first lines of each voice into the directory OUTPUT.preview, and no more."),
    ] = False,
    check: Annotated[
        float | None,
        CHECK(
            "--check",
            metavar="X",
            help="Let a recogniser hear each segment. With more than X errors per word (try 0.2), it is spoken again.",
        ),
    ] = None,
    retakes: Annotated[
        int | None,
        CHECK(
            "--retakes", metavar="N", help="Speak a segment again N times at most, and keep the best. The default is 2."
        ),
    ] = None,
    report: Annotated[
        Path | None,
        OUTPUT(
            metavar="FILE.html",
            help="Write a page with the waveform, the seams between segments, the speed, and what was heard.",
        ),
    ] = None,
    read_along: Annotated[
        Path | None,
        OUTPUT(
            metavar="FILE.epub",
            help="Write an EPUB with the text and the sound, in which programs show the sentence that is heard.",
        ),
    ] = None,
    force: Annotated[
        bool, OUTPUT("--force", help="Start again, and delete an earlier reading with another text or other options.")
    ] = False,
    subtitles: Subtitles = None,
    words: Words = False,
    recogniser: RecogniserModel = None,
    mark: Mark = True,
    speed: Speed = None,
    quiet: Quiet = False,
    runaway_guard: RunawayGuard = None,
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
) -> None:
    """Read a book aloud into files. Run the same command again to continue an interrupted reading."""
    given = dict(locals())
    from moss_tts.books.book import read_book
    from moss_tts.books.voices import BookVoices
    from moss_tts.cli.book_files import Destination
    from moss_tts.cli.book_plan import show_plan
    from moss_tts.cli.checking import WantedCheck
    from moss_tts.cli.preview import speak_preview
    from moss_tts.cli.read_book import Reading, read_aloud, with_cover
    from moss_tts.cli.speak_text import Source, request_options
    from moss_tts.cli.subtitles import WantedSubtitles
    from moss_tts.cli.terminal import Terminal
    from moss_tts.voices import Voices

    adapters, weights = read_lora(lora or [])
    given["adapters"] = read_lora(lora or [], voice=voice)[1]
    source = Source.of(given, adapters)
    terminal, options = Terminal(quiet), request_options(spoken_by(given))
    suffix = f".{format.lower().removeprefix('.')}"
    if read_along is not None and read_along.resolve() == book.resolve():
        raise RequestError(f"--read-along {read_along} would replace the book itself; name another file.")
    wanted = WantedSubtitles(subtitles, words, recogniser if words or check is None else None)
    to = Destination(output or Path(book.stem), suffix, report, read_along, wanted, force, voice, mark)
    content = read_book(book)
    voices = BookVoices.of(content, read_cast(cast, given), Voices(), weights)
    if plan:
        show_plan(content, options, source.model, to, terminal, voices)
        return
    hearing = WantedCheck(check, retakes, recogniser)
    reading = Reading(with_cover(content, cover), options, to, source, voices, hearing)
    raise typer.Exit(speak_preview(reading, terminal) if preview else read_aloud(reading, terminal))
