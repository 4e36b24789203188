"""The command line `moss-tts`: say, generate, read, serve, voices, convert, bench, inspect, demo-checkpoint.

Options are declared here; what they mean is request.py's business. Everything slow to import is imported inside
the commands, so that --help answers at once.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn, cast

import typer

from moss_tts import cli_bench, cli_convert, cli_read, cli_say, cli_serve
from moss_tts._version import __version__
from moss_tts.arguments import read_conversation, read_speakers, read_text
from moss_tts.cli_help import keep_names_whole
from moss_tts.errors import MossTTSError, RequestError
from moss_tts.malloc import use_one_heap

# click's base of usage errors, wherever this release of typer keeps its click.
UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[1])

app = typer.Typer(
    name="moss-tts",
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    use_one_heap()
    keep_names_whole()
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = app(given or ["--help"], prog_name="moss-tts", standalone_mode=False)
    except UsageError as error:
        _fail(f"{error.format_message().rstrip('.')}; see moss-tts --help.", 2)
    except (MossTTSError, OSError) as error:
        _fail(str(error), 2 if isinstance(error, RequestError) else 1)
    # A command that ends without an exit code is done.
    raise SystemExit(code or 0)


def _fail(message: str, code: int) -> NoReturn:
    print(f"moss-tts: {message}", file=sys.stderr)
    raise SystemExit(code)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"moss-tts {__version__}")
        raise typer.Exit


ABOUT = (
    "Text to speech with the MOSS-TTS models, on this machine.",
    "A checkpoint is a directory with config.json, weights, tokenizer and codec, or the id of one on the Hugging "
    "Face hub. Nothing is downloaded unless you give a hub id.",
    "[bold]First steps[/bold]",
    "Does this checkpoint run here?  moss-tts inspect DIR",
    'Speak:  moss-tts generate "Hello there." --model DIR --output hello.wav',
    "Read a book:  moss-tts read book.epub --model DIR --output book.m4b",
    "Serve other programs, and a page for people:  moss-tts serve --model DIR",
    "No checkpoint at hand? Make a tiny one that speaks noise:  moss-tts demo-checkpoint demo",
    "[bold]Exit codes[/bold]  0 done, 1 failed, 2 wrong usage, 130 interrupted",
)


@app.callback(help="\n\n".join(ABOUT))
def moss_tts(
    version: Annotated[  # its callback has acted already
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options that come before a command."""


def _panel(title: str) -> Any:
    return functools.partial(typer.Option, rich_help_panel=title)


MODEL, SPEAK, VOICE = _panel("Model"), _panel("What to speak"), _panel("Voice")
SAMPLING, OUTPUT, LONG = _panel("Sampling"), _panel("Output"), _panel("Long texts")
EXISTING = {"exists": True, "dir_okay": False}

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


