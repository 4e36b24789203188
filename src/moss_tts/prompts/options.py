"""The options of a request, one by one: names, types, ranges. request.py decides what they mean together.

GenerateOptions names them for type checkers, OPTIONS holds the check of each. A check takes an option's name and its
value, and returns the value as the request keeps it. Blank text counts as absent and comes back as None.
"""

from __future__ import annotations

import difflib
import inspect
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypedDict, TypeVar

from moss_tts.audio.references import Reference, as_references, is_list
from moss_tts.audio.tempo import FASTEST, SLOWEST, require_tempo
from moss_tts.errors import RequestError, UnknownOptionError, shown
from moss_tts.long_form import CONTINUITIES, Continuity
from moss_tts.presets import PresetName
from moss_tts.prompts.dialogue import parse_speakers
from moss_tts.prompts.messages import FINAL_ROLE, Message, Mode, as_message
from moss_tts.sampling import MAX_SEED
from moss_tts.strict import LEAST_NUMBER, MOST_INTEGER, MOST_NUMBER, NUMBERS, is_integer, is_number
from moss_tts.text.cleanup import check_text
from moss_tts.text.lexicon import Lexicon
from moss_tts.voices import Voice, Voices


class GenerateOptions(TypedDict, total=False):
    """The named options of `Model.generate`; None is the same as not given.

    What to speak: text, language, lexicon (a file, a mapping, a Lexicon, or a list of these), tokens | duration_s |
    seconds (length), quality, sound_event, ambient_sound, scene, conversation, normalize_text. Voice: voice (a
    registered one) | ref_audio | reference, ref_text, instruct | instruction, dialogue_speakers, mode ("generation" |
    "continuation"), preset. Sampling: temperature, top_p, top_k and repetition_penalty (audio channels; also as
    audio_*), repetition_window (the last frames that the penalty of Realtime looks at; 0 is all), text_* for the text
    channel, seed, n_vq_for_inference, max_tokens (frames of 80 ms), runaway_guard.
    Output: speed, stream, streaming_interval (seconds), verbose. Long texts: long_form and its long_form_* options.
    Adapters: adapters, weights by their names.
    """

    voice: Any
    ref_audio: Any
    reference: Any
    ref_text: str | None
    instruct: str | None
    instruction: str | None
    language: str | None
    lexicon: Any
    tokens: int | None
    duration_s: float | None
    seconds: float | None
    quality: str | None
    sound_event: str | None
    ambient_sound: str | None
    scene: str | None
    adapters: Mapping[str, float] | None
    preset: PresetName | None
    mode: Mode | None
    conversation: Any
    dialogue_speakers: Any
    normalize_text: bool | None
    n_vq_for_inference: int | None
    temperature: float | None
    top_p: float | None
    top_k: int | None
    repetition_penalty: float | None
    repetition_window: int | None
    audio_temperature: float | None
    audio_top_p: float | None
    audio_top_k: int | None
    audio_repetition_penalty: float | None
    text_temperature: float | None
    text_top_p: float | None
    text_top_k: int | None
    text_repetition_penalty: float | None
    seed: int | None
    max_tokens: int | None
    stream: bool | None
    streaming_interval: float | None
    runaway_guard: bool | None
    speed: float | None
    verbose: bool | None
    long_form: bool | None
    long_form_min_chars: int | None
    long_form_target_chars: int | None
    long_form_max_chars: int | None
    long_form_prefix_audio_seconds: float | None
    long_form_prefix_audio_max_tokens: int | None
    long_form_prefix_text_chars: int | None
    long_form_retry_attempts: int | None
    long_form_continuity: Continuity | None
    long_form_crossfade_ms: float | None
    long_form_trim_silence: bool | None
    long_form_parallel: int | None


F = TypeVar("F", bound=Callable[..., Any])


