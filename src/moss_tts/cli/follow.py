"""The command `moss-tts follow`. What is slow to import waits inside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moss_tts.cli.arguments import read_lora, read_speakers
from moss_tts.cli.options import (
    EXISTING,
    Checkpoint,
    Codec,
    CodecDtype,
    Continuity,
    Dtype,
    Instruction,
    KvBits,
    Language,
    LexiconFiles,
    Lora,
    Mark,
    MaxMemory,
    MaxTokens,
    NormalizeText,
    Quiet,
    RefAudio,
    RefText,
    RegisteredVoice,
    RepetitionPenalty,
    RepetitionWindow,
    Revision,
    RunawayGuard,
    Seed,
    Speakers,
    SpeakerTexts,
    Speed,
    Temperature,
    TiedHeads,
    TopK,
    TopP,
    Variant,
    examples,
    panel,
)

TEXT, OUTPUT = panel("What to speak"), panel("Output")
EXAMPLES = examples(
    ("Hear a language model while it writes", 'ollama run llama3.2 "Tell me a story." | moss-tts follow'),
    ("Speak in another voice", "PROGRAM | moss-tts follow --model DIR --ref-audio alice.wav"),
    ("Write a file that grows", "PROGRAM | moss-tts follow --output speech.wav"),
    ("Send the sound into a program", "PROGRAM | moss-tts follow --output - | PLAYER"),
    ("Speak line after line, with a blank line after each turn", "PROGRAM | moss-tts follow --turns"),
    notes=("Ctrl-C stops the turn; with --turns, a second one before the next turn leaves.",),
)


def follow(
    model: Checkpoint = None,
    codec: Codec = None,
    dtype: Dtype = None,
    revision: Revision = None,
    codec_dtype: CodecDtype = None,
    kv_bits: KvBits = None,
    tied_heads: TiedHeads = None,
    lora: Lora = None,
    max_memory: MaxMemory = None,
    turns: Annotated[
        bool, TEXT("--turns", help="End a turn at each blank line; its sound is heard before the next turn begins.")
    ] = False,
    user_text: Annotated[
        str | None,
        TEXT(metavar="TEXT", help="Give what the user said before the first turn, to models with a place for it."),
    ] = None,
    user_audio: Annotated[
        Path | None,
        TEXT(metavar="FILE", help="Give a recording of what the user said before the first turn.", **EXISTING),
    ] = None,
    language: Language = None,
    normalize_text: NormalizeText = None,
    lexicon: LexiconFiles = None,
    voice: RegisteredVoice = None,
    ref_audio: RefAudio = None,
    ref_text: RefText = None,
    instruction: Instruction = None,
    speaker: Speakers = None,
    speaker_text: SpeakerTexts = None,
    preset: Variant = None,
    seed: Seed = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    top_k: TopK = None,
    repetition_penalty: RepetitionPenalty = None,
    repetition_window: RepetitionWindow = None,
    max_tokens: MaxTokens = None,
    speed: Speed = None,
    output: Annotated[
        Path | None,
        OUTPUT(
            "--output",
            "-o",
            metavar="FILE",
            help="Write this .wav file while the sound is made. With -, write raw PCM into a pipe. Without it, the "
            "sound is played.",
        ),
    ] = None,
    play: Annotated[bool, OUTPUT("--play", help="Play the sound as well if it is written.")] = False,
    mark: Mark = True,
    quiet: Quiet = False,
    runaway_guard: RunawayGuard = None,
    long_form_continuity: Continuity = None,
) -> None:
    """Speak a text on standard input while it is still being written, for instance by a language model.

    The sound begins with the first clause. The last line says how long it took to the first text and to the first
    sound, and for how long a listener would have heard a gap.
    """
    given = dict(locals())
    from moss_tts.cli.follow_text import follow_text
    from moss_tts.cli.speak_text import Source, request_options

    given["dialogue_speakers"] = read_speakers(speaker or [], speaker_text or [])
    adapters, given["adapters"] = read_lora(lora or [], voice=voice)
    source = Source.of(given, adapters)
    user = {name: given[name] for name in ("user_text", "user_audio") if given[name] is not None}
    raise typer.Exit(follow_text(request_options(given), output, play, turns, source, quiet, mark, user))
