"""A request, normalised once: aliases resolved, options checked together, defaults filled in.

Only the frozen result goes inward. Sampling defaults come from the preset, then from generation_config.json,
then from the caller, which always wins.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from moss_tts.audio.references import Reference
from moss_tts.errors import ConfigError, RequestError
from moss_tts.long_form import LongFormOptions, TextSegment
from moss_tts.presets import Preset, resolve_preset
from moss_tts.prompts.dialogue import cloned_voices
from moss_tts.prompts.messages import FINAL_ROLE, AssistantMessage, Message, UserMessage, check_final_role
from moss_tts.prompts.options import CHANNELS, LONG_FORM, SAMPLING, check_options, reject_unknown_options
from moss_tts.prompts.planning import (
    BUDGETS,
    check_words,
    followed,
    plan_text,
    respeller_of,
    respelt_messages,
    tags_left_out,
    unread_in,
    usual_ties,
)
from moss_tts.prompts.token_budgets import Count, cut_of
from moss_tts.sampling import Sampling, draw_seed
from moss_tts.text.lexicon import Respeller
from moss_tts.text.preparation import TextPreparation
from moss_tts.text.prepared import prepare
from moss_tts.text.tags import SPEAKER_TAG, join_transcript
from moss_tts.text.voice_marks import refuse_voice_marks

__all__ = [
    "MossNormalizedRequest",
    "reject_unknown_options",
    "resolve_generation_request",
]

FRAME_RATE: Final = 12.5
DEFAULT_STREAMING_INTERVAL: Final = 0.5

# Options that a conversation replaces.
PROMPT_OPTIONS = frozenset(
    """
    text voice ref_audio reference ref_text instruct instruction language tokens duration_s seconds quality
    sound_event ambient_sound scene dialogue_speakers
    """.split()
)
EMPTY_PROMPT = {
    "text": "The text is empty. Give the text that is to be spoken.",
    "ambient_sound": "ambient_sound is empty. Describe the sound that is to be made.",
}
RECORDING_OPTIONS = frozenset({"ref_audio", "reference", "ref_text"})

Options = dict[str, Any]


@dataclass(frozen=True)
class MossNormalizedRequest:
    """One request as generation reads it: everything is settled, and nothing is checked or drawn again.

    Attributes:
        text: what is to be spoken as the caller wrote it, without the transcript of a prompt.
        normalizes_text: whether text and transcript are cleaned up on their way into the messages;
            not before, for long texts are cut at the paragraphs that cleaning removes.
        reference: one entry per speaker, None for a speaker without a reference.
        tokens: frames asked for.
        prompt_audio: the recording a continuation goes on from; None where there is none.
        prompt_transcript: what prompt_audio says; it stands before the text in the prompt.
        conversation: messages the caller built, instead of the fields above.
        seed: the caller's, or a random one.
        max_tokens: the caller's limit in frames; effective_max_tokens is the limit that applies.
        long_form: None when the text is spoken in one piece.
        plan: the segments of a long text; none when it is spoken in one piece.
        notes: sentences for people about what is done otherwise than asked.
        n_vq_for_inference: the number of codebooks to generate.
        runaway_guard: whether speech far longer than its text, or long silent, is ended (runaway.py).
        written: the text as the caller wrote it, if a lexicon has changed it.
        respell: replaces the words of a lexicon, in texts that come later.
        voice: the name of the registered voice that speaks.
        speed: how many times as fast as the model speaks the audio is played.
        verbose: whether each result is reported on standard error.
        adapters: (name, weight) of each adapter that the caller names.
        messages: the conversation that the model is asked to go on with, texts cleaned up.
    """

    preset: Preset
    sampling: Sampling
    seed: int
    text: str | None = None
    reference: tuple[Reference | None, ...] = ()
    instruction: str | None = None
    language: str | None = None
    tokens: int | None = None
    quality: str | None = None
    sound_event: str | None = None
    ambient_sound: str | None = None
    scene: str | None = None
    prompt_audio: Reference | None = None
    prompt_transcript: str | None = None
    conversation: tuple[Message, ...] = ()
    normalizes_text: bool = False
    n_vq_for_inference: int | None = None
    max_tokens: int = 4096
    stream: bool = False
    streaming_interval: float = DEFAULT_STREAMING_INTERVAL
    long_form: LongFormOptions | None = None
    plan: tuple[TextSegment, ...] = ()
    notes: tuple[str, ...] = ()
    runaway_guard: bool = True
    written: str | None = None
    respell: Respeller | None = field(default=None, repr=False, compare=False)
    voice: str | None = None
    speed: float = 1.0
    verbose: bool = False
    adapters: tuple[tuple[str, float], ...] = ()
    messages: tuple[Message, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "messages", self._written())

    @property
    def mode(self) -> str:
        """ "continuation" where the prompt ends with audio to go on from, else "generation"."""
        if self.conversation:
            return next(mode for mode, role in FINAL_ROLE.items() if role == self.conversation[-1].role)
        return "generation" if self.prompt_audio is None else "continuation"

    @property
    def effective_max_tokens(self) -> int:
        """Frames at which generation ends; a length asked for leaves half as much again, and 2 s."""
        if self.tokens is None:
            return self.max_tokens
        return min(self.max_tokens, math.ceil(1.5 * self.tokens) + 25)

    def tokens_of(self, segment: TextSegment) -> int | None:
        """A segment's share of the length that was asked for, by characters; None if no length was."""
        if self.tokens is None:
            return None
        return max(1, math.ceil(self.tokens * len(segment.text) / sum(len(part.text) for part in self.plan)))

    def _written(self) -> tuple[Message, ...]:
        if self.conversation:
            return tuple(self._cleaned_message(message) for message in self.conversation)
        text = self._cleaned(self.text)
        if self.prompt_transcript is not None:
            text = join_transcript(self._cleaned(self.prompt_transcript) or "", text or "")
        user = UserMessage(
            text=text,
            reference=self.reference or None,
            instruction=self.instruction,
            tokens=self.tokens,
            quality=self.quality,
            sound_event=self.sound_event,
            ambient_sound=self.ambient_sound,
            language=self.language,
            scene=self.scene,
        )
        return (user,) if self.prompt_audio is None else (user, AssistantMessage([self.prompt_audio]))

    def _cleaned(self, text: str | None) -> str | None:
        return text if text is None or not self.normalizes_text else self.preset.clean_up(text)

    def _cleaned_message(self, message: Message) -> Message:
        if isinstance(message, UserMessage):
            return replace(message, text=self._cleaned(message.text))
        return message


