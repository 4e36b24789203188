"""The bodies of requests, field by field. request.py decides what fields mean together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from moss_tts.audio.tempo import FASTEST, SLOWEST
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
    "A recording: data:audio/wav;base64,... for the file itself, voice:NAME for a registered voice, or upload:PART for "
    "a file of a multipart request. Paths and addresses are refused."
)
Recording = Annotated[str, Field(description=AUDIO)]
MAX_RECORDINGS: Final = 16
MAX_MESSAGES: Final = 100
MAX_ITEMS: Final = 32
Recordings = Annotated[list[Recording | None], Field(max_length=MAX_RECORDINGS)]


class VoiceId(BaseModel):
    """A voice by its id, as OpenAI's clients send custom voices."""

    model_config = ConfigDict(extra="forbid")
    id: str = Field(max_length=200)


class Speaker(BaseModel):
    """One voice of a dialogue: a registered voice, or a recording and the words that it says."""

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
        None, max_length=MAX_RECORDINGS, description="The recordings that replace each <|audio|> of content, in order."
    )


class SpeechBody(BaseModel):
    """A request for speech: OpenAI's fields, and those of Model.generate."""

    model_config = ConfigDict(extra="forbid")

    # ---- OpenAI's
    model: str | None = Field(
        None,
        max_length=200,
        description="The name of a model of the server. OpenAI's names stand for its first one, which is the default.",
    )
    input: str | None = Field(None, description="The text to speak.")
    voice: str | VoiceId | None = Field(
        None,
        description="A registered voice. 'default' and OpenAI's names stand for the server's own voice.",
    )
    instructions: str | None = Field(None, description="A description of how to speak, or of the voice.")
    response_format: ResponseFormat = Field(
        "mp3",
        description="The format of the audio. pcm is 16-bit little-endian, described by X-Sample-Rate and X-Channels.",
    )
    speed: Annotated[float, Field(ge=SLOWEST, le=FASTEST)] | None = Field(
        None, description="How many times as fast as the model speaks the audio is, at the same pitch."
    )
    stream_format: Literal["audio", "sse"] = Field(
        "audio",
        description="The form of the answer: audio is the file, sse is events that carry the audio in base64.",
    )

    # ---- what to speak
    language: str | None = Field(None, description='The English name of the language, such as "French".')
    lexicon: Annotated[str, Field(max_length=200)] | Annotated[list[str], Field(max_length=16)] | None = Field(
        None, description="The lexicon of the server, or several of them, that say how words of the text are spoken."
    )
    tokens: Count | None = Field(None, description="The length to aim at, in frames of 80 ms.")
    duration_s: Seconds | None = Field(None, description="The length to aim at, in seconds.")
    seconds: Seconds | None = Field(None, description="This is another name of duration_s.")
    quality: str | None = Field(None, description="The quality that the prompt asks for.")
    sound_event: str | None = Field(None, description="The sound event that the prompt asks for.")
    ambient_sound: str | None = Field(None, description="The sound to make (SoundEffect).")
    scene: str | None = Field(None, description="A description of where a dialogue takes place (TTSD).")
    conversation: list[Message] | None = Field(
        None,
        max_length=MAX_MESSAGES,
        description="The messages of a conversation. They replace input and the fields of the prompt.",
    )
    normalize_text: bool | None = Field(
        None, description="Whether Markdown, repeated spaces and the like are removed from the text."
    )

    # ---- sounds by diffusion
    negative_prompt: str | None = Field(None, description="What a sound is to keep away from (SoundEffect v2).")
    steps: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        None, description="How many steps lead from noise to the sound (SoundEffect v2)."
    )
    guidance: Annotated[float, Field(ge=-100, le=100)] | None = Field(
        None, description="How closely the description is followed (SoundEffect v2); 1 takes half the time."
    )
    shift: Annotated[float, Field(ge=0.01, le=10_000)] | None = Field(
        None, description="How many of the steps are spent on the beginning (SoundEffect v2)."
    )
    duration_suffix: bool | None = Field(
        None, description="Whether the description tells the model the length (SoundEffect v2)."
    )

    # ---- voice
    ref_audio: Recording | Recordings | None = Field(None, description="This is another name of reference.")
    reference: Recording | Recordings | None = Field(
        None, description="A recording to speak in the voice of, or a list of them, one for each speaker."
    )
    ref_text: str | None = Field(None, description="The words that the recording says.")
    instruction: str | None = Field(None, description="This is another name of instructions.")
    instruct: str | None = Field(None, description="This is another name of instructions.")
    dialogue_speakers: dict[str, Speaker | None] | list[Speaker | None] | None = Field(
        None, max_length=MAX_RECORDINGS, description="The speakers of a dialogue, S1, S2 and so on."
    )
    mode: Literal["generation", "continuation"] | None = Field(
        None, description="Whether the text is spoken by itself (generation) or continues the recording (continuation)."
    )
    preset: str | None = Field(
        None, max_length=200, description="The variant of the model. By default the model's name decides."
    )

    # ---- sampling
    temperature: Temperature | None = Field(
        None, description="How much the audio varies; 0 always takes the likeliest code."
    )
    top_p: TopP | None = Field(
        None, description="Audio codes are chosen among the likeliest, which together have this probability."
    )
    top_k: TopK | None = Field(
        None, description="Audio codes are chosen among this many of the likeliest; 0 sets no limit."
    )
    repetition_penalty: Penalty | None = Field(
        None, description="Audio codes that were used before become less likely by this factor; 1 changes nothing."
    )
    repetition_window: Annotated[int, Field(ge=0)] | None = Field(
        None, description="The penalty looks at so many of the last frames (Realtime); 0 is all of them."
    )
    audio_temperature: Temperature | None = Field(None, description="This is another name of temperature.")
    audio_top_p: TopP | None = Field(None, description="This is another name of top_p.")
    audio_top_k: TopK | None = Field(None, description="This is another name of top_k.")
    audio_repetition_penalty: Penalty | None = Field(None, description="This is another name of repetition_penalty.")
    text_temperature: Temperature | None = Field(
        None, description="The temperature of the text channel, which decides when speech ends."
    )
    text_top_p: TopP | None = Field(None, description="The top_p of the text channel.")
    text_top_k: TopK | None = Field(None, description="The top_k of the text channel.")
    text_repetition_penalty: Penalty | None = Field(None, description="The repetition_penalty of the text channel.")
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] | None = Field(
        None, description="The same seed gives the same audio. The default is random."
    )
    n_vq_for_inference: Annotated[int, Field(ge=1, le=64)] | None = Field(
        None, description="How many codebooks are used (Local v1.0, Nano): fewer are faster and coarser."
    )
    max_tokens: Count | None = Field(None, description="Speech stops after this many frames of 80 ms.")
    runaway_guard: bool | None = Field(
        None, description="Whether speech is stopped that lasts far longer than its text needs, or is silent for long."
    )

    # ---- output
    stream: bool | None = Field(
        None,
        description="If false, the file is sent when it is complete. Otherwise it is sent while it is made.",
    )
    streaming_interval: Annotated[float, Field(gt=0, le=60)] | None = Field(
        None, description="How many seconds of audio a chunk has."
    )
    timestamps: Literal["segment"] | None = Field(
        None,
        description="If this is segment, the times of the segments come too: as events, or as a JSON part behind the "
        "audio in a multipart/mixed answer.",
    )
    verbose: bool | None = Field(
        None,
        description="Whether events also say progress (the share of the text that is spoken), samples and sample_rate.",
    )

    # ---- long texts
    long_form: bool | None = Field(None, description="Whether the text is spoken in segments.")
    long_form_min_chars: Count | None = Field(
        None, description="The least number of characters in a segment, if the text allows it."
    )
    long_form_target_chars: Count | None = Field(
        None, description="The number of characters that a segment should have."
    )
    long_form_max_chars: Count | None = Field(None, description="The largest number of characters in a segment.")
    long_form_prefix_audio_seconds: NotNegative | None = Field(
        None, description="How many seconds of audio the next segment is given; 0 sets no limit in seconds."
    )
    long_form_prefix_audio_max_tokens: Annotated[int, Field(ge=0, le=100_000)] | None = Field(
        None,
        description="The same limit in frames of 80 ms. The smaller limit applies; if both are 0, no audio is given.",
    )
    long_form_prefix_text_chars: Annotated[int, Field(ge=0, le=100_000)] | None = Field(
        None, description="How many characters of the text before a segment it is given."
    )
    long_form_retry_attempts: Annotated[int, Field(ge=0, le=10)] | None = Field(
        None, description="How often a failed segment is repeated."
    )
    long_form_continuity: Continuity | None = Field(
        None,
        description="Segments keep one voice (voice), continue the one before (continue) or are not linked (none).",
    )
    long_form_crossfade_ms: Annotated[float, Field(ge=0, le=10_000)] | None = Field(
        None, description="Each segment is blended into the next one over this many milliseconds."
    )
    long_form_trim_silence: bool | None = Field(
        None, description="Whether long silences between segments are shortened."
    )
    long_form_parallel: Annotated[int, Field(ge=1, le=64)] | None = Field(
        None, description="How many segments are spoken at the same time."
    )

    adapters: dict[str, float] | None = Field(
        None,
        max_length=64,
        description="The weights of the server's LoRA adapters by their names; adapters without a weight are off.",
    )

    # ---- OpenAI's in other requests, which clients send with this one too; none of them means other audio
    user: str | None = Field(
        None, max_length=1000, description="This is for the client's own use. The server ignores it."
    )
    safety_identifier: str | None = Field(
        None, max_length=1000, description="This is for the client's own use. The server ignores it as it ignores user."
    )
    prompt_cache_key: str | None = Field(
        None, max_length=1000, description="The server ignores this, because it keeps no cache of prompts."
    )
    metadata: dict[str, str] | None = Field(
        None, max_length=16, description="Labels for the client's own use. The server ignores them."
    )
    service_tier: Literal["auto", "default"] | None = Field(None, description="The server has only one tier.")
    store: Literal[False] | None = Field(None, description="The server stores nothing, so only false is allowed.")


