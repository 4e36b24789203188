"""A request for a sound: its options checked, defaults filled in, then frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, ClassVar, TypedDict

import numpy as np

from moss_tts.diffusion.config import SoundConfig
from moss_tts.diffusion.description import described
from moss_tts.errors import RequestError, shown
from moss_tts.prompts import options as speech
from moss_tts.prompts.options import Check
from moss_tts.sampling import MAX_SEED, draw_seed

STEPS, GUIDANCE, SHIFT, SECONDS = 100, 4.0, 5.0, 10.0
MOST_STEPS, LEAST_SECONDS = 1000, 0.1
MOST_GUIDANCE, LEAST_SHIFT, MOST_SHIFT = 100.0, 0.01, 1e4
# Far more than 512 tokens take; longer texts are refused before they are cleaned.
MOST_CHARACTERS = 20_000


class SoundOptions(TypedDict, total=False):
    """The named options of `SoundModel.generate`; None is the same as not given.

    What to make: ambient_sound (the description; it can also be the first argument, text), negative_prompt (what the
    sound is guided away from), seconds | duration_s (10 by default), duration_suffix (False leaves the duration out
    of the description, so that the model chooses it). How: steps (100), guidance (4), shift (5), seed, noise (an array
    (C, T) to begin from, instead of a seed). verbose: report the result on standard error.
    """

    ambient_sound: str | None
    seconds: float | None
    duration_s: float | None
    negative_prompt: str | None
    duration_suffix: bool | None
    steps: int | None
    guidance: float | None
    shift: float | None
    seed: int | None
    noise: Any
    verbose: bool | None


def _noise(name: str, value: Any) -> np.ndarray:
    try:
        array = np.array(value, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise RequestError(f"{name} must be an array of numbers, got {type(value).__name__}") from error
    if not np.isfinite(array).all():
        raise RequestError(f"{name} must hold finite numbers only")
    return array


def _within(least: float, most: float) -> Check:
    return speech.number(f"a number in {least:g}..{most:g}", lambda value: isfinite(value) and least <= value <= most)


# Each model has its own longest sound, so seconds_of names the range.
_SECONDS = speech.number("a number of seconds", isfinite)
OPTIONS: Mapping[str, Check] = {
    "text": speech.text,
    "ambient_sound": speech.text,
    "seconds": _SECONDS,
    "duration_s": _SECONDS,
    "negative_prompt": speech.text,
    "duration_suffix": speech.flag,
    "steps": speech.integer(1, MOST_STEPS),
    "guidance": _within(-MOST_GUIDANCE, MOST_GUIDANCE),
    "shift": _within(LEAST_SHIFT, MOST_SHIFT),
    "seed": speech.integer(0, MAX_SEED),
    "noise": _noise,
    "verbose": speech.flag,
}
# Values of options of speech that ask for nothing, and so need no warning.
_NOTHING_ASKED: tuple[Any, ...] = (None, False, {}, [], ())
# Options of speech with a meaning that a sound cannot do without.
_REFUSED = {
    "stream": "A sound is complete only after the last step, so it cannot be streamed. Leave stream out.",
    "conversation": "This model makes sounds and takes no conversation. Describe the sound in ambient_sound.",
}


@dataclass(frozen=True, eq=False)
class SoundRequest:
    """One sound, as it will be made.

    Attributes:
        sent: the description as it is sent: with the duration, not cleaned yet.
        negative: what the sound is guided away from; "" is nothing.
        seconds: its length.
        samples: the same in samples.
        steps: steps from noise to sound.
        guidance: how far it is guided; 1 is not at all.
        shift: how many of the steps fall on the beginning.
        seed: the seed of its noise.
        noise: float32 (C, T) to begin from; None is the noise of the seed.
        verbose: whether the result is reported on standard error.
        notes: sentences for people about what is done otherwise than asked.
        voice: always None; sounds have no voice.
    """

    sent: str
    negative: str
    seconds: float
    samples: int
    steps: int
    guidance: float
    shift: float
    seed: int
    noise: np.ndarray | None
    verbose: bool
    notes: tuple[str, ...]
    voice: str | None = None

    # What those that serve requests of speech ask of each: a sound has no text, no parts and no speed.
    text: ClassVar[None] = None
    tokens: ClassVar[None] = None
    long_form: ClassVar[None] = None
    written: ClassVar[None] = None
    conversation: ClassVar[tuple[()]] = ()
    plan: ClassVar[tuple[()]] = ()
    speed: ClassVar[float] = 1.0

    @property
    def ambient_sound(self) -> str:
        """The description as it is sent."""
        return self.sent

    @property
    def way(self) -> tuple[object, ...]:
        """What sounds must have in common to be made together."""
        return self.steps, self.guidance, self.shift, self.negative


def resolve_sound_request(options: Mapping[str, Any], config: SoundConfig) -> SoundRequest:
    """Check the options of a request, and settle what they mean.

    Raises:
        UnknownOptionError: an option that neither sounds nor speech have.
        RequestError: a bad value, or options that contradict each other.
    """
    speech.reject_unknown_options(options, [*OPTIONS, *(name for name in speech.OPTIONS if name not in OPTIONS)])
    for name, why in _REFUSED.items():
        if options.get(name) not in _NOTHING_ASKED:
            raise RequestError(why)
    asked = {name: value for name, value in options.items() if name in OPTIONS and value is not None}
    given = {name: value for name, value in _checked(asked).items() if value is not None}
    seconds = seconds_of(given, config.pipeline.max_seconds)
    prompt = _prompt(given)
    return SoundRequest(
        sent=described(prompt, seconds if given.get("duration_suffix", True) else None),
        negative=given.get("negative_prompt", ""),
        seconds=seconds,
        samples=samples_of(seconds, config),
        steps=given.get("steps", STEPS),
        guidance=given.get("guidance", GUIDANCE),
        shift=given.get("shift", SHIFT),
        seed=given["seed"] if "seed" in given else draw_seed(),
        noise=_fitting(given.get("noise"), config),
        verbose=given.get("verbose", False),
        notes=tuple(
            f"This model makes sounds by diffusion, for which {name} has no meaning, so it was left out."
            for name, value in options.items()
            if name not in OPTIONS and value not in _NOTHING_ASKED
        ),
    )


def _checked(asked: Mapping[str, Any]) -> dict[str, Any]:
    return {name: OPTIONS[name](name, value) for name, value in asked.items()}


def _prompt(given: Mapping[str, Any]) -> str:
    """The description, under whichever of its two names it was given."""
    named = [given[name] for name in ("ambient_sound", "text") if name in given]
    if len(set(named)) > 1:
        raise RequestError("text and ambient_sound are two names of the description here. Give only one of them.")
    if not named:
        raise RequestError("ambient_sound is empty. Describe the sound that is to be made.")
    for name, text in (("ambient_sound", named[0]), ("negative_prompt", given.get("negative_prompt", ""))):
        if len(text) > MOST_CHARACTERS:
            raise RequestError(f"{name} has {len(text)} characters; at most {MOST_CHARACTERS} are allowed.")
    return str(named[0])


def seconds_of(given: Mapping[str, Any], most: int) -> float:
    """The length of a sound, in tenths of a second.

    Raises:
        RequestError: it is out of range, or given twice.
    """
    named = [given[name] for name in ("seconds", "duration_s") if name in given]
    if len(set(named)) > 1:
        raise RequestError("seconds and duration_s are two names of the same option. Give only one of them.")
    asked = named[0] if named else min(SECONDS, float(most))
    seconds = round(asked, 1)
    if not LEAST_SECONDS <= seconds <= most:
        raise RequestError(f"seconds must be in {LEAST_SECONDS}..{most} for this model, got {shown(asked)}.")
    return seconds


def samples_of(seconds: float, config: SoundConfig) -> int:
    """Samples of a sound. Upstream cuts a fraction off that only floating point has, and loses a sample of some."""
    return min(round(seconds * config.sample_rate), config.latent_frames * config.autoencoder.hop)


def _fitting(noise: np.ndarray | None, config: SoundConfig) -> np.ndarray | None:
    shape = config.transformer.channels, config.latent_frames
    if noise is not None and noise.shape != shape:
        raise RequestError(f"noise must have the shape (channels, latents) = {shape}, got {noise.shape}.")
    return noise