def resolve_generation_request(
    options: Mapping[str, object],
    preset: Preset | str,
    generation_config: Mapping[str, object] | None = None,
    resolve_n_vq: Callable[[int | None], int | None] = lambda asked: asked,
    preparation: TextPreparation | None = None,
    count_tokens: Count | None = None,
) -> MossNormalizedRequest:
    """Check the options of a request and settle what they mean.

    Args:
        options: named arguments of generate; None means not given.
        preset: the checkpoint's own variant, used unless the options name one.
        generation_config: the checkpoint's generation_config.json.
        resolve_n_vq: checks the number of codebooks that is asked for, and gives the number to generate.
        preparation: how the checkpoint wants its texts, and what it follows beside them.
        count_tokens: counts tokens, for variants that want long texts in pieces of some tokens.

    Raises:
        UnknownOptionError: an option that does not exist.
        RequestError: a value of the wrong type or range, or options that contradict each other.
        AudioError: another speed than 1, without PyAV.
        ConfigError: sampling values in generation_config that cannot be.
    """
    given = check_options(options)
    chosen = given.get("preset", preset)
    variant = chosen if isinstance(chosen, Preset) else resolve_preset(chosen)
    check_conflicts(given, variant)
    respell = respeller_of(given, variant, preparation)
    given, left_out = followed(given, preparation)
    prompt = _prompt(given, variant, respell, preparation)
    ties = _long_form(given, usual_ties(variant, preparation))
    cut = None if ties is None else cut_of(ties, not given.keys().isdisjoint(BUDGETS), variant.pieces, count_tokens)
    planned = plan_text(prompt.get("text"), ties, preparation, cut, respell)
    cleans_up = given.get("normalize_text", variant.normalizes_text)
    return MossNormalizedRequest(
        preset=variant,
        sampling=resolve_sampling(given, variant, generation_config or {}),
        seed=given["seed"] if "seed" in given else draw_seed(),
        **{**prompt, "text": planned.text},
        normalizes_text=cleans_up,
        n_vq_for_inference=resolve_n_vq(given.get("n_vq_for_inference")),
        max_tokens=given.get("max_tokens", variant.max_tokens),
        stream=given.get("stream", False),
        streaming_interval=given.get("streaming_interval", DEFAULT_STREAMING_INTERVAL),
        long_form=planned.long_form,
        plan=planned.segments,
        notes=left_out
        + variant.left_out(given)
        + planned.notes
        + unread_in(prompt.get("conversation", ()), respell)
        + (tags_left_out(planned, variant.clean_up) if cleans_up else ()),
        runaway_guard=given.get("runaway_guard", True),
        written=planned.written,
        respell=respell,
        voice=given["voice"].name if "voice" in given else None,
        speed=given.get("speed", 1.0),
        verbose=given.get("verbose", False),
        adapters=_adapters(given),
    )


