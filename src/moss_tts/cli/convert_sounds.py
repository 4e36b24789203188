"""The work of `moss-tts convert` with a sound model."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx

from moss_tts.checkpoints.loading import CheckpointSource
from moss_tts.cli.terminal import Terminal
from moss_tts.device.memory import size
from moss_tts.diffusion.conversion import beside_nbytes, convert_sound, plan_sound
from moss_tts.diffusion.loading import SoundFiles
from moss_tts.weights.quantisation import Recipe


def convert_sounds(
    source: CheckpointSource,
    target: Path,
    recipe: Recipe | None,
    dtype: mx.Dtype | None,
    base_model: str | None,
    repo: str | None,
    terminal: Terminal,
) -> int:
    """Write the copy, show how far it is, and say what it is.

    Returns:
        Its size in bytes.

    Raises:
        MossTTSError: see `plan_sound` and `convert_sound`.
    """
    files = SoundFiles.find(source.directory)
    planned = plan_sound(files, recipe, dtype)
    whole = planned.nbytes + beside_nbytes(files)
    with terminal.writing(str(target), whole) as show:
        convert_sound(source, target, files, planned, base_model=base_model, repo=repo, on_bytes=show)
    bits = f"{planned.bits_per_weight:.2f} bits per weight"
    terminal.say(f"{target}: {size(whole)}, of which the transformer has {size(planned.nbytes)}, {bits}")
    return whole
