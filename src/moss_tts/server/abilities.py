"""The abilities of a model on this server: fields that it follows, default values, limits.

The page shows only these fields; the schema takes its defaults from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from moss_tts.diffusion.model import SoundModel
from moss_tts.diffusion.request import LEAST_SECONDS
from moss_tts.long_form import LongFormOptions
from moss_tts.model import Model
from moss_tts.prompts.planning import BUDGETS, usual_ties
from moss_tts.request import MossNormalizedRequest
from moss_tts.server.settings import Settings
from moss_tts.text.preparation import FOLLOWABLE, LANGUAGE_NAMES

# An ability of a variant or a checkpoint -> the field of a request that asks for it.
FIELDS: Final = {
    "instruction": "instructions",
    "reference": "reference",
    "dialogue": "dialogue_speakers",
    "language": "language",
    "scene": "scene",
    "length": "duration_s",
    "segments": "long_form",
}

WARM_UP_FRAMES: Final = 8
# Fields that only sound models follow.
SOUND_FIELDS: Final = ("negative_prompt", "steps", "guidance", "shift", "duration_suffix")


@dataclass(frozen=True)
class Abilities:
    """The abilities of a model on a server. They stay known while the model is not in memory.

    Attributes:
        preset: the name of the variant.
        fields: fields of a request that the model follows, besides its prompt and its sampling.
        prompt_field: the field of a request that holds the text or the sound to make.
        sample_rate: the sample rate of its audio.
        channels: the channels of its audio.
        frame_rate: frames per second.
        language: the English name of its only language; None if it speaks several.
        voice: the server's own voice.
        adapters: the names of its adapters.
        lexicons: the lexicons that requests may name.
        defaults: default values of the fields of a request.
        limits: limits of one request: characters, rows of a prompt, seconds of recordings, frames, bytes of a body.
        is_whole: whether audio is made as a whole, and so cannot be sent while it is made.
    """

    preset: str
    fields: list[str]
    prompt_field: str
    sample_rate: int
    channels: int
    frame_rate: float
    language: str | None
    voice: str | None
    adapters: list[str]
    lexicons: list[str]
    defaults: dict[str, Any]
    limits: dict[str, float]
    is_whole: bool = False

    def as_json(self) -> dict[str, Any]:
        """All of it that clients are told."""
        return {name: value for name, value in vars(self).items() if name != "is_whole"}


def abilities_of(model: Model, settings: Settings, adapters: Mapping[str, float] | None = None) -> Abilities:
    """The abilities of a model of whichever kind.

    Args:
        model: the model.
        settings: those of the server.
        adapters: weights, by name, of its adapters for requests that name none.
    """
    loaded: object = model
    return (
        _of_sounds(loaded, settings) if isinstance(loaded, SoundModel) else _of_speech(model, settings, adapters or {})
    )


def _of_speech(model: Model, settings: Settings, adapters: Mapping[str, float]) -> Abilities:
    preparation, field = model.config.text_preparation, model.preset.prompt_field
    names = list(model.architecture.network.adapters.names)
    return Abilities(
        preset=model.preset.name,
        fields=_fields(model),
        prompt_field=_prompt_field(model),
        sample_rate=model.sample_rate,
        channels=model.channels,
        frame_rate=model.codec().config.frame_rate,
        language=None if preparation is None else LANGUAGE_NAMES[preparation.language][-1].capitalize(),
        voice=settings.voice,
        adapters=names,
        lexicons=list(settings.lexicons),
        defaults=_defaults(model, model.request({field: "Hello."})) | ({"adapters": dict(adapters)} if names else {}),
        limits=_limits(settings),
    )


def _of_sounds(model: SoundModel, settings: Settings) -> Abilities:
    config, request = model.config, model.request({"ambient_sound": "Rain."})
    return Abilities(
        preset="soundeffect_v2",
        fields=["duration_s", *SOUND_FIELDS],
        prompt_field="ambient_sound",
        sample_rate=model.sample_rate,
        channels=model.channels,
        frame_rate=config.sample_rate / config.autoencoder.hop,
        language=None,
        voice=None,
        adapters=[],
        lexicons=[],
        defaults={
            "duration_s": request.seconds,
            **{name: getattr(request, name) for name in ("steps", "guidance", "shift")},
            "duration_suffix": True,
            "stream": False,
        },
        limits=_limits(settings) | {"seconds": config.pipeline.max_seconds},
        is_whole=True,
    )


def _prompt_field(model: Model) -> str:
    field = model.preset.prompt_field
    return "input" if field == "text" else field


def _fields(model: Model) -> list[str]:
    follows, preparation = set(model.preset.follows), model.config.text_preparation
    if _prompt_field(model) == "input":
        follows |= {"segments"}
    if preparation is not None:
        # Such a checkpoint speaks one language, and has segments of its own.
        follows -= {"language", "segments"} | (FOLLOWABLE.keys() - preparation.follows)
        follows -= set() if "reference" in preparation.follows else {"dialogue"}
    fields = [field for what, field in FIELDS.items() if what in follows]
    return fields if model.preset.window is None else [*fields, "repetition_window"]


def _defaults(model: Model, request: MossNormalizedRequest) -> dict[str, Any]:
    sampling = {
        f"{channel}_{name}": value
        for channel in ("text", "audio")
        for name, value in asdict(getattr(request.sampling, channel)).items()
    }
    audio = {name.removeprefix("audio_"): value for name, value in sampling.items() if name.startswith("audio_")}
    ties = asdict(LongFormOptions(**usual_ties(model.preset, model.config.text_preparation)))
    long_form = {f"long_form_{name}": value for name, value in ties.items()}
    if model.preset.pieces is not None:
        # Budgets in characters hold where they are given, and say nothing otherwise.
        long_form = {name: value for name, value in long_form.items() if name not in BUDGETS}
    return {
        **audio,
        **sampling,
        **({} if model.preset.window is None else {"repetition_window": request.sampling.window}),
        "normalize_text": request.normalizes_text,
        "max_tokens": request.max_tokens,
        "runaway_guard": request.runaway_guard,
        "speed": request.speed,
        "stream": True,
        "streaming_interval": request.streaming_interval,
        "long_form": False,
        **long_form,
    }


def _limits(settings: Settings) -> dict[str, float]:
    return {
        "characters": settings.max_chars,
        "prompt_rows": settings.max_prompt,
        "recording_seconds": settings.max_reference_s,
        "frames": settings.max_frames,
        "body_bytes": settings.max_body,
    }


def warm_up_options(model: Model) -> dict[str, Any]:
    """Options of a short request, after which nothing has to be made once."""
    loaded: object = model
    if isinstance(loaded, SoundModel):
        return {"ambient_sound": "Rain.", "seconds": LEAST_SECONDS, "steps": 1, "seed": 0}
    return {model.preset.prompt_field: "Hello.", "max_tokens": WARM_UP_FRAMES, "stream": True, "seed": 0}
