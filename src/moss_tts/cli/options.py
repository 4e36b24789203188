"""Options that several commands have, and how the end of a command's help is written."""

from __future__ import annotations

import functools
from typing import Annotated, Any

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
    "help": "Keep the registered voices in this directory. The default is MOSS_TTS_VOICES, or a directory of the user.",
}

_model, _voice, _output, _long = panel("Model"), panel("Voice"), panel("Output"), panel("Long texts, in segments")

Checkpoint = Annotated[
    str | None,
    _model("--model", "-m", metavar="DIR|HUB_ID", help="Use this checkpoint. The default is the packaged voice."),
]
Codec = Annotated[
    str | None,
    _model(metavar="DIR|HUB_ID", help="Use this codec. It is needed only where none lies beside the weights."),
]
Dtype = Annotated[
    str | None,
    _model(
        metavar="TYPE",
        help="Compute in float32 or bfloat16. The default is the checkpoint's own type, and float32 on a CPU.",
    ),
]
Revision = Annotated[str | None, _model(metavar="NAME", help="Take this branch, tag or commit of a hub id.")]
CodecDtype = Annotated[
    str | None,
    _model(
        metavar="TYPE",
        help="Keep the codec's decoder in float32, bfloat16 or 8bit. Fewer bits take less memory and add some noise.",
    ),
]
KvBits = Annotated[
    int | None, _model(metavar="8|4", help="Keep the context in 8 or 4 bits, so that long requests take less memory.")
]
MaxMemory = Annotated[
    float | None, _model(metavar="GB", help="Refuse a checkpoint that needs more memory, and stay below this.")
]

RegisteredVoice = Annotated[
    str | None, _voice(metavar="NAME", help="Speak in this registered voice. See moss-tts voices list.")
]
RefText = Annotated[str | None, _voice(metavar="TEXT", help="Write here what the recording says.")]
Instruction = Annotated[str | None, _voice(metavar="TEXT", help="Describe how to speak, or what the voice is like.")]

Play = Annotated[bool, _output("--play", help="Play the audio while it is made, with ffplay, aplay or afplay.")]
Quiet = Annotated[bool, _output("--quiet", "-q", help="Show only warnings and errors.")]

MinChars = Annotated[
    int | None, _long(metavar="N", help="Make no segment shorter than N characters, where the text allows it.")
]
TargetChars = Annotated[int | None, _long(metavar="N", help="Make segments about N characters long.")]
MaxChars = Annotated[int | None, _long(metavar="N", help="Make no segment longer than N characters.")]
Continuity = Annotated[
    str | None,
    _long(
        metavar="WORD",
        help="Tie segments to each other: voice keeps the voice, continue goes on as one recording does, none ties "
        "nothing.",
    ),
]
PrefixAudioSeconds = Annotated[
    float | None, _long(metavar="SECONDS", help="Let each segment hear so much of the one before it.")
]
PrefixAudioMaxTokens = Annotated[
    int | None, _long(metavar="FRAMES", help="Set the same limit in frames of 80 ms. The smaller limit holds.")
]
PrefixTextChars = Annotated[
    int | None, _long(metavar="N", help="Let each segment see the last N characters of the one before it.")
]
RetryAttempts = Annotated[
    int | None,
    _long(
        metavar="N",
        help="Try a segment that failed up to N more times. The default is 2 in moss-tts read, and 0 elsewhere.",
    ),
]
Parallel = Annotated[
    int | None, _long(metavar="N", help="Speak N segments side by side. The prefixes have to be 0 for that.")
]
CrossfadeMs = Annotated[float | None, _long(metavar="MS", help="Let segments overlap by so many milliseconds.")]
TrimSilence = Annotated[bool | None, _long("--long-form-trim-silence", help="Shorten long silence between segments.")]
RunawayGuard = Annotated[
    bool | None,
    panel("Runaway speech")(
        help="End speech that lasts far longer than its text, or is silent for long. On by default."
    ),
]