class BatchBody(SpeechBody):
    """Several requests for speech. Its other fields hold for the items that do not have them."""

    items: list[dict[str, Any]] = Field(
        min_length=1,
        max_length=MAX_ITEMS,
        description="The requests, each with the fields of a request for speech.",
    )


# Fields of the body that are no options of generate by that name.
OPENAI_FIELDS = frozenset(
    "model input voice instructions response_format stream_format user safety_identifier prompt_cache_key "
    "metadata service_tier store stream verbose timestamps".split()
)


# Fields that hold recordings, wherever they stand.
RECORDINGS: Final = frozenset({"reference", "ref_audio", "audio_codes_list"})


class VoiceBody(BaseModel):
    """A voice to register."""

    # A form without its file is told so by the route.
    model_config = ConfigDict(extra="forbid", json_schema_extra={"required": ["name", "audio_sample"]})
    name: str = Field(max_length=200, description="The name of the voice: 1 to 64 characters of a-z, 0-9, - and _.")
    audio_sample: Recording | None = Field(None, description=f"{AUDIO} In a multipart request this is a file.")
    transcript: str | None = Field(None, description="The words that the recording says.")
    description: str | None = Field(None, description="A description of the voice for people.")
    consent: str | None = Field(
        None,
        max_length=200,
        description="OpenAI's clients send this. The server ignores it: keep the consent yourself.",
    )
    type: Literal["audio_sample"] = Field("audio_sample", description="The only way to make a voice on this server.")
    adapters: dict[str, float] | None = Field(
        None,
        max_length=64,
        description="The weights of adapters that belong to the voice, by their names; a request that names the voice "
        "uses them. A form has them as JSON.",
    )
    model: str | None = Field(
        None,
        max_length=200,
        description="The model that encodes the recording now, and that the adapters belong to. Other models encode it "
        "when they first speak in it.",
    )
    replace: bool = Field(False, description="Whether an existing voice of this name is replaced.")


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
