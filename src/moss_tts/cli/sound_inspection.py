"""An inspection of a sound model for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from moss_tts.cli.inspection_text import verified_text
from moss_tts.device.memory import size
from moss_tts.diffusion.inspection import SoundInspection, inspect_sound_model
from moss_tts.weights.shards import check_sums


def show(directory: Path, verify: bool, as_json: bool) -> bool:
    """Print what a sound model is; whether it runs here.

    Args:
        directory: where it is.
        verify: compare its transformer's weights with the sums that convert wrote.
        as_json: print JSON.

    Raises:
        CheckpointError, ConfigError: see `inspect_sound_model`; weights that differ from their sums.
    """
    found = inspect_sound_model(directory)
    verified = check_sums(directory / "transformer") if verify else None
    if as_json:
        print(json.dumps(found.facts() | {"verified": verified}, indent=2))
        return found.runs
    print(f"sound model {directory}")
    for label, value in _lines(found):
        print(f"  {label:<15} {value}")
    if verified is not None:
        print(f"  {'verified':<15} {verified_text(verified)}")
    print(
        "\n".join(["It runs here."] if found.runs else ["It does not run here:", *(f"  - {p}" for p in found.problems)])
    )
    return found.runs


def _lines(found: SoundInspection) -> Iterator[tuple[str, str]]:
    memory = found.memory
    yield "sounds", f"up to {found.max_seconds} s at {found.sample_rate} Hz"
    yield "transformer", f"{found.parameters:,} values, computes in {found.computes_in}"
    if found.quantization is not None:
        settings = ", ".join(f"{name} {value}" for name, value in found.quantization.items())
        yield "quantised", settings
    yield (
        "memory",
        f"{size(memory.needed())} needed: transformer {size(memory.transformer)}, decoder {size(memory.decoder)}, and "
        f"the most of text encoder {size(memory.text_encoder)}, a step {size(memory.step)} and decoding "
        f"{size(memory.decoding)}; this machine has {size(memory.machine)}",
    )
    for way in memory.smaller:
        fits = "fits" if memory.needed(way) <= memory.machine else "does not fit"
        yield "", f"{size(memory.needed(way))} if converted with {way}: {fits}"
