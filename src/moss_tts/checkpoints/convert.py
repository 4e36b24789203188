"""A checkpoint copied at another precision: weights by rows, and the files beside them.

plan.py plans how each tensor is written. The copy is made under another name and renamed once it is
complete and its sums are known; config.json, without which nothing loads, is written last. So an interruption leaves
nothing that could be taken for a checkpoint. The codec is not changed: on one disk, source and copy share its weights.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from moss_tts.architectures import ARCHITECTURES
from moss_tts.atomic import atomic_directory
from moss_tts.checkpoints.hub import CHECKPOINT_FILES
from moss_tts.checkpoints.loading import CheckpointSource, LazyCodec, check_codec_fits, load_config
from moss_tts.checkpoints.model_card import model_card
from moss_tts.checkpoints.names import CODEC_DIRECTORIES, TOKENIZER_FILES, HubName
from moss_tts.checkpoints.number_types import DTYPES
from moss_tts.checkpoints.plan import Plan
from moss_tts.checkpoints.variant import names_of, variant_of
from moss_tts.codec import CodecConfig
from moss_tts.config import MossConfig, parse_config
from moss_tts.device.memory import size
from moss_tts.errors import CheckpointError, CodecNotFoundError, RequestError
from moss_tts.weights.copies import check_copies
from moss_tts.weights.layout import INDEX_FILE, PICKLED_INDEX_FILE, read_json, read_weights, weight_files
from moss_tts.weights.shards import write_shards, write_sums

CARD = "README.md"
COPY_BYTES = 2**24
NAMES_OF_DTYPES = {dtype: name for name, dtype in DTYPES.items()}
# Files that a checkpoint may lack, and what is missing then.
OPTIONAL = {
    "tokenizer_config.json": "no settings of a tokenizer",
    "generation_config.json": "no sampling of its own, so the variant's holds",
}


def convert(
    source: CheckpointSource,
    target: Path,
    planned: Plan,
    *,
    codec: Path | None = None,
    base_model: str | None = None,
    repo: str | None = None,
    on_bytes: Callable[[int], None] = lambda _: None,
    tied_heads: str | None = None,
) -> tuple[str, ...]:
    """Write the copy.

    Args:
        source: the checkpoint that was planned for.
        target: directory to make; must not exist.
        planned: the plan that `plan` made.
        codec: directory of the codec that is to lie inside the copy.
        base_model: hub id for the model card; by default the source's, if that is one.
        repo: hub id that the copy will have, for the card.
        on_bytes: called with the number of bytes after each write.
        tied_heads: "embeddings" leaves out stored heads that differ from the embeddings they are tied to.

    Returns:
        Words for the files that the source lacks, and so the copy.

    Raises:
        CheckpointError: the target exists, the disk is too small, a file cannot be read or written, or heads differ
            from their embeddings.
    """
    if tied_heads is None:
        config = load_config(source.directory)
        copies = ARCHITECTURES[type(config)].layout.copies
        check_copies(read_weights(source.directory), copies, config.hidden_size, config.quantization)
    check_room(target, planned.nbytes + (0 if codec is None or _one_disk(codec, target) else weights_nbytes(codec)))
    with atomic_directory(target) as directory:
        write_shards(directory, planned.outputs, on_bytes)
        copy_beside(source.directory, directory)
        if codec is not None:
            copy_codec(codec, directory / CODEC_DIRECTORIES[0], on_bytes)
        origin = base_model or (HubName.of(source.name).id if source.from_hub else None)
        about = codec_words(source.directory, codec)
        card = model_card(repo or target.name, origin, planned, source.directory, about)
        (directory / CARD).write_text(card, encoding="utf-8")
        absent = lacking(source.directory, directory)
        write_config(source, directory, planned)
    return absent


def codec_to_include(
    source: CheckpointSource, config: MossConfig, given: str | None, wanted: bool | None = None
) -> Path | None:
    """The directory of the codec to put into a copy, so that the copy speaks as its source does.

    Args:
        source: the checkpoint to be copied.
        config: its config.
        given: directory or hub id of a codec, in place of the one that the checkpoint speaks with.
        wanted: False leaves it out, True demands it, None includes it if it can be found.

    Returns:
        None if there is no codec to include, or it is fused with the weights.

    Raises:
        RequestError: arguments that contradict each other, or the checkpoint.
        CodecNotFoundError: it cannot be had.
        CheckpointError: it does not fit the model.
    """
    fused = config.codec_config is not None
    if wanted is False and (fused or given is not None):
        why = f"{source.directory} is fused with its codec" if fused else f"--codec {given} asks for one"
        raise RequestError(f"--no-codec cannot be followed: {why}.")
    if wanted is False or (fused and given is None):
        return None
    try:
        directory = LazyCodec(source, config, given).directory()
    except CodecNotFoundError:
        if wanted or given is not None:
            raise
        return None
    check_codec_fits(CodecConfig.from_dict(read_json(directory / "config.json")), config)
    return directory


def weights_nbytes(directory: Path) -> int:
    """Bytes of all weight files of a checkpoint."""
    return sum(path.stat().st_size for path in weight_files(directory))


def shares_weights(codec: Path, copy: Path) -> bool:
    """Whether the codec in a copy consists of the source's own files, and takes no space."""
    inside = copy / CODEC_DIRECTORIES[0]
    return all(path.samefile(inside / path.name) for path in weight_files(codec))


