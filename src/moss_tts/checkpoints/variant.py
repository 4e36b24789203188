"""Which variant of MOSS-TTS a checkpoint is: configs do not say, names do."""

from __future__ import annotations

from dataclasses import dataclass

from moss_tts.checkpoints.loading import CheckpointSource
from moss_tts.presets import PRESETS, Preset, variant_in
from moss_tts.weights.layout import read_json


@dataclass(frozen=True)
class Variant:
    """The variant of a checkpoint.

    Attributes:
        preset: its rules.
        told_by: what told it, for people.
    """

    preset: Preset
    told_by: str


def variant_of(source: CheckpointSource, default: str) -> Variant:
    """The variant that the checkpoint's name tells, else the name of what it was converted from, else the default."""
    origin = read_json(source.directory / "config.json").get("_name_or_path")
    names = [(source.name, "its name"), (origin, f"{origin!r}, the source that config.json names")]
    for name, what in names:
        if isinstance(name, str) and (found := variant_in(name, default)):
            return Variant(found[0], f"told by {found[1]!r} in {what}")
    return Variant(PRESETS[default], "the default of its architecture")