@app.command(epilog="\n\n".join(EXAMPLES))
def generate(
    text: Annotated[
        str | None,
        typer.Argument(
            metavar="TEXT", help="What to speak; - is standard input, and so is a pipe.", show_default=False
        ),
    ] = None,
    model: Annotated[
        str | None, MODEL("--model", "-m", metavar="DIR|HUB_ID", help="The checkpoint; by default the packaged voice.")
    ] = None,
    codec: Annotated[
        str | None, MODEL(metavar="DIR|HUB_ID", help="The codec, if it is not beside the weights.")
    ] = None,
    dtype: Annotated[
        str | None,
        MODEL(help="float32 or bfloat16 to compute in; the checkpoint's own by default, float32 on a CPU."),
    ] = None,
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
    voice: Annotated[str | None, VOICE(metavar="NAME", help="A registered voice; see moss-tts voices --help.")] = None,
    ref_audio: Annotated[
        list[Path] | None, VOICE(metavar="FILE", help="Recording of the voice; repeat for more speakers.", **EXISTING)
    ] = None,
    reference: Annotated[list[Path] | None, VOICE(metavar="FILE", help="The same as --ref-audio.", **EXISTING)] = None,
    ref_text: Annotated[str | None, VOICE(help="What the recording says.")] = None,
    instruction: Annotated[str | None, VOICE(help="How to speak, or what the voice is like.")] = None,
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
    play: Annotated[bool, OUTPUT("--play", help="Play it while it is made, with ffplay, aplay or afplay.")] = False,
    streaming_interval: Annotated[float | None, OUTPUT(metavar="SECONDS", help="Audio to decode at a time.")] = None,
    quiet: Annotated[bool, OUTPUT("--quiet", "-q", help="Only warnings and errors.")] = False,
    verbose: Annotated[bool, OUTPUT("--verbose", "-v", help="Sizes, speeds and memory as well.")] = False,
    runaway_guard: Annotated[
        bool | None, OUTPUT(help="End speech that goes on far longer than its text, or in silence.")
    ] = None,
    long_form: Annotated[bool | None, LONG("--long-form", help="Speak in segments, tied to each other.")] = None,
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
        int | None, LONG(metavar="N", help="Further attempts at a segment that failed.")
    ] = None,
    long_form_parallel: Annotated[
        int | None, LONG(metavar="N", help="Segments spoken at a time; needs prefixes of 0.")
    ] = None,
    long_form_crossfade_ms: Annotated[float | None, LONG(metavar="N", help="Overlap of segments.")] = None,
    long_form_trim_silence: Annotated[
        bool | None, LONG("--long-form-trim-silence", help="Shorten long silence between segments.")
    ] = None,
) -> None:
    """Speak a text, or make a sound, into an audio file."""
    given = dict(locals())
    from moss_tts.live_speaking import is_live, speak_live
    from moss_tts.packaged import packaged_voice
    from moss_tts.speaking import Source, request_options, speak_to_file
    from moss_tts.terminal import Terminal

    given["text"] = read_text(text, file, piped=conversation is None and ambient_sound is None)
    given["conversation"] = read_conversation(conversation)
    given["dialogue_speakers"] = read_speakers(speaker or [], speaker_text or [])
    source = Source(model or str(packaged_voice()), codec, dtype, revision, max_memory, codec_dtype, kv_bits)
    if is_live(output, stream, play):
        raise typer.Exit(speak_live(request_options(given), output, play, source, quiet))
    given["stream"] = stream is not False
    raise typer.Exit(speak_to_file(request_options(given), output, source, Terminal(quiet)))


app.command(epilog="\n\n".join(cli_say.EXAMPLES))(cli_say.say)
app.command(epilog="\n\n".join(cli_read.EXAMPLES))(cli_read.read)
app.command(epilog="\n\n".join(cli_serve.SERVE_EXAMPLES))(cli_serve.serve)
app.add_typer(cli_serve.voices_app, name="voices")
app.command(epilog="\n\n".join(cli_convert.EXAMPLES))(cli_convert.convert)
app.command(epilog="\n\n".join(cli_bench.EXAMPLES))(cli_bench.bench)


@app.command()
def inspect(
    directory: Annotated[
        str, typer.Argument(metavar="DIR", help="A checkpoint or a codec; or a hub id that is cached here.")
    ],
    codec: Annotated[
        str | None, typer.Option(metavar="DIR|HUB_ID", help="The codec, if it is not beside the weights.")
    ] = None,
    codec_dtype: Annotated[str, typer.Option(help="float32, bfloat16 or 8bit, for the codec's decoder.")] = "float32",
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a checkpoint is, what it needs and whether it runs here.

    Reads the headers of the weight files only, and downloads nothing. Exit code 1 if it cannot run.
    """
    from moss_tts.inspection import inspect_checkpoint
    from moss_tts.inspection_text import as_json, as_text

    inspection = inspect_checkpoint(directory, codec, codec_dtype)
    print(as_json(inspection) if json else as_text(inspection))
    raise typer.Exit(0 if inspection.runs else 1)


@app.command()
def demo_checkpoint(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Written anew; must not hold anything yet.")],
    architecture: Annotated[str, typer.Option(help="delay, local or local_v1_5.")] = "delay",
    seed: Annotated[int, typer.Option(help="Of the weights.")] = 0,
) -> None:
    """Write a tiny checkpoint with random weights: complete, quick, and it speaks noise."""
    from moss_tts.demo import NOTE, write_demo_checkpoint
    from moss_tts.terminal import Terminal

    write_demo_checkpoint(directory, architecture, seed)
    Terminal().say(f"{directory}: {NOTE}")