def check_room(target: Path, nbytes: int) -> None:
    """Refuse a target that exists, or a disk without room for so many bytes.

    Raises:
        CheckpointError: says which.
    """
    if target.exists():
        raise CheckpointError(f"{target} exists already; name a new directory, or remove this one.")
    target.parent.mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(target.parent).free) < nbytes:
        raise CheckpointError(f"{target} needs {size(nbytes)} on a disk with {size(free)} left.")


def copy_beside(source: Path, target: Path) -> None:
    """Copy the files beside the weights: tokenizer, chat template, sampling, licence."""
    patterns = [pattern for pattern in CHECKPOINT_FILES if pattern != "*.safetensors"]
    for path in sorted({path for pattern in patterns for path in source.glob(pattern) if path.is_file()}):
        if path.name not in ("config.json", INDEX_FILE, PICKLED_INDEX_FILE):
            shutil.copyfile(path, target / path.name)


def copy_codec(source: Path, target: Path, on_bytes: Callable[[int], None] = lambda _: None) -> None:
    """Copy a codec as it is, with sums of its weights."""
    target.mkdir()
    files = weight_files(source)
    for path in files:
        link_or_copy(path, target / path.name, on_bytes)
    copy_beside(source, target)
    # An index that is left of other weights says nothing of these.
    if len(files) > 1 and (source / INDEX_FILE).is_file():
        shutil.copyfile(source / INDEX_FILE, target / INDEX_FILE)
    write_sums(target, [path.name for path in files])
    shutil.copyfile(source / "config.json", target / "config.json")


def _one_disk(source: Path, target: Path) -> bool:
    """Whether files of a directory can have a second name (a hard link) beside a directory to be made."""
    place = next(path for path in target.resolve().parents if path.exists())
    return all(path.stat().st_dev == place.stat().st_dev for path in weight_files(source))


def link_or_copy(source: Path, target: Path, on_bytes: Callable[[int], None]) -> None:
    """Make a hard link to a file that is never changed, or a copy if the disk does not allow a link."""
    try:
        os.link(source.resolve(), target)
        on_bytes(source.stat().st_size)
    except OSError:
        with source.open("rb") as old, target.open("xb") as new:
            while block := old.read(COPY_BYTES):
                new.write(block)
                on_bytes(len(block))


def codec_words(source: Path, codec: Path | None) -> str:
    """Where a copy has its codec, as a line of its card; empty where the weights hold it."""
    if codec is not None:
        return f"Its codec lies in {CODEC_DIRECTORIES[0]}, {size(weights_nbytes(codec))}."
    config = load_config(source)
    if config.codec_config is not None:
        return ""
    return (
        f"Its codec, {config.codec_name}, is not in it: it is fetched too where the copy is given by its hub id, and "
        f"--codec names it where the copy is given as a directory."
    )


def write_config(source: CheckpointSource, directory: Path, planned: Plan) -> None:
    """Write the source's config.json with the changes of the copy."""
    raw = read_json(source.directory / "config.json")
    # A variant is told from the name of its checkpoint, and the copy may have any.
    told_by = variant_of(source, ARCHITECTURES[type(parse_config(raw))].default_preset).name
    if told_by is None or told_by != raw.get("_name_or_path"):
        raw["_name_or_path"] = source.name if source.from_hub else told_by or names_of(source)[-1]
    if planned.dtype is not None:
        raw["dtype"] = NAMES_OF_DTYPES[planned.dtype]
        raw.pop("torch_dtype", None)
    if planned.block is not None:
        # mlx-lm reads the first, the hub shows the second.
        raw |= {"quantization": planned.block, "quantization_config": planned.block}
    (directory / "config.json").write_text(json.dumps(raw, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def lacking(source: Path, copy: Path) -> tuple[str, ...]:
    """Words for the files of a complete checkpoint that this copy lacks."""
    found = [f"{name} ({means})" for name, means in OPTIONAL.items() if not (copy / name).is_file()]
    if not any((copy / name).is_file() for name in TOKENIZER_FILES):
        found.insert(0, f"{' or '.join(TOKENIZER_FILES)} (no tokenizer)")
    fused = "codec_config" in read_json(source / "config.json")
    if not fused and not any((copy / name).is_dir() for name in CODEC_DIRECTORIES):
        found.append("the codec (convert again without --no-codec where it can be had, or name it with --codec)")
    return tuple(found)
