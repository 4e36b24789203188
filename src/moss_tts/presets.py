"""The variants of MOSS-TTS as data: how each samples, and how each wants its prompt written.

A rule that differs between variants is a field here, so that no other code asks for a variant's name.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import regex

from moss_tts.errors import RequestError, shown
from moss_tts.sampling import ChannelSampling, Sampling
from moss_tts.text.cleanup import normalize_text
from moss_tts.text.own_marks import in_own_marks

# Greedy text, or a repetition penalty on the text channel, ends speech early.
TEXT_SAMPLING = ChannelSampling(temperature=1.5, top_p=1.0, top_k=50, repetition_penalty=1.0)


@dataclass(frozen=True)
class PromptTemplate:
    """What a variant's user message has beside the common blocks.

    Attributes:
        scene: whether a `- Scene:` block stands between Language and Text.
        tokens: whether `- Tokens:` shows the length asked for; otherwise it always says None.
        names_silent_speakers: whether a reference of None is written `[S2]: None`; otherwise it is left out
            and its number stays free.
    """

    scene: bool = False
    tokens: bool = True
    names_silent_speakers: bool = False


@dataclass(frozen=True)
class Pieces:
    """How a variant wants long texts cut: each piece as if it were alone, in the same voice, with silence between them.

    Attributes:
        most_tokens: the most tokens of a piece.
        silence: seconds after a piece.
        silence_after_few: seconds after a piece of few words.
        few_words: the most words of such a piece. Spaces separate words, so nearly every Chinese piece is one.
    """

    most_tokens: int
    silence: float
    silence_after_few: float
    few_words: int

    def silence_after(self, text: str) -> float:
        """Seconds of silence after a piece."""
        return self.silence_after_few if len(text.split()) <= self.few_words else self.silence


PLAIN_TEMPLATE = PromptTemplate()
# Options that need a message of the user, those of a length, and those of a text channel.
OF_MESSAGES = frozenset(
    """
    instruct instruction language ref_text tokens duration_s seconds quality sound_event ambient_sound scene
    conversation dialogue_speakers
    """.split()
)
LENGTHS = frozenset({"tokens", "duration_s", "seconds"})
OF_TEXT_CHANNEL = frozenset("text_temperature text_top_p text_top_k text_repetition_penalty".split())
# Speech that goes on from a recording.
CONTINUED = "continuation"
# What most variants follow beside their prompt; text/preparation.py says what one checkpoint follows of it.
SPEECH = frozenset({"instruction", "reference", "language", "length"})
TTSD_TEMPLATE = PromptTemplate(scene=True, tokens=False, names_silent_speakers=True)


@dataclass(frozen=True)
class Preset:
    """One variant.

    Attributes:
        name: the name requests use.
        audio: sampling of the audio channels.
        text: sampling of the text channel.
        prompt_field: the request field that has to be given; "text" but for SoundEffect.
        normalizes_text: whether text is cleaned up before it enters the prompt.
        clean_up: the function that cleans it up.
        max_tokens: frames after which speech, or a segment of it, ends if the caller names no limit.
        pieces: how long texts are cut; None: by characters, and linked as the long_form options say.
        template: the shape of the user message.
        reads_ipa: whether it reads words that are written by their sounds, /IPA/.
        follows: what it was trained to follow beside prompt_field; anything else may be asked for, to little effect.
        no_place_for: options for which its prompt has no place at all, and "continuation" if it goes on from nothing.
        window: the last frames that the repetition penalty looks at; None if it always looks at all.
    """

    name: str
    audio: ChannelSampling
    text: ChannelSampling = TEXT_SAMPLING
    prompt_field: str = "text"
    normalizes_text: bool = True
    clean_up: Callable[[str], str] = normalize_text
    max_tokens: int = 4096
    pieces: Pieces | None = None
    template: PromptTemplate = PLAIN_TEMPLATE
    reads_ipa: bool = False
    follows: frozenset[str] = SPEECH
    no_place_for: frozenset[str] = frozenset()
    window: int | None = None

    @property
    def draws_text(self) -> bool:
        """Whether the model draws the tokens of its text channel, and is not given them."""
        return not OF_TEXT_CHANNEL <= self.no_place_for

    @property
    def sampling(self) -> Sampling:
        """Both channels, before generation_config.json and the caller."""
        return Sampling(text=self.text, audio=self.audio, window=self.window or 0)

    def check_places(self, given: Mapping[str, object]) -> None:
        """Refuse options that the prompt has no place for, and a window of the penalty where there is none.

        Raises:
            RequestError: there are some; the message names them.
        """
        lost = sorted(self.no_place_for & given.keys())
        if CONTINUED in self.no_place_for:
            continued = {"mode": "continuation", "long_form_continuity": "continue"}
            lost += [f"{name} {value!r}" for name, value in continued.items() if given.get(name) == value]
        if lost:
            raise RequestError(f"The prompt of preset {self.name} has no place for {', '.join(lost)}. Leave it out.")
        if self.window is None and "repetition_window" in given:
            raise RequestError(
                f"repetition_window is for preset realtime; {self.name} has a penalty that looks at all frames. "
                "Leave it out."
            )

    def left_out(self, given: Mapping[str, object]) -> tuple[str, ...]:
        """Sentences on options that the prompt leaves out; the transcript of a registered voice goes without saying."""
        notes = []
        if "ref_text" in given and given.get("mode") != CONTINUED and "instruction" not in self.follows:
            notes.append(f"Preset {self.name} reads ref_text in mode 'continuation' only, so it was left out.")
        if not self.template.tokens and not LENGTHS.isdisjoint(given):
            notes.append(f"The prompt of preset {self.name} has no place for a length, which only limits the speech.")
        return tuple(notes)


# The names, for type checkers and for editors that complete them.
PresetName: TypeAlias = Literal[
    "moss_tts", "moss_tts_local", "moss_tts_local_v1_5", "nano", "realtime", "ttsd", "voice_generator", "soundeffect"
]

PRESETS = {
    preset.name: preset
    for preset in (
        Preset("moss_tts", ChannelSampling(1.7, 0.8, 25, 1.0), reads_ipa=True),
        # Upstream cleans text up in Delay's processors only.
        Preset("moss_tts_local", ChannelSampling(1.0, 0.95, 50, 1.1), normalizes_text=False, reads_ipa=True),
        # Upstream's defaults for Local v1.5; its text channel chooses between going on and ending.
        Preset(
            "moss_tts_local_v1_5",
            ChannelSampling(1.7, 0.8, 25, 1.0),
            text=ChannelSampling(temperature=1.0, top_p=1.0, top_k=50, repetition_penalty=1.0),
            normalizes_text=False,
            reads_ipa=True,
        ),
        # What upstream's apps, its ONNX runtime and other ports use; the model's own defaults are wilder.
        Preset(
            "nano",
            ChannelSampling(0.8, 0.95, 25, 1.2),
            text=ChannelSampling(temperature=1.0, top_p=1.0, top_k=50, repetition_penalty=1.0),
            clean_up=in_own_marks,
            max_tokens=375,
            # Upstream's apps all cut so: 75 tokens are about 20 s of speech.
            pieces=Pieces(most_tokens=75, silence=0.24, silence_after_few=0.40, few_words=4),
            template=PromptTemplate(tokens=False),
            follows=frozenset({"reference"}),
        ),
        # Upstream's defaults. It reads plain text and one voice, so that clean-up and fields have no place.
        Preset(
            "realtime",
            ChannelSampling(0.8, 0.6, 30, 1.1),
            window=50,
            template=PromptTemplate(tokens=False),
            normalizes_text=False,
            follows=frozenset({"reference"}),
            no_place_for=OF_MESSAGES | OF_TEXT_CHANNEL | {CONTINUED},
        ),
        Preset(
            "ttsd",
            ChannelSampling(1.1, 0.9, 50, 1.1),
            normalizes_text=False,
            template=TTSD_TEMPLATE,
            follows=frozenset({"instruction", "language", "dialogue", "scene"}),
        ),
        Preset("voice_generator", ChannelSampling(1.5, 0.6, 50, 1.1), follows=frozenset({"instruction", "length"})),
        Preset(
            "soundeffect",
            ChannelSampling(1.5, 0.6, 50, 1.2),
            prompt_field="ambient_sound",
            follows=frozenset({"length"}),
        ),
    )
}

ALIASES = {
    "delay": "moss_tts",
    "moss_tts_delay": "moss_tts",
    "local": "moss_tts_local",
    "local_v1_5": "moss_tts_local_v1_5",
    "moss_tts_nano": "nano",
    "moss_tts_realtime": "realtime",
    "moss_ttsd": "ttsd",
    "moss_voice_generator": "voice_generator",
    "voicegenerator": "voice_generator",
    "moss_soundeffect": "soundeffect",
    "moss_sound_effect": "soundeffect",
    "sound_effect": "soundeffect",
}


def resolve_preset(name: str) -> Preset:
    """The preset of that name or alias; case, '-' or '.' for '_' and surrounding blanks do not matter.

    Raises:
        RequestError: no such preset.
    """
    if not isinstance(name, str):
        raise RequestError(f"preset must be a name, got {shown(name)}; allowed: {_names()}")
    key = re.sub(r"[-.]", "_", name.strip().lower())
    preset = PRESETS.get(ALIASES.get(key, key))
    if preset is None:
        raise RequestError(f"unknown preset {name!r}; allowed: {_names()}")
    return preset


def _names() -> str:
    aliases = ", ".join(f"{alias} = {name}" for alias, name in ALIASES.items())
    return f"{', '.join(PRESETS)} (also {aliases})"


# Words of a checkpoint's name that tell its variant, also in the plural. Configs do not hold it: these have one
# architecture with moss_tts.
_TOLD_BY_NAME = {
    ("ttsd",): "ttsd",
    ("voice", "generator"): "voice_generator",
    ("voicegenerator",): "voice_generator",
    ("voice", "gen"): "voice_generator",
    ("voicegen",): "voice_generator",
    ("sound", "effect"): "soundeffect",
    ("soundeffect",): "soundeffect",
}
_VERSION = r"v?\d[\d._]*"


def variant_in(name: str, default: str) -> tuple[Preset, str] | None:
    """The variant that the words of a checkpoint's name tell, and these words; None if they tell none.

    Only whole words count: "moss-tts-de" is no dialogue. Versions do not: "ttsd-v1.0" and "ttsd1" are "ttsd".

    Args:
        name: a directory or a hub id; only its last part is read.
        default: the preset of the checkpoint's architecture if nothing else is known.
    """
    if default not in {"moss_tts", *_TOLD_BY_NAME.values()}:
        return None
    last = re.sub(r"([a-z])([A-Z][a-z])", r"\1 \2", unicodedata.normalize("NFC", Path(name).name)).lower()
    parts = regex.split(rf"{_VERSION}|[^\p{{Latin}}]+", last)
    words = [(word.removeprefix("moss") or word).removesuffix("s") for word in parts if word]
    for start in range(len(words)):
        for count in (1, 2):
            told = tuple(words[start : start + count])
            if told in _TOLD_BY_NAME:
                return PRESETS[_TOLD_BY_NAME[told]], " ".join(told)
    return None