def _adapters(given: Options) -> tuple[tuple[str, float], ...]:
    """The adapters of the voice, and those that the caller names, with the caller's weights."""
    named = dict(given.get("adapters", ()))
    return tuple(sorted((given["voice"].adapters_with(named) if "voice" in given else named).items()))


def check_conflicts(given: Options, preset: Preset) -> None:
    """Refuse options that contradict each other or that the preset's prompt has no place for, and voice marks."""
    _check_agree(given, "instruction", "instruct")
    for name in SAMPLING:
        _check_agree(given, name, f"audio_{name}")
    if "reference" in given and "ref_audio" in given:
        raise RequestError("reference and ref_audio are two names of the same option. Give only one of them.")
    if "scene" in given and not preset.template.scene:
        raise RequestError(
            f"The prompt of preset {preset.name} has no place for scene. Leave it out, or use preset ttsd."
        )
    preset.check_places(given)
    if "conversation" in given:
        _check_alone(given, "conversation", PROMPT_OPTIONS)
    if "dialogue_speakers" in given:
        _check_alone(given, "dialogue_speakers", RECORDING_OPTIONS | {"voice"})
    if "voice" in given:
        _check_alone(given, "voice", RECORDING_OPTIONS)
    refuse_voice_marks(given.get("text"))
    if given.get("long_form") and "text" not in given:
        raise RequestError("long_form splits a text into segments. Give text, or leave long_form out.")
    stray = sorted(LONG_FORM.keys() & given.keys())
    if stray and not given.get("long_form"):
        raise RequestError(f"{stray[0]} works only with long_form=True. Give that as well, or leave {stray[0]} out.")


def _check_agree(given: Options, name: str, alias: str) -> None:
    if name in given and alias in given and given[name] != given[alias]:
        raise RequestError(
            f"{name} and {alias} are two names of the same option, but have different values: {given[name]!r} and "
            f"{given[alias]!r}. Give only one of them."
        )


def _check_alone(given: Options, name: str, excluded: frozenset[str]) -> None:
    others = sorted(excluded & given.keys())
    if others:
        raise RequestError(f"{name} replaces {', '.join(others)}. Give one or the other.")


def resolve_sampling(given: Options, preset: Preset, generation_config: Mapping[str, object]) -> Sampling:
    """Sampling of both channels: preset, then generation_config.json, then the caller."""
    values = {name: value for name, value in generation_config.items() if value is not None}
    sampling = _updated(preset.sampling, _checked_config(values))
    return _updated(sampling, given)


def _updated(sampling: Sampling, values: Mapping[str, Any]) -> Sampling:
    """Set values of audio_* and text_*; a name without a channel means the audio, never the text."""
    bare = {f"audio_{name}": values[name] for name in SAMPLING if name in values}
    named = {**bare, **values}
    channels = {
        channel: replace(
            getattr(sampling, channel),
            **{name: named[f"{channel}_{name}"] for name in SAMPLING if f"{channel}_{name}" in named},
        )
        for channel in CHANNELS
    }
    return replace(sampling, **channels, window=values.get("repetition_window", sampling.window))


