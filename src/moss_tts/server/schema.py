"""The bodies of requests, field by field. What fields mean together is settled by request.py, as everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from moss_tts.long_form import Continuity
from moss_tts.sampling import MAX_SEED

# Within these, sampling cannot overflow whatever it computes in.
Temperature = Annotated[float, Field(ge=0, le=100)]
TopP = Annotated[float, Field(gt=0, le=1)]
TopK = Annotated[int, Field(ge=0, le=100_000)]
Penalty = Annotated[float, Field(gt=0, le=100)]
Seconds = Annotated[float, Field(gt=0, le=36_000)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
NotNegative = Annotated[float, Field(ge=0, le=36_000)]

ResponseFormat = Literal["mp3", "opus", "aac", "flac", "wav", "pcm"]
AUDIO = (
    "A recording: data:audio/wav;base64,..., or voice:NAME for a registered voice, or upload:PART for a file of a "
    "multipart request. Never a path or an address."
)
Recording = Annotated[str, Field(description=AUDIO)]
MAX_RECORDINGS: Final = 16
MAX_MESSAGES: Final = 100
Recordings = Annotated[list[Recording | None], Field(max_length=MAX_RECORDINGS)]


class VoiceId(BaseModel):
    """A voice by its id, as OpenAI's clients send custom voices."""

    model_config = ConfigDict(extra="forbid")
    id: str = Field(max_length=200)


class Speaker(BaseModel):
    """One voice of a dialogue: a registered one, or a recording and what it says."""

    model_config = ConfigDict(extra="forbid")
    voice: str | None = None
    ref_audio: Recording | None = None
    reference: Recording | None = None
    ref_text: str | None = None


class Message(BaseModel):
    """A message of a conversation: fields of the user template, or a written content with its audio."""

    model_config = ConfigDict(extra="forbid")
    role: Literal["user", "assistant"]
    text: str | None = None
    reference: Recording | Recordings | None = None
    instruction: str | None = None
    tokens: Count | None = None
    quality: str | None = None
    sound_event: str | None = None
    ambient_sound: str | None = None
    language: str | None = None
    scene: str | None = None
    content: str | None = None
    audio_codes_list: list[Recording] | None = Field(
        None, max_length=MAX_RECORDINGS, description="What stands where content has <|audio|>."
    )


