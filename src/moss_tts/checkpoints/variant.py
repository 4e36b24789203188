"""Which variant of MOSS-TTS a checkpoint is: configs do not say, names do."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from moss_tts.atomic import expanded
from moss_tts.checkpoints.loading import CheckpointSource
from moss_tts.presets import PRESETS, Preset, variant_in
from moss_tts.weights.layout import read_json

# Directories that are named after a step of training or a precision lie in one that is named after the model.
UNNAMED = re.compile(r"(?:checkpoint|epoch|step|final|last|best|mlx|bit|bf|fp|int|[\W\d_])+", re.IGNORECASE)
IN_CACHE = re.compile(r"/models--[^/]+?--([^/]+)/snapshots/[0-9a-f]+(?:/(.+))?$")


@dataclass(frozen=True)
class Variant:
    """The variant of a checkpoint.

    Attributes:
        preset: its rules.
        told_by: what told it, for people.
        name: the name that told it; None if it is the default.
    """

    preset: Preset
    told_by: str
    name: str | None = None


def variant_of(source: CheckpointSource, default: str) -> Variant:
    """The variant that the checkpoint's name tells, else the name of what it was converted from, else the default."""
    own = Path(source.name).name
    names: list[tuple[object, str]] = [(name, "its name" if name == own else repr(name)) for name in names_of(source)]
    origin = read_json(source.directory / "config.json").get("_name_or_path")
    names += [(origin, f"{origin!r}, the source that config.json names")]
    for name, what in names:
        if isinstance(name, str) and (found := variant_in(name, default)):
            return Variant(found[0], f"told by {found[1]!r} in {what}", name)
    return Variant(PRESETS[default], "the default of its architecture")


def names_of(source: CheckpointSource) -> list[str]:
    """The names that may tell what a checkpoint is, the nearest first.

    They are those of its directory, of the place that a link points to, and of its folder and repository on the hub.
    """
    given = expanded(source.name)
    if not given.is_dir():
        return source.name.split("/")[:0:-1]
    path = given.resolve()
    if cached := IN_CACHE.search(path.as_posix()):
        return [*reversed((cached[2] or "").split("/")), cached[1]]
    return [*_up_to_a_name(Path(os.path.abspath(given))), *_up_to_a_name(path)]


def _up_to_a_name(path: Path) -> tuple[str, ...]:
    parts = path.parts[:0:-1]
    return parts[: len(list(takewhile(UNNAMED.fullmatch, parts))) + 1]
