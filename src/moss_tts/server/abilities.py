"""The abilities of the loaded model on this server: fields that it follows, default values, limits.

The page shows only these fields; the schema takes its defaults from here.
"""

from __future__ import annotations

from dataclasses import asdict
from functools import cached_property
from typing import Any, Final

from moss_tts.diffusion.model import SoundModel
from moss_tts.diffusion.request import LEAST_SECONDS
from moss_tts.long_form import LongFormOptions
from moss_tts.model import Model
from moss_tts.prompts.planning import BUDGETS, usual_ties
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


class Abilities:
    """The abilities of a model on a server."""

    def __init__(self, model: Model, settings: Settings) -> None:
        self._model, self._settings = model, settings
        self._preparation = model.config.text_preparation

    # Whether audio is made as a whole, and so cannot be sent while it is made.
    is_whole = False

    @property
    def preset(self) -> str:
        """The variant of the model."""
        return self._model.preset.name

    @property
    def fields(self) -> list[str]:
        """Fields of a request that this model follows, besides its prompt and its sampling."""
        follows = set(self._model.preset.follows)
        if self.prompt_field == "input":
            follows |= {"segments"}
        if self._preparation is not None:
            # Such a checkpoint speaks one language, and has segments of its own.
            follows -= {"language", "segments"} | (FOLLOWABLE.keys() - self._preparation.follows)
            follows -= set() if "reference" in self._preparation.follows else {"dialogue"}
        return [field for what, field in FIELDS.items() if what in follows]

    @property
    def prompt_field(self) -> str:
        """The field of a request that holds the text or the sound to make."""
        field = self._model.preset.prompt_field
        return "input" if field == "text" else field

    @property
    def language(self) -> str | None:
        """The English name of its only language; None if it speaks several."""
        return None if self._preparation is None else LANGUAGE_NAMES[self._preparation.language][-1].capitalize()

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """Default values of the fields of a request."""
        request = self._model.request({self._model.preset.prompt_field: "Hello."})
        sampling = {
            f"{channel}_{name}": value
            for channel, values in asdict(request.sampling).items()
            for name, value in values.items()
        }
        audio = {name.removeprefix("audio_"): value for name, value in sampling.items() if name.startswith("audio_")}
        preset = self._model.preset
        ties = asdict(LongFormOptions(**usual_ties(preset, self._preparation)))
        long_form = {f"long_form_{name}": value for name, value in ties.items()}
        if preset.pieces is not None:
            # Budgets in characters hold where they are given, and say nothing otherwise.
            long_form = {name: value for name, value in long_form.items() if name not in BUDGETS}
        return {
            **audio,
            **sampling,
            "normalize_text": request.normalizes_text,
            "max_tokens": request.max_tokens,
            "runaway_guard": request.runaway_guard,
            "speed": request.speed,
            "stream": True,
            "streaming_interval": request.streaming_interval,
            "long_form": False,
            **long_form,
        }

    @property
    def limits(self) -> dict[str, float]:
        """Limits of one request: characters, rows of a prompt, seconds of recordings, frames, bytes of a body."""
        settings = self._settings
        return {
            "characters": settings.max_chars,
            "prompt_rows": settings.max_prompt,
            "recording_seconds": settings.max_reference_s,
            "frames": settings.max_frames,
            "body_bytes": settings.max_body,
        }

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        return {
            "fields": self.fields,
            "language": self.language,
            "voice": self._settings.voice,
            "adapters": list(self._model.architecture.network.adapters.names),
            "lexicons": list(self._settings.lexicons),
            "frame_rate": self._model.codec().config.frame_rate,
            "defaults": self.defaults,
            "limits": self.limits,
        }


class SoundAbilities(Abilities):
    """The abilities of a sound model on a server."""

    is_whole = True
    preset = "soundeffect_v2"
    prompt_field = "ambient_sound"
    language = None

    def __init__(self, model: SoundModel, settings: Settings) -> None:
        self._sounds, self._settings = model, settings

    @property
    def fields(self) -> list[str]:
        """Fields of a request that this model follows, besides its prompt."""
        return ["duration_s", *SOUND_FIELDS]

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """Default values of the fields of a request."""
        request = self._sounds.request({"ambient_sound": "Rain."})
        return {
            "duration_s": request.seconds,
            **{name: getattr(request, name) for name in ("steps", "guidance", "shift")},
            "duration_suffix": True,
            "stream": False,
        }

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        config = self._sounds.config
        limits = self.limits | {"seconds": config.pipeline.max_seconds}
        return {
            "fields": self.fields,
            "language": None,
            "voice": None,
            "adapters": [],
            "frame_rate": config.sample_rate / config.autoencoder.hop,
            "defaults": self.defaults,
            "limits": limits,
        }


def warm_up_options(model: Model) -> dict[str, Any]:
    """Options of a short request, after which nothing has to be made once."""
    loaded: object = model
    if isinstance(loaded, SoundModel):
        return {"ambient_sound": "Rain.", "seconds": LEAST_SECONDS, "steps": 1, "seed": 0}
    return {model.preset.prompt_field: "Hello.", "max_tokens": WARM_UP_FRAMES, "stream": True, "seed": 0}


def abilities_of(model: Model, settings: Settings) -> Abilities:
    """The abilities of a model of whichever kind."""
    loaded: object = model
    return SoundAbilities(loaded, settings) if isinstance(loaded, SoundModel) else Abilities(model, settings)
