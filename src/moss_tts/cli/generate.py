"""The command `moss-tts generate`. What is slow to import waits inside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moss_tts.cli.arguments import read_conversation, read_speakers, read_text
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
    MaxChars,
    MaxMemory,
    MinChars,
    Parallel,
    Play,
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

SPEAK, VOICE, SAMPLING = panel("What to speak"), panel("Voice"), panel("Sampling")
OUTPUT, LONG = panel("Output"), panel("Long texts, in segments")

EXAMPLES = (
    "[bold]Examples[/bold]",
    "Read a file aloud:  moss-tts generate --file chapter.txt --model DIR -o chapter.mp3",
    'From a pipe:  echo "Hello there." | moss-tts generate --model DIR',
    'In somebody\'s voice:  moss-tts generate "Hello there." --model DIR --ref-audio alice.wav',
    'A voice from words (VoiceGenerator):  moss-tts generate "Hello." --model DIR --instruction "An old man, tired"',
    'A sound (SoundEffect):  moss-tts generate --model DIR --ambient-sound "Rain on a tin roof" --seconds 10',
    'A dialogue in cloned voices (TTSD):  moss-tts generate "\\[S1] Hello! \\[S2] Hi." --model DIR '
    '--speaker S1=alice.wav --speaker-text "S1=What alice.wav says." '
    '--speaker S2=bob.wav --speaker-text "S2=What bob.wav says."',
    'Go on from a recording:  moss-tts generate "And then it rained." --model DIR --mode continuation '
    '--ref-audio start.wav --ref-text "What start.wav says."',
    "Hear it while it is made:  moss-tts generate --file chapter.txt --model DIR --long-form --play",
    "Ctrl-C stops and keeps what has been spoken so far; a second one stops at once.",
)


def generate(
    text: Annotated[
        str | None,
        typer.Argument(
            metavar="TEXT", help="What to speak; - is standard input, and so is a pipe.", show_default=False
        ),
    ] = None,
    model: Checkpoint = None,
    codec: Codec = None,
    dtype: Dtype = None,
    revision: Revision = None,
    codec_dtype: CodecDtype = None,
    kv_bits: KvBits = None,
    max_memory: MaxMemory = None,
    file: Annotated[Path | None, SPEAK("--file", "-f", help="Read the text from this file.", **EXISTING)] = None,
    language: Annotated[str | None, SPEAK(help='English name of the language: "French".')] = None,
    tokens: Annotated[int | None, SPEAK(metavar="FRAMES", help="Length to aim at, in frames of 80 ms.")] = None,
    duration_s: Annotated[float | None, SPEAK(metavar="SECONDS", help="Length to aim at, in seconds.")] = None,
    seconds: Annotated[float | None, SPEAK(metavar="SECONDS", help="The same as --duration-s.")] = None,
    normalize_text: Annotated[
        bool | None, SPEAK(help="Clean up Markdown, odd spaces and the like; each variant has its own default.")
    ] = None,
    ambient_sound: Annotated[str | None, SPEAK(help="The sound to make (SoundEffect).")] = None,
    sound_event: Annotated[str | None, SPEAK(help="A tag of the prompt.")] = None,
    quality: Annotated[str | None, SPEAK(help="A tag of the prompt.")] = None,
    scene: Annotated[str | None, SPEAK(help="Where a dialogue takes place (TTSD).")] = None,
    conversation: Annotated[
        Path | None,
        SPEAK(help="JSON file with a list of messages, instead of text and the other prompt options.", **EXISTING),
    ] = None,
    voice: RegisteredVoice = None,
    ref_audio: Annotated[
        list[Path] | None, VOICE(metavar="FILE", help="Recording of the voice; repeat for more speakers.", **EXISTING)
    ] = None,
    reference: Annotated[list[Path] | None, VOICE(metavar="FILE", help="The same as --ref-audio.", **EXISTING)] = None,
    ref_text: RefText = None,
    instruction: Instruction = None,
    instruct: Annotated[str | None, VOICE(help="The same as --instruction.")] = None,
    speaker: Annotated[
        list[str] | None, VOICE(metavar="S1=FILE", help="Recording of a dialogue's speaker; repeat.")
    ] = None,
    speaker_text: Annotated[
        list[str] | None, VOICE(metavar="S1=TEXT", help="What that speaker's recording says; repeat.")
    ] = None,
    mode: Annotated[
        str | None, VOICE(help="generation, or continuation: go on from the recording, after what it says.")
    ] = None,
    preset: Annotated[
        str | None,
        VOICE(
            help="moss_tts, moss_tts_local, moss_tts_local_v1_5, ttsd, voice_generator or soundeffect; by default "
            "told from the checkpoint's name."
        ),
    ] = None,
    seed: Annotated[int | None, SAMPLING(help="The same seed gives the same audio; random by default.")] = None,
    temperature: Annotated[float | None, SAMPLING(help="Of the audio; 0 is greedy.")] = None,
    top_p: Annotated[float | None, SAMPLING(help="Of the audio: smallest set of codes with this mass.")] = None,
    top_k: Annotated[int | None, SAMPLING(help="Of the audio: number of codes to choose from; 0 is off.")] = None,
    repetition_penalty: Annotated[float | None, SAMPLING(help="Of the audio; 1 is off.")] = None,
    audio_temperature: Annotated[float | None, SAMPLING(help="The same as --temperature.")] = None,
    audio_top_p: Annotated[float | None, SAMPLING(help="The same as --top-p.")] = None,
    audio_top_k: Annotated[int | None, SAMPLING(help="The same as --top-k.")] = None,
    audio_repetition_penalty: Annotated[float | None, SAMPLING(help="The same as --repetition-penalty.")] = None,
    text_temperature: Annotated[
        float | None, SAMPLING(help="Of the channel that decides when speech ends; greedy ends it early.")
    ] = None,
    text_top_p: Annotated[float | None, SAMPLING(help="Of that channel.")] = None,
    text_top_k: Annotated[int | None, SAMPLING(help="Of that channel.")] = None,
    text_repetition_penalty: Annotated[float | None, SAMPLING(help="Of that channel.")] = None,
    n_vq_for_inference: Annotated[
        int | None, SAMPLING(metavar="CODEBOOKS", help="Use fewer codebooks: faster, coarser (Local v1.0).")
    ] = None,
    output: Annotated[
        Path,
        OUTPUT(
            "--output",
            "-o",
            metavar="FILE",
            help=".wav, .flac, .mp3 or .ogg, replaced if it is there; - is raw PCM to a pipe.",
        ),
    ] = Path("speech.wav"),
    max_tokens: Annotated[
        int | None, OUTPUT(metavar="FRAMES", help="Stop after so many frames of 80 ms; 4096 by default.")
    ] = None,
    stream: Annotated[
        bool | None,
        OUTPUT(
            help="Write the .wav while it is made: a valid file at any moment. --no-stream decodes all at the end; "
            "without either, Ctrl-C keeps what was spoken."
        ),
    ] = None,
    play: Play = False,
    streaming_interval: Annotated[float | None, OUTPUT(metavar="SECONDS", help="Audio to decode at a time.")] = None,
    quiet: Quiet = False,
    verbose: Annotated[bool, OUTPUT("--verbose", "-v", help="Sizes, speeds and memory as well.")] = False,
    runaway_guard: RunawayGuard = None,
    long_form: Annotated[bool | None, LONG("--long-form", help="Speak in segments, tied to each other.")] = None,
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
    from moss_tts.checkpoints.packaged import packaged_voice
    from moss_tts.cli.speak_live import is_live, speak_live
    from moss_tts.cli.speak_text import Source, request_options, speak_to_file
    from moss_tts.cli.terminal import Terminal

    given["text"] = read_text(text, file, piped=conversation is None and ambient_sound is None)
    given["conversation"] = read_conversation(conversation)
    given["dialogue_speakers"] = read_speakers(speaker or [], speaker_text or [])
    # The command line has its own way to show figures.
    del given["verbose"]
    source = Source(model or str(packaged_voice()), codec, dtype, revision, max_memory, codec_dtype, kv_bits)
    if is_live(output, stream, play):
        raise typer.Exit(speak_live(request_options(given), output, play, source, quiet, verbose))
    given["stream"] = stream is not False
    raise typer.Exit(speak_to_file(request_options(given), output, source, Terminal(quiet, verbose=verbose)))