def spells_out(kinds: Mapping[str, Any]) -> Callable[[F], F]:
    """Show each option in the signature of a function with `**options`: notebooks complete names from it.

    Args:
        kinds: the options, with the type of each.
    """
    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
        for name, kind in kinds.items()
    ]

    def show(function: F) -> F:
        signature = inspect.signature(function)
        named = [one for one in signature.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
        function.__signature__ = signature.replace(parameters=[*named, *options])  # type: ignore[attr-defined]
        return function

    return show


spells_out_options = spells_out(GenerateOptions.__annotations__)


Check = Callable[[str, Any], Any]


def reject_unknown_options(given: Iterable[str], known: Iterable[str]) -> None:
    """Refuse options that do not exist, and name the nearest that does.

    Raises:
        UnknownOptionError: there is such an option.
    """
    names = list(known)
    for option in given:
        if option not in names:
            near = difflib.get_close_matches(option, names, n=1, cutoff=0.0)
            raise UnknownOptionError(f"unknown option {option!r}; did you mean {near[0]!r}?")


def text(name: str, value: Any) -> str | None:
    """A text; None if it is blank."""
    return given if (given := check_text(name, value)).strip() else None


def flag(name: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise RequestError(f"{name} must be True or False, got {shown(value)}")
    return value


def integer(least: int, most: int = MOST_INTEGER) -> Check:
    """A check for integers in least..most."""

    def check(name: str, value: Any) -> int:
        if not is_integer(value, least, most):
            raise RequestError(f"{name} must be an integer in {least}..{most}, got {shown(value)}")
        return int(value)

    return check


def number(allowed: str, fits: Callable[[float], bool]) -> Check:
    """A check for numbers that fit, and are neither too large nor too near 0 to compute with."""

    def check(name: str, value: Any) -> float:
        if not is_number(value) or not fits(value):
            raise RequestError(f"{name} must be {allowed}, got {shown(value)}")
        return float(value)

    return check


def choice(allowed: Iterable[str]) -> Check:
    """A check for one of a few words."""
    words = tuple(allowed)

    def check(name: str, value: Any) -> str:
        if not isinstance(value, str) or value not in words:
            raise RequestError(f"{name} must be one of {', '.join(map(repr, words))}, got {shown(value)}")
        return value

    return check


def references(name: str, value: object) -> tuple[Reference | None, ...] | None:
    """A reference or a list of them; a single one becomes one entry, None and blank entries keep their place."""
    entries = value if is_list(value) else [value]
    given = [None if isinstance(entry, str) and not entry.strip() else entry for entry in entries]  # type: ignore[attr-defined]
    present = as_references(given, name)
    return present if any(entry is not None for entry in present) else None


def speed(name: str, value: Any) -> float:
    """A speed; other ones than 1 need PyAV."""
    checked: float = number(f"a number in {SLOWEST:g}..{FASTEST:g}", lambda x: SLOWEST <= x <= FASTEST)(name, value)
    if checked != 1:
        require_tempo()
    return checked


def voice(name: str, value: object) -> Voice:
    """A registered voice, or the name of one."""
    if not isinstance(value, str | Voice):
        raise RequestError(f"{name} must be the name of a registered voice, got {shown(value)}")
    return Voices()[value] if isinstance(value, str) else value


def adapters(name: str, value: object) -> tuple[tuple[str, float], ...]:
    """The weights of adapters, as (adapter, weight) in the order of their names."""
    if not isinstance(value, Mapping) or not all(isinstance(adapter, str) for adapter in value):
        raise RequestError(f'{name} must be a mapping of names to weights, such as {{"NAME": 1.0}}, got {shown(value)}')
    for adapter, weight in value.items():
        if not is_number(weight):
            raise RequestError(f"{name}: the weight of {shown(adapter)} must be {NUMBERS}, got {shown(weight)}")
    return tuple(sorted((adapter, float(weight)) for adapter, weight in value.items()))


def lexicon(name: str, value: Any) -> Lexicon:
    """A lexicon from a file, a mapping of words to spoken forms, or a list of them; of these, later ones hold first."""
    if isinstance(value, Lexicon):
        return value
    if isinstance(value, str | os.PathLike):
        return Lexicon.read(value)
    if isinstance(value, Mapping):
        return Lexicon.of(value)
    if not isinstance(value, list | tuple):
        raise RequestError(
            f"{name} must be a file, a mapping of words to spoken forms, or a list of them, got {shown(value)}"
        )
    return Lexicon.joined(lexicon(name, part) for part in value)


def conversation(name: str, value: Any) -> tuple[Message, ...]:
    """Messages, from objects or dicts."""
    messages = [value] if isinstance(value, Message | Mapping) else value
    if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
        raise RequestError(f"{name} must be a list of messages, got {shown(value)}")
    return tuple(as_message(message) for message in messages)


POSITIVE = number(f"a number in {LEAST_NUMBER:g}..{MOST_NUMBER:g}", lambda value: value > 0)
NOT_NEGATIVE = number(f"0, or a number in {LEAST_NUMBER:g}..{MOST_NUMBER:g}", lambda value: value >= 0)
SAMPLING: Mapping[str, Check] = {
    "temperature": NOT_NEGATIVE,
    "top_p": number(f"a number in {LEAST_NUMBER:g}..1", lambda value: 0 < value <= 1),
    "top_k": integer(0),
    "repetition_penalty": POSITIVE,
}
CHANNELS = ("audio", "text")

LONG_FORM: Mapping[str, Check] = {
    "long_form_min_chars": integer(1),
    "long_form_target_chars": integer(1),
    "long_form_max_chars": integer(1),
    "long_form_prefix_audio_seconds": NOT_NEGATIVE,
    "long_form_prefix_audio_max_tokens": integer(0),
    "long_form_prefix_text_chars": integer(0),
    "long_form_retry_attempts": integer(0),
    "long_form_continuity": choice(CONTINUITIES),
    "long_form_crossfade_ms": NOT_NEGATIVE,
    "long_form_trim_silence": flag,
    "long_form_parallel": integer(1),
}

OPTIONS: Mapping[str, Check] = {
    "text": text,
    "voice": voice,
    "ref_audio": references,
    "reference": references,
    "ref_text": text,
    "instruct": text,
    "instruction": text,
    "language": text,
    "lexicon": lexicon,
    "tokens": integer(1),
    "duration_s": POSITIVE,
    "seconds": POSITIVE,
    "quality": text,
    "sound_event": text,
    "ambient_sound": text,
    "scene": text,
    "adapters": adapters,
    "preset": text,
    "mode": choice(FINAL_ROLE),
    "conversation": conversation,
    "dialogue_speakers": parse_speakers,
    "normalize_text": flag,
    "n_vq_for_inference": integer(1),
    **SAMPLING,
    **{f"{channel}_{name}": check for channel in CHANNELS for name, check in SAMPLING.items()},
    "repetition_window": integer(0),
    "seed": integer(0, MAX_SEED),
    "max_tokens": integer(1),
    "stream": flag,
    "streaming_interval": POSITIVE,
    "long_form": flag,
    **LONG_FORM,
    "runaway_guard": flag,
    "speed": speed,
    "verbose": flag,
}


def check_options(given: Mapping[str, object]) -> dict[str, Any]:
    """The options that have a value, each checked by itself; None and blank text are left out.

    Raises:
        UnknownOptionError: a name that is not in OPTIONS.
        RequestError: a value of the wrong type or out of range.
    """
    reject_unknown_options(given, OPTIONS)
    checked = {name: OPTIONS[name](name, value) for name, value in given.items() if value is not None}
    return {name: value for name, value in checked.items() if value is not None}
