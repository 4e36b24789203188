"""The models that `moss-tts serve` is given: their names, their adapters, and how long they stay in memory."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from moss_tts.checkpoints.packaged import packaged_voice
from moss_tts.cli.arguments import read_lora
from moss_tts.cli.speak_text import Source
from moss_tts.errors import RequestError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|)")
SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class NamedCheckpoint:
    """A checkpoint with the name that clients call it.

    Attributes:
        name: the name.
        source: where it is, with the options to load it.
        weights: weights, by name, of its adapters for requests that name none.
    """

    name: str
    source: Source
    weights: Mapping[str, float] = field(default_factory=dict)


def read_models(given: Sequence[str], name: str | None, lora: Sequence[str], source: Source) -> list[NamedCheckpoint]:
    """The models of --model, --name and --lora.

    Args:
        given: the values of --model; without any it is the packaged voice.
        name: the value of --name, for a single model without a name.
        lora: the values of --lora; if there are several models, each begins with the name of one and a slash.
        source: the options of loading, for all models.

    Raises:
        RequestError: a name is missing, wrong or there twice, or an option belongs to a single model.
    """
    parted = [_parted(value) for value in given or [str(packaged_voice())]]
    if len(parted) == 1:
        [(own, place)] = parted
        if own is not None and name is not None:
            raise RequestError(f"--name and --model {own}=... both name the model; give only one of them.")
        directories, weights = read_lora(lora, usual=0.0)
        return [
            NamedCheckpoint(
                name or own or Path(place).name, replace(source, model=place, adapters=directories), weights
            )
        ]
    for option, value in {"--name": name, "--codec": source.codec, "--revision": source.revision}.items():
        if value is not None:
            raise RequestError(f"{option} is for a server with one model; here are {len(parted)}.")
    return _several(parted, lora, source)


def _several(parted: Sequence[tuple[str | None, str]], lora: Sequence[str], source: Source) -> list[NamedCheckpoint]:
    models: dict[str, str] = {}
    for name, place in parted:
        if name is None:
            raise RequestError(f"Each of several models needs a name: --model NAME={place}.")
        if name in models:
            raise RequestError(f"--model names {name!r} twice.")
        models[name] = place
    adapters: dict[str, list[str]] = {name: [] for name in models}
    for value in lora:
        model, slash, rest = value.partition("/")
        if not slash or model not in models:
            raise RequestError(
                f"--lora must say which model the adapter is for, such as {next(iter(models))}/ada=adapters/ada, got "
                f"{value!r}. The models are {', '.join(models)}."
            )
        adapters[model].append(rest)
    named = []
    for name, place in models.items():
        directories, weights = read_lora(adapters[name], usual=0.0)
        named.append(NamedCheckpoint(name, replace(source, model=place, adapters=directories), weights))
    return [replace(model, source=_of_its_kind(model.source)) for model in named]


def _of_its_kind(source: Source) -> Source:
    """The options of loading without those that a sound model does not have."""
    return replace(source, codec_dtype=None, kv_bits=None, tied_heads=None) if source.makes_sounds else source


def _parted(value: str) -> tuple[str | None, str]:
    """A name and a checkpoint; a directory with = in its path has no name."""
    name, equals, place = value.partition("=")
    if not equals or Path(value).exists():
        return None, value
    if not NAME.fullmatch(name) or not place:
        raise RequestError(
            "--model must be DIR, HUB_ID or NAME=DIR; a name has up to 64 letters, digits and . _ : -, and begins with "
            f"a letter or digit. Got {value!r}."
        )
    return name, place


def read_duration(option: str, given: str) -> float | None:
    """The seconds of a duration such as 10m; None for never.

    Args:
        option: the name of the option, for the message.
        given: its value.

    Raises:
        RequestError: it is no duration.
    """
    if given.strip().lower() == "never":
        return None
    match = DURATION.fullmatch(given.strip().lower())
    if match is None:
        raise RequestError(f"{option} must be a time such as 90s, 10m or 2h, or 0, or never, got {given!r}.")
    return float(match[1]) * SECONDS[match[2]]