def _checked_config(values: Mapping[str, object]) -> Options:
    checks = dict(SAMPLING)
    checks |= {f"{channel}_{name}": check for channel in CHANNELS for name, check in SAMPLING.items()}
    try:
        return {name: check(name, values[name]) for name, check in checks.items() if name in values}
    except RequestError as error:
        raise ConfigError(f"generation_config.json: {error}") from error


def _prompt(given: Options, preset: Preset, respell: Respeller | None, preparation: TextPreparation | None) -> Options:
    """The prompt fields of a request, from whichever way the caller gave them."""
    if "conversation" in given:
        return _conversation_prompt(given, respell)
    fields = {name: given.get(name) for name in ("language", "quality", "sound_event", "ambient_sound", "scene")}
    if preset.prompt_field not in given:
        raise RequestError(EMPTY_PROMPT[preset.prompt_field])
    check_words(preset.prompt_field, given[preset.prompt_field])
    voice = _voice(given, preset)
    if preparation is not None and voice.get("prompt_transcript") is not None:
        voice["prompt_transcript"] = prepare(voice["prompt_transcript"], preparation).text
    return {**fields, "text": given.get("text"), "tokens": _tokens(given), **voice}


def _tokens(given: Options) -> int | None:
    """Frames asked for: tokens, else duration_s, else seconds."""
    if "tokens" in given:
        return int(given["tokens"])
    seconds = given.get("duration_s", given.get("seconds"))
    return None if seconds is None else max(1, math.ceil(seconds * FRAME_RATE))


def _voice(given: Options, preset: Preset) -> Options:
    """The fields that set the voice: instruction, references, a recording to continue."""
    instruction = given.get("instruction", given.get("instruct"))
    if "dialogue_speakers" in given:
        return {"instruction": instruction} | _dialogue_voice(given)
    reference: tuple[Reference | None, ...] = given.get("reference") or given.get("ref_audio", ())
    if "voice" in given:
        spoken = given["voice"].options(mode=given.get("mode"))
        reference, given = (spoken["ref_audio"],), given | spoken
    transcript = given.get("ref_text")
    if given.get("mode") == "continuation":
        return {"instruction": instruction} | _continued_voice(reference, transcript)
    if transcript is not None and "instruction" in preset.follows:
        instruction = "\n".join(filter(None, (instruction, f"Reference transcript: {transcript}")))
    return {"instruction": instruction, "reference": reference}


def _continued_voice(reference: tuple[Reference | None, ...], transcript: str | None) -> Options:
    if len(reference) != 1:
        raise RequestError(
            f"mode 'continuation' needs exactly one recording in reference or ref_audio, got {len(reference)}"
        )
    return {"prompt_audio": reference[0], "prompt_transcript": transcript}


def _dialogue_voice(given: Options) -> Options:
    speakers = given["dialogue_speakers"]
    if not SPEAKER_TAG.search(given.get("text", "")):
        raise RequestError("The text has no speaker tags, and dialogue_speakers needs them. Write '[S1] ... [S2] ...'.")
    cloned = cloned_voices(speakers)
    mode = "generation" if cloned is None else "continuation"
    if given.get("mode", mode) != mode:
        recordings = "without recordings" if cloned is None else "with recordings"
        raise RequestError(f"dialogue_speakers {recordings} needs mode {mode!r}, got {given['mode']!r}")
    if cloned is None:
        return {}
    audio, transcript = cloned
    references = tuple(speaker and speaker.reference for speaker in speakers)
    return {"reference": references, "prompt_audio": audio, "prompt_transcript": transcript}


def _conversation_prompt(given: Options, respell: Respeller | None) -> Options:
    messages = respelt_messages(given["conversation"], respell)
    if "mode" in given:
        check_final_role(messages, given["mode"])
    asked = [message for message in messages if isinstance(message, UserMessage)]
    for message in asked:
        if message.text is not None and message.text.strip():
            check_words("a message's text", message.text)
    return {"conversation": messages, "tokens": asked[-1].tokens if asked else None}


def _long_form(given: Options, usual: Options) -> LongFormOptions | None:
    if not given.get("long_form"):
        return None
    named = {name.removeprefix("long_form_"): given[name] for name in LONG_FORM if name in given}
    return LongFormOptions(**{**usual, **named})
