"""The command `moss-tts dub`. What is slow to import waits inside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moss_tts.cli.arguments import read_lora
from moss_tts.cli.options import (
    EXISTING,
    Checkpoint,
    Codec,
    CodecDtype,
    Dtype,
    Instruction,
    KvBits,
    Language,
    LexiconFiles,
    Lora,
    Mark,
    MaxMemory,
    Quiet,
    RecogniserModel,
    RefAudio,
    RefText,
    RegisteredVoice,
    Revision,
    Seed,
    Subtitles,
    Temperature,
    TiedHeads,
    Variant,
    Words,
    examples,
    panel,
)

VOICE, FITTING, OUTPUT = panel("Voice"), panel("Fitting"), panel("Output")
EXAMPLES = examples(
    ("Speak the subtitles of a film", "moss-tts dub film.srt --output track.m4a"),
    ("See the words and the voices", "moss-tts dub film.srt --plan"),
    ("Give each speaker a voice", "moss-tts dub film.srt --cast cast.txt --model DIR --output track.wav"),
    ("Never change the tempo", "moss-tts dub film.srt --slowest 1 --fastest 1"),
    notes=(
        'A cue may name its speaker: "ada: Stop!", "[S1] Stop!", a voice of WebVTT or a name of ASS. ada is a '
        "registered voice, or a name in the cast.",
        "After Ctrl-C, run the same command again. It continues where it stopped. What is spoken is kept in "
        "OUTPUT.work until the track is complete.",
    ),
)


def dub(
    film: Annotated[
        Path, typer.Argument(metavar="SUBTITLES", **EXISTING, help="Speak this .srt, .vtt, .ass or .ssa file.")
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
    cast: Annotated[
        Path | None,
        VOICE(
            metavar="FILE",
            **EXISTING,
            help='Give each speaker the voice that this file says, in lines such as "Alice" = ada, S1 = bob.',
        ),
    ] = None,
    voice: RegisteredVoice = None,
    ref_audio: RefAudio = None,
    ref_text: RefText = None,
    instruction: Instruction = None,
    preset: Variant = None,
    seed: Seed = None,
    temperature: Temperature = None,
    slowest: Annotated[
        float, FITTING(metavar="X", help="Slow speech down to X times its tempo, 0.25 to 1, to fill its cue.")
    ] = 0.8,
    fastest: Annotated[
        float, FITTING(metavar="X", help="Speed speech up to X times its tempo, 1 to 4, to end with its cue.")
    ] = 1.5,
    output: Annotated[
        Path,
        OUTPUT("--output", "-o", metavar="FILE", help="Write the track as .m4a, .wav, .flac, .mp3 or .ogg."),
    ] = Path("track.m4a"),
    at_once: Annotated[
        int, OUTPUT("--batch", min=1, metavar="N", help="Speak N cues at the same time. More take more memory.")
    ] = 8,
    plan: Annotated[
        bool, OUTPUT("--plan", help="Show the words and the voices of all cues, and do nothing else.")
    ] = False,
    subtitles: Subtitles = None,
    words: Words = False,
    recogniser: RecogniserModel = None,
    mark: Mark = True,
    quiet: Quiet = False,
) -> None:
    """Speak the subtitles of a film into a track, each cue at its time."""
    given = dict(locals())
    from moss_tts.cli.dub_film import Destination, dub_film, read_script, show_script
    from moss_tts.cli.speak_text import Source, request_options
    from moss_tts.cli.subtitles import WantedSubtitles
    from moss_tts.cli.terminal import Terminal
    from moss_tts.dubbing.fitting import Bounds

    adapters, given["adapters"] = read_lora(lora or [], voice=voice)
    terminal, bounds = Terminal(quiet), Bounds(slowest, fastest)
    bounds.check()
    options = request_options(given)
    script = read_script(film, cast, terminal)
    if plan:
        show_script(script, terminal)
        return
    source = Source.of(given, adapters)
    to = Destination(film, output, WantedSubtitles(subtitles, words, recogniser), mark, at_once)
    raise typer.Exit(dub_film(script, options, bounds, to, source, terminal))
