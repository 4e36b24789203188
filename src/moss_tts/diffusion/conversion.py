"""A sound model copied at another precision: the blocks of its transformer change, and all else stays as it is.

The text encoder is never quantised: it runs once for a sound, and what it gets wrong is wrong in every step.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx

from moss_tts.atomic import atomic_directory
from moss_tts.checkpoints.convert import CARD, check_room, link_or_copy
from moss_tts.checkpoints.loading import CheckpointSource
from moss_tts.checkpoints.model_card import SOUND, model_card
from moss_tts.checkpoints.names import PIPELINE_INDEX, HubName
from moss_tts.checkpoints.plan import Plan, cast_tensor, quantised_tensor
from moss_tts.diffusion.loading import SoundFiles
from moss_tts.diffusion.weights import TransformerNames, in_blocks
from moss_tts.errors import RequestError
from moss_tts.weights.layout import read_json
from moss_tts.weights.quantisation import Recipe
from moss_tts.weights.shards import tensors_of, write_shards

# Files beside the weights of the transformer and of the autoencoder.
_BESIDE = (
    "LICENSE*",
    "NOTICE*",
    "scheduler/*",
    "transformer/config.json",
    "text_encoder/*",
    "tokenizer/*",
    "vae/*.json",
)


def plan_sound(files: SoundFiles, recipe: Recipe | None, dtype: mx.Dtype | None) -> Plan:
    """Plan how each tensor of the transformer is written; only headers are read.

    Args:
        files: the source.
        recipe: how to quantise; None quantises nothing.
        dtype: the type of weights in the blocks that are not quantised, and of scales; None keeps the stored types.

    Raises:
        CheckpointError: broken files, or weights that do not fit the config.
        RequestError: the source is quantised already, the recipe is one for speech models, or no layer divides into
            its groups.
    """
    if recipe is not None and files.config.pipeline.quantization is not None:
        raise RequestError(f"{files.directory} is quantised already; convert the model it was made from.")
    if recipe is not None and recipe.low != recipe.high:
        raise RequestError("quant_predicate names layers of speech models; give a sound model --q-bits alone.")
    files.unread_transformer(mx.float32)
    tensors = tensors_of(files.transformer)
    names, outputs, precisions = TransformerNames.found_in(tensors), [], {}
    for name, tensor in tensors.items():
        ours, module = names.our_name(name), name.removesuffix(".weight")
        if recipe is not None and in_blocks(ours) and module != name and recipe.low.fits(tensor.shape):
            precisions[module] = recipe.low
            outputs.append(quantised_tensor(module, tensor, recipe.low, dtype))
        else:
            outputs.append(cast_tensor(name, tensor, dtype if in_blocks(ours) else None))
    if recipe is not None and not precisions:
        raise RequestError(
            f"no layer of {files.directory} has a width that is a multiple of {recipe.low.group_size}; use a smaller "
            "group."
        )
    return Plan(tuple(outputs), recipe, dtype, precisions)


def beside_nbytes(files: SoundFiles) -> int:
    """Bytes of the files that a copy has beside its transformer."""
    return sum(path.stat().st_size for path in _files_beside(files))


def convert_sound(
    source: CheckpointSource,
    target: Path,
    files: SoundFiles,
    planned: Plan,
    *,
    base_model: str | None = None,
    repo: str | None = None,
    on_bytes: Callable[[int], None] = lambda _: None,
) -> None:
    """Write the copy. model_index.json, without which nothing loads, comes last.

    Args:
        source: the model that was planned for.
        target: directory to make; must not exist.
        files: the files of the source.
        planned: the plan that `plan_sound` made.
        base_model: hub id for the model card; by default the source's, if that is one.
        repo: hub id that the copy will have, for the card.
        on_bytes: called with the number of bytes after each write.

    Raises:
        CheckpointError: the target exists, the disk is too small, or a file cannot be read or written.
    """
    check_room(target, planned.nbytes + beside_nbytes(files))
    with atomic_directory(target) as directory:
        for path in _files_beside(files):
            copy = directory / path.relative_to(files.directory)
            copy.parent.mkdir(parents=True, exist_ok=True)
            link_or_copy(path, copy, on_bytes)
        write_shards(directory / "transformer", planned.outputs, on_bytes)
        origin = base_model or (HubName.of(source.name).id if source.from_hub else None)
        card = model_card(repo or target.name, origin, planned, files.directory, purpose=SOUND)
        (directory / CARD).write_text(card, encoding="utf-8")
        index = read_json(files.directory / PIPELINE_INDEX)
        if planned.block is not None:
            index["quantization"] = planned.block
        (directory / PIPELINE_INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _files_beside(files: SoundFiles) -> list[Path]:
    found = {path for pattern in _BESIDE for path in files.directory.glob(pattern) if path.is_file()}
    return sorted(found | {files.autoencoder})
