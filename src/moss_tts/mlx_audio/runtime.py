"""A model as mlx-audio wants it: loaded by this runtime, spoken by it, with results of mlx-audio's own class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Unpack

import mlx.core as mx
import mlx.nn as nn
from mlx_audio.tts.models.base import GenerationResult

from moss_tts.errors import RequestError
from moss_tts.kinds import load
from moss_tts.model import Model as Speaker
from moss_tts.prompts.options import GenerateOptions
from moss_tts.text.cast import is_own_voice
from moss_tts.voices import Voices

# Stands for a sampling option that a request to mlx-audio's server does not give.
NOT_GIVEN = object()
SAMPLING = ("temperature", "top_p", "top_k", "repetition_penalty")
# What mlx-audio's programs send unasked, so that it says nothing; any other value is passed on.
UNASKED = {
    "lang_code": ("en", "a"),
    "speed": (1.0,),
    "gender": ("male",),
    "pitch": (1.0,),
    "exaggeration": (0.5,),
    "use_zero_spk_emb": (False,),
}
# Options of every request of this process, which a request's own replace. __main__.py fills them.
defaults: dict[str, Any] = {}


class Model(nn.Module):
    """A MOSS model for mlx-audio.

    mlx-audio makes it from a config, and gives it weights. It takes none of them: `post_load_hook` reads the directory.
    """

    preserve_ref_audio_path = True  # this runtime reads recordings itself, and needs no transcript of them
    model_type = "moss_tts_mlx"
    speaker: Speaker

    def __init__(self, _config: Mapping[str, Any]) -> None:
        super().__init__()
        # mlx-audio's server takes these where a request is silent: the checkpoint's own sampling, not the server's.
        self.generate_config = dict.fromkeys(SAMPLING, NOT_GIVEN)

    def sanitize(self, _weights: Mapping[str, mx.array]) -> dict[str, mx.array]:
        """No weights."""
        return {}

    def load_weights(self, weights: Any, strict: bool = True) -> Model:  # noqa: ARG002
        """Take nothing."""
        return self

    @classmethod
    def post_load_hook(cls, model: Model, directory: Path) -> Model:
        """Load the directory with this runtime.

        Raises:
            CheckpointError, ConfigError: see `moss_tts.load`.
        """
        object.__setattr__(model, "speaker", load(directory))
        return model

    @property
    def sample_rate(self) -> int:
        """The codec's sample rate, in Hz."""
        return self.speaker.sample_rate

    def generate(
        self,
        text: str | None = None,
        *,
        lang_code: str | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Iterator[GenerationResult]:
        """Speak a request.

        Args:
            text: what to speak.
            lang_code: the language, as `language` takes it; "en" and "a", mlx-audio's defaults, say nothing.
            **options: those of `moss_tts.Model.generate`, and what mlx-audio's programs send unasked.

        Raises:
            RequestError: an option that does not exist here, or a bad value.
            MossTTSError: see `moss_tts.Model.generate`.
        """
        results = self.speaker.generate(text, **settled({"lang_code": lang_code, **options}))
        return (translated(result) for result in results)


def settled(given: Mapping[str, Any]) -> Any:
    """Options of mlx-audio as this runtime's.

    Raises:
        RequestError: a code of mlx-audio's Kokoro voices as a language; language beside lang_code.
    """
    options = {
        name: value
        for name, value in given.items()
        if value is not None and value is not NOT_GIVEN and value not in UNASKED.get(name, ())
    }
    if isinstance(voice := options.get("voice"), str) and is_own_voice(voice, Voices()):
        del options["voice"]
    code = options.pop("lang_code", None)
    if code is not None:
        if "language" in options:
            raise RequestError("lang_code and language are two names of one option; give only one of them.")
        if len(code) < 2:
            raise RequestError(f"lang_code {code!r} is no language; write its name, such as 'German'.")
        options["language"] = code
    return {**defaults, **options}


def translated(result: Any) -> GenerationResult:
    """A result as one of mlx-audio's: the same fields, with the audio as an MLX array."""
    values = {field.name: getattr(result, field.name) for field in fields(GenerationResult)}
    return GenerationResult(**{**values, "audio": mx.array(result.audio)})
