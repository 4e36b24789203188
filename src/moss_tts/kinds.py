"""Which kind of model a checkpoint is: one that speaks, or one that makes sounds by diffusion."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

from moss_tts.checkpoints.loading import CheckpointSource, find_checkpoint
from moss_tts.checkpoints.names import is_pipeline
from moss_tts.checkpoints.packaged import packaged_voice
from moss_tts.codec.precision import decoder_precision
from moss_tts.context.quantised_cache import check_kv_bits
from moss_tts.diffusion.model import load_sound_model
from moss_tts.errors import RequestError
from moss_tts.model import Model, load_speech_model
from moss_tts.weights.copies import check_tied_heads


def load(
    name: str | Path | None = None,
    *,
    dtype: str | None = None,
    codec: str | Path | None = None,
    revision: str | None = None,
    token: str | None = None,
    codec_dtype: str = "float32",
    kv_bits: int | None = None,
    max_memory: int | None = None,
    tied_heads: Literal["embeddings"] | None = None,
    adapters: Mapping[str, str | Path] | None = None,
) -> Model:
    """Load a checkpoint.

    MOSS-SoundEffect v2 comes back as a SoundModel (moss_tts.diffusion.model), which has the same methods; of the
    options, name, dtype, revision, token and max_memory are for it.

    Args:
        name: its directory, or a hub id such as "OpenMOSS-Team/MOSS-TTS", or ORG/REPO/FOLDER of the hub, which is
            fetched if need be; None is the voice that comes with the package.
        dtype: "float32" or "bfloat16"; by default the checkpoint's own, and float32 on a CPU.
        codec: directory or hub id of the codec, if it is not beside the weights.
        revision: branch, tag or commit on the hub.
        token: hub token.
        codec_dtype: "float32", "bfloat16" or "8bit", for the codec's decoder; its encoder is always float32.
        kv_bits: 8 or 4, for keys and values of the context; None keeps them as computed.
        max_memory: bytes that speaking a minute, or a sound, may take; mlx is told to keep below them.
        tied_heads: "embeddings" drops stored heads that differ from the embeddings they are tied to; None refuses them.
        adapters: LoRA adapters as PEFT saves them, in directories or ORG/REPO[/FOLDER] of the hub, by their names.

    Raises:
        CheckpointError: missing, broken or unfitting files, or too little memory.
        ConfigError: not a checkpoint of this family.
        RequestError: kv_bits that this model's heads do not divide into; an option with a value that it cannot have,
            or that a sound model does not have.
    """
    decoder_precision(codec_dtype)  # before anything is fetched
    check_kv_bits(kv_bits)
    check_tied_heads(tied_heads)
    options: dict[str, Any] = {
        "codec": codec,
        "codec_dtype": codec_dtype,
        "kv_bits": kv_bits,
        "tied_heads": tied_heads,
        "adapters": adapters or None,
    }
    source = find_checkpoint(packaged_voice() if name is None else name, revision=revision, token=token)
    if is_pipeline(source.directory):
        if given := [option for option, value in options.items() if value not in (None, "float32")]:
            raise RequestError(f"{name} makes sounds by diffusion, and has no {given[0]}; leave it out.")
        # As a union, each program that loads a speech model would have to tell its type checker which of the two it is.
        return cast(Model, load_sound_model(source, dtype, max_memory))
    return load_speech_model(source, dtype=dtype, token=token, max_memory=max_memory, **options)


def sound_source(name: str | Path, revision: str | None = None, cached_only: bool = False) -> CheckpointSource | None:
    """Where a sound model is, which is fetched if need be; None if the checkpoint is another one.

    Args:
        name: a directory or a hub id.
        revision: branch, tag or commit on the hub.
        cached_only: look in the local hub cache, fetch nothing.

    Raises:
        CheckpointError, ConfigError: see `find_checkpoint`.
    """
    source = find_checkpoint(name, revision=revision, cached_only=cached_only)
    return source if is_pipeline(source.directory) else None