class SpeechBody(BaseModel):
    """A request for speech: OpenAI's fields, and those of Model.generate."""

    model_config = ConfigDict(extra="forbid")

    # ---- OpenAI's
    model: str | None = Field(None, max_length=200, description="The loaded model, or one of OpenAI's names for it.")
    input: str | None = Field(None, description="What to speak.")
    voice: str | VoiceId | None = Field(
        None,
        description="A registered voice, in capitals or not. default and OpenAI's names are the server's own voice.",
    )
    instructions: str | None = Field(None, description="How to speak, or what the voice is like.")
    response_format: ResponseFormat = Field(
        "mp3", description="pcm is 16-bit little-endian; X-Sample-Rate and X-Channels say more."
    )
    speed: float | None = Field(None, description="1 or nothing: these models have no speed. See tokens.")
    stream_format: Literal["audio", "sse"] = Field("audio", description="sse: events that carry the audio in base64.")

    # ---- what to speak
    language: str | None = Field(None, description='English name of the language: "French".')
    tokens: Count | None = Field(None, description="Length to aim at, in frames of 80 ms.")
    duration_s: Seconds | None = Field(None, description="Length to aim at, in seconds.")
    seconds: Seconds | None = Field(None, description="The same as duration_s.")
    quality: str | None = Field(None, description="A tag of the prompt.")
    sound_event: str | None = Field(None, description="A tag of the prompt.")
    ambient_sound: str | None = Field(None, description="The sound to make (SoundEffect).")
    scene: str | None = Field(None, description="Where a dialogue takes place (TTSD).")
    conversation: list[Message] | None = Field(
        None, max_length=MAX_MESSAGES, description="Messages, instead of input and the prompt's fields."
    )
    normalize_text: bool | None = Field(None, description="Clean up Markdown, odd spaces and the like.")

    # ---- voice
    ref_audio: Recording | Recordings | None = Field(None, description="The same as reference.")
    reference: Recording | Recordings | None = Field(None, description="Recordings of speakers, in order.")
    ref_text: str | None = Field(None, description="What the recording says.")
    instruction: str | None = Field(None, description="The same as instructions.")
    instruct: str | None = Field(None, description="The same as instructions.")
    dialogue_speakers: dict[str, Speaker | None] | list[Speaker | None] | None = Field(
        None, max_length=MAX_RECORDINGS, description="Speakers S1, S2, ... of a dialogue."
    )
    mode: Literal["generation", "continuation"] | None = Field(
        None, description="continuation goes on from the recording, after what it says."
    )
    preset: str | None = Field(None, max_length=200, description="The variant, if the model's name does not tell it.")

    # ---- sampling
    temperature: Temperature | None = Field(None, description="Of the audio; 0 is greedy.")
    top_p: TopP | None = Field(None, description="Of the audio: the smallest set of candidates with this mass.")
    top_k: TopK | None = Field(None, description="Of the audio: so many candidates; 0 is all.")
    repetition_penalty: Penalty | None = Field(None, description="Of the audio; 1 is none.")
    audio_temperature: Temperature | None = Field(None, description="The same as temperature.")
    audio_top_p: TopP | None = Field(None, description="The same as top_p.")
    audio_top_k: TopK | None = Field(None, description="The same as top_k.")
    audio_repetition_penalty: Penalty | None = Field(None, description="The same as repetition_penalty.")
    text_temperature: Temperature | None = Field(None, description="Of the channel that decides when speech ends.")
    text_top_p: TopP | None = Field(None, description="Of the same channel.")
    text_top_k: TopK | None = Field(None, description="Of the same channel.")
    text_repetition_penalty: Penalty | None = Field(None, description="Of the same channel.")
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = Field(None, description="The same seed, the same audio.")
    n_vq_for_inference: Annotated[int, Field(ge=1, le=64)] | None = Field(None, description="Fewer codebooks (Local).")
    max_tokens: Count | None = Field(None, description="Stop after so many frames of 80 ms.")
    runaway_guard: bool | None = Field(None, description="End speech that goes on far longer than its text.")

    # ---- output
    stream: bool | None = Field(
        None, description="false: the whole file at once, its length in its header. Otherwise audio as it is made."
    )
    streaming_interval: Annotated[float, Field(gt=0, le=60)] | None = Field(None, description="Seconds per chunk.")
    verbose: bool | None = Field(
        None,
        description="More in the events of an event stream: progress, the share of the text that is spoken; at the end "
        "samples and sample_rate.",
    )

    # ---- long texts
    long_form: bool | None = Field(None, description="Speak in segments, tied to each other.")
    long_form_min_chars: Count | None = Field(None, description="Least characters of a segment.")
    long_form_target_chars: Count | None = Field(None, description="Characters that a segment should have.")
    long_form_max_chars: Count | None = Field(None, description="Most characters of a segment.")
    long_form_prefix_audio_seconds: NotNegative | None = Field(
        None, description="Audio of a segment that the next one is given; 0 sets no such limit."
    )
    long_form_prefix_audio_max_tokens: Annotated[int, Field(ge=0, le=100_000)] | None = Field(
        None, description="The same in frames of 80 ms; the smaller of both holds, and 0 for both gives none."
    )
    long_form_prefix_text_chars: Annotated[int, Field(ge=0, le=100_000)] | None = Field(
        None, description="Characters of the text before a segment that it is given."
    )
    long_form_retry_attempts: Annotated[int, Field(ge=0, le=10)] | None = Field(
        None, description="Further attempts at a segment that failed."
    )
    long_form_continuity: Continuity | None = Field(
        None,
        description="voice: segments sound alike. continue: each goes on from the one before. none: each stands alone.",
    )
    long_form_crossfade_ms: Annotated[float, Field(ge=0, le=10_000)] | None = Field(
        None, description="Milliseconds in which segments overlap."
    )
    long_form_trim_silence: bool | None = Field(None, description="Shorten long silence between segments.")
    long_form_parallel: Annotated[int, Field(ge=1, le=64)] | None = Field(
        None, description="Segments that are spoken side by side."
    )

    # ---- OpenAI's in other requests, which clients send with this one too; none of them means other audio
    user: str | None = Field(None, max_length=1000, description="For the client's own use: not looked at.")
    safety_identifier: str | None = Field(None, max_length=1000, description="Like user.")
    prompt_cache_key: str | None = Field(None, max_length=1000, description="Not looked at: nothing is cached by it.")
    metadata: dict[str, str] | None = Field(None, max_length=16, description="Labels for the client's own use.")
    service_tier: Literal["auto", "default"] | None = Field(None, description="There is one tier.")
    store: Literal[False] | None = Field(None, description="Nothing is stored.")


# Fields of the body that are no options of generate by that name.
OPENAI_FIELDS = frozenset(
    "model input voice instructions response_format speed stream_format user safety_identifier prompt_cache_key "
    "metadata service_tier store stream verbose".split()
)


# Fields that hold recordings, wherever they stand.
RECORDINGS: Final = frozenset({"reference", "ref_audio", "audio_codes_list"})


class VoiceBody(BaseModel):
    """A voice to register."""

    # A form without its file is told so by the route.
    model_config = ConfigDict(extra="forbid", json_schema_extra={"required": ["name", "audio_sample"]})
    name: str = Field(max_length=200, description="1 to 64 of a-z, 0-9, - and _.")
    audio_sample: Recording | None = Field(None, description=f"{AUDIO} In a multipart request, a file.")
    transcript: str | None = Field(None, description="What the recording says.")
    description: str | None = Field(None, description="Words for people.")
    consent: str | None = Field(None, max_length=200, description="OpenAI's clients send it; yours to keep.")
    type: Literal["audio_sample"] = Field("audio_sample", description="The one way to make a voice here.")
    replace: bool = Field(False, description="Whether a voice of that name may be there, and goes.")


def as_options(body: SpeechBody) -> dict[str, Any]:
    """The options of generate among a body's fields, as the client gave them; input is the text."""
    given = body.model_dump(exclude_none=True, exclude=set(OPENAI_FIELDS))
    if body.input is not None:
        given["text"] = body.input
    return given


def text_size(value: object) -> int:
    """Characters of all texts in a structure but recordings, which have a limit of their own."""
    match value:
        case str():
            return len(value)
        case BaseModel():
            return sum(text_size(part) for name, part in value if name not in RECORDINGS)
        case Mapping():
            return sum(len(str(name)) + text_size(part) for name, part in value.items())
        case list():
            return sum(map(text_size, value))
        case _:
            return 0
