"""The command `moss-tts generate`. What is slow to import waits inside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moss_tts.cli.arguments import read_conversation, read_lora, read_speakers, read_text
from moss_tts.cli.options import (
    EXISTING,
    AudioFile,
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
    NormalizeText,
    Parallel,
    Play,
    PrefixAudioMaxTokens,
    PrefixAudioSeconds,
    PrefixTextChars,
    Quiet,
    RecogniserModel,
    RefText,
    RegisteredVoice,
    RepetitionPenalty,
    RepetitionWindow,
    RetryAttempts,
    Revision,
    RunawayGuard,
    Seed,
    Speakers,
    SpeakerTexts,
    Speed,
    Subtitles,
    TargetChars,
    Temperature,
    TextFile,
    TiedHeads,
    TopK,
    TopP,
    TrimSilence,
    Variant,
    Verbose,
    Words,
    examples,
    panel,
)
from moss_tts.errors import RequestError

SPEAK, VOICE, SAMPLING = panel("What to speak"), panel("Voice"), panel("Sampling")
OUTPUT, LONG = panel("Output"), panel("Long texts, in segments")

EXAMPLES = examples(
    ("Read a file aloud", "moss-tts generate --file chapter.txt --model DIR -o chapter.mp3"),
    ("Speak a text from a pipe", 'echo "Hello there." | moss-tts generate --model DIR'),
    ("Speak in somebody's voice", 'moss-tts generate "Hello there." --model DIR --ref-audio alice.wav'),
    (
        "Describe a voice (VoiceGenerator)",
        'moss-tts generate "Hello." --model DIR --instruction "An old man, tired"',
    ),
    ("Make a sound (SoundEffect)", 'moss-tts generate --model DIR --ambient-sound "Rain on tin" --seconds 10'),
    (
        "Speak a dialogue in cloned voices (TTSD)",
        'moss-tts generate "[S1] Hello! [S2] Hi." --model DIR \\\n'
        '    --speaker S1=alice.wav --speaker-text "S1=What alice.wav says." \\\n'
        '    --speaker S2=bob.wav --speaker-text "S2=What bob.wav says."',
    ),
    (
        "Continue a recording",
        'moss-tts generate "And then it rained." --model DIR \\\n'
        '    --mode continuation --ref-audio start.wav --ref-text "What it says."',
    ),
    ("Write subtitles", "moss-tts generate -f chapter.txt --model DIR --long-form --subtitles .srt"),
    ("Hear a long text while it is spoken", "moss-tts generate -f chapter.txt --model DIR --long-form --play"),
    notes=(
        "Ctrl-C stops and keeps what has been spoken so far; a second one stops at once.",
        "A text that begins with - must come after all options and after --.",
    ),
)


def generate(
    text: Annotated[
        str | None,
        typer.Argument(
            metavar="TEXT",
            help="Speak this text; put it in quotes. Without it, or with -, the text comes from a pipe.",
            show_default=False,
        ),
    ] = None,
    model: Checkpoint = None,
    codec: Codec = None,
    dtype: Dtype = None,
    revision: Revision = None,
    codec_dtype: CodecDtype = None,
    kv_bits: KvBits = None,
    tied_heads: TiedHeads = None,
    lora: Lora = None,
    max_memory: MaxMemory = None,
    file: TextFile = None,
    language: Language = None,
    tokens: Annotated[int | None, SPEAK(metavar="FRAMES", help="Aim at this length, in frames of 80 ms.")] = None,
    duration_s: Annotated[float | None, SPEAK(metavar="SECONDS", help="Aim at this length, in seconds.")] = None,
    seconds: Annotated[float | None, SPEAK(metavar="SECONDS", help="This is another name of --duration-s.")] = None,
    normalize_text: NormalizeText = None,
    ambient_sound: Annotated[str | None, SPEAK(metavar="TEXT", help="Make this sound (SoundEffect).")] = None,
    sound_event: Annotated[str | None, SPEAK(metavar="TEXT", help="Write this sound event into the prompt.")] = None,
    lexicon: LexiconFiles = None,
    quality: Annotated[str | None, SPEAK(metavar="TEXT", help="Write this quality into the prompt.")] = None,
    scene: Annotated[str | None, SPEAK(metavar="TEXT", help="Describe where a dialogue takes place (TTSD).")] = None,
    conversation: Annotated[
        Path | None,
        SPEAK(
            metavar="FILE",
            help="Read a list of messages from this JSON file. It replaces the text and all options of the prompt.",
            **EXISTING,
        ),
    ] = None,
    voice: RegisteredVoice = None,
    ref_audio: Annotated[
        list[Path] | None,
        VOICE(
            metavar="FILE",
            help="Speak in the voice of this recording. Repeat the option for more speakers.",
            **EXISTING,
        ),
    ] = None,
    reference: Annotated[
        list[Path] | None, VOICE(metavar="FILE", help="This is another name of --ref-audio.", **EXISTING)
    ] = None,
    ref_text: RefText = None,
    instruction: Instruction = None,
    instruct: Annotated[str | None, VOICE(metavar="TEXT", help="This is another name of --instruction.")] = None,
    speaker: Speakers = None,
    speaker_text: SpeakerTexts = None,
    mode: Annotated[
        str | None,
        VOICE(
            metavar="WORD",
            help="Choose generation, which speaks the text alone, or continuation, which continues the recording.",
        ),
    ] = None,
    preset: Variant = None,
    seed: Seed = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    top_k: TopK = None,
    repetition_penalty: RepetitionPenalty = None,
    repetition_window: RepetitionWindow = None,
    audio_temperature: Annotated[
        float | None, SAMPLING(metavar="X", help="This is another name of --temperature.")
    ] = None,
    audio_top_p: Annotated[float | None, SAMPLING(metavar="X", help="This is another name of --top-p.")] = None,
    audio_top_k: Annotated[int | None, SAMPLING(metavar="N", help="This is another name of --top-k.")] = None,
    audio_repetition_penalty: Annotated[
        float | None, SAMPLING(metavar="X", help="This is another name of --repetition-penalty.")
    ] = None,
    text_temperature: Annotated[
        float | None,
        SAMPLING(
            metavar="X",
            help="Set the temperature of the text channel, which decides when speech ends; a low one ends it early.",
        ),
    ] = None,
    text_top_p: Annotated[float | None, SAMPLING(metavar="X", help="Set top-p of the text channel.")] = None,
    text_top_k: Annotated[int | None, SAMPLING(metavar="N", help="Set top-k of the text channel.")] = None,
    text_repetition_penalty: Annotated[
        float | None, SAMPLING(metavar="X", help="Set the repetition penalty of the text channel.")
    ] = None,
    n_vq_for_inference: Annotated[
        int | None,
        SAMPLING(metavar="CODEBOOKS", help="Use fewer codebooks: faster and coarser (Local v1.0, Nano)."),
    ] = None,
    max_tokens: MaxTokens = None,
    output: AudioFile = Path("speech.wav"),
    stream: Annotated[
        bool | None,
        OUTPUT(
            help="Write the .wav while the audio is made; it is valid at any moment. With --no-stream, decode all "
            "audio at the end. By default audio is decoded while it is made, and written at the end."
        ),
    ] = None,
    speed: Speed = None,
    subtitles: Subtitles = None,
    words: Words = False,
    recogniser: RecogniserModel = None,
    mark: Mark = True,
    play: Play = False,
    streaming_interval: Annotated[
        float | None, OUTPUT(metavar="SECONDS", help="Decode this many seconds of audio at a time.")
    ] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    runaway_guard: RunawayGuard = None,
    long_form: Annotated[
        bool | None, LONG("--long-form", help="Speak the text in segments, for instance a chapter.")
    ] = None,
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
    """Speak a text, or make a sound, into an audio file."""
    given = dict(locals())
    flags = tuple(given)
    from moss_tts.cli.speak_live import is_live, speak_live, terminal_beside
    from moss_tts.cli.speak_text import Destination, Source, check_output, request_options, speak_to_file
    from moss_tts.cli.subtitles import WantedSubtitles

    given["text"] = read_text(text, file, needed=conversation is None and ambient_sound is None)
    given["conversation"] = read_conversation(conversation)
    given["dialogue_speakers"] = read_speakers(speaker or [], speaker_text or [])
    adapters, given["adapters"] = read_lora(lora or [], voice=voice)
    # The command line has its own way to show figures.
    del given["verbose"]
    source, options = Source.of(given, adapters), request_options(given)
    to = Destination(output, play, WantedSubtitles(subtitles, words, recogniser), mark)
    live = is_live(output, stream, play)
    if not live:
        check_output(output)
    terminal = terminal_beside(output, quiet, verbose)
    with terminal.loading(source.name):  # a checkpoint of the hub is fetched here, and that is shown
        makes_sounds = source.makes_sounds
    if makes_sounds:
        from moss_tts.cli.make_sound import make_sound

        if subtitles is not None:
            raise RequestError("--subtitles is for speech; a sound has no words.")
        raise typer.Exit(make_sound(options, to, source, terminal))
    if live:
        raise typer.Exit(speak_live(options, to, source, terminal, flags))
    options["stream"] = stream is not False
    raise typer.Exit(speak_to_file(options, to, source, terminal, flags))
