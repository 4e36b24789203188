"""Options that several commands have."""

from __future__ import annotations

import functools
from typing import Annotated, Any

import typer


def panel(title: str) -> Any:
    """Declares options that stand together in --help."""
    return functools.partial(typer.Option, rich_help_panel=title)


HELP = ["-h", "--help"]
EXISTING = {"exists": True, "dir_okay": False}
VOICES = {"metavar": "DIR", "help": "Of the registered voices; MOSS_TTS_VOICES or the user's own by default."}

_model, _voice, _output, _long = panel("Model"), panel("Voice"), panel("Output"), panel("Long texts, in segments")

Checkpoint = Annotated[
    str | None, _model("--model", "-m", metavar="DIR|HUB_ID", help="The checkpoint; by default the packaged voice.")
]
Codec = Annotated[str | None, _model(metavar="DIR|HUB_ID", help="The codec, if it is not beside the weights.")]
Dtype = Annotated[
    str | None, _model(help="float32 or bfloat16 to compute in; the checkpoint's own by default, float32 on a CPU.")
]
Revision = Annotated[str | None, _model(help="Branch, tag or commit of a hub id.")]
CodecDtype = Annotated[
    str | None, _model(help="float32, bfloat16 or 8bit, for the codec's decoder: less memory, a little noise.")
]
KvBits = Annotated[
    int | None, _model(metavar="8|4", help="Keep the context in so many bits: less memory for long requests.")
]
MaxMemory = Annotated[float | None, _model(metavar="GB", help="Refuse a checkpoint that needs more, and keep below.")]

RegisteredVoice = Annotated[str | None, _voice(metavar="NAME", help="A registered voice; see moss-tts voices --help.")]
RefText = Annotated[str | None, _voice(help="What the recording says.")]
Instruction = Annotated[str | None, _voice(help="How to speak, or what the voice is like.")]

Play = Annotated[bool, _output("--play", help="Play it while it is made, with ffplay, aplay or afplay.")]
Quiet = Annotated[bool, _output("--quiet", "-q", help="Only warnings and errors.")]

MinChars = Annotated[int | None, _long(metavar="N", help="Least characters of a segment.")]
TargetChars = Annotated[int | None, _long(metavar="N", help="Characters to aim at.")]
MaxChars = Annotated[int | None, _long(metavar="N", help="Most characters of a segment.")]
Continuity = Annotated[
    str | None, _long(metavar="WORD", help="voice: same voice; continue: as one recording; none: untied.")
]
PrefixAudioSeconds = Annotated[float | None, _long(metavar="N", help="Audio of a segment that the next one hears.")]
PrefixAudioMaxTokens = Annotated[int | None, _long(metavar="N", help="The same in frames; the smaller one rules.")]
PrefixTextChars = Annotated[int | None, _long(metavar="N", help="Text of a segment that the next one sees.")]
RetryAttempts = Annotated[
    int | None, _long(metavar="N", help="Further attempts at a segment that failed; 2 by default.")
]
Parallel = Annotated[int | None, _long(metavar="N", help="Segments spoken at a time; needs prefixes of 0.")]
CrossfadeMs = Annotated[float | None, _long(metavar="N", help="Overlap of segments.")]
TrimSilence = Annotated[bool | None, _long("--long-form-trim-silence", help="Shorten long silence between segments.")]
RunawayGuard = Annotated[
    bool | None,
    panel("Runaway speech")(help="End speech that goes on far longer than its text, or in silence."),
]
