"""Safetensors files by rows: read, change and written a block at a time, so that no tensor is ever whole in memory.

layout.py reads files to run them; this module copies them. The caller decides what a tensor becomes
(`Output.make`). This module has the offsets, bytes, the split into shards, and the sums that prove a copy complete.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO

import mlx.core as mx
import numpy as np

from moss_tts.errors import CheckpointError
from moss_tts.weights.headers import read_header
from moss_tts.weights.layout import INDEX_FILE, first_names, is_pickled, weight_files
from moss_tts.weights.pickled import pickled_tensors
from moss_tts.weights.stored import StoredTensor

SUMS_FILE = "weights.sha256"
BLOCK_BYTES = 2**25
SHARD_BYTES = 2 * 10**9
DTYPES = {
    "F32": mx.float32,
    "F16": mx.float16,
    "BF16": mx.bfloat16,
    "U32": mx.uint32,
    "I32": mx.int32,
    "I64": mx.int64,
    "I16": mx.int16,
    "I8": mx.int8,
    "U8": mx.uint8,
    "BOOL": mx.bool_,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True)
class Slot:
    """A tensor to be written: its name, type and shape."""

    name: str
    dtype: mx.Dtype
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Its size in the file."""
        return prod(self.shape) * self.dtype.size


@dataclass(frozen=True)
class Output:
    """How one stored tensor is written.

    Attributes:
        source: the tensor that is read.
        slots: the tensors that are written; all have as many rows as the source.
        make: turns rows of the source into the same rows of every slot.
    """

    source: StoredTensor
    slots: tuple[Slot, ...]
    make: Callable[[mx.array], Sequence[mx.array]]

    @property
    def nbytes(self) -> int:
        """Bytes to be written."""
        return sum(slot.nbytes for slot in self.slots)


def stored_tensors(directory: Path) -> dict[str, StoredTensor]:
    """All tensors of a checkpoint by name, from the headers of its files.

    Raises:
        CheckpointError: no weights, a missing, broken or incomplete file, a type that cannot be converted, or a
            tensor in two files.
    """
    return tensors_of(weight_files(directory))


def tensors_of(files: Sequence[Path]) -> dict[str, StoredTensor]:
    """All tensors of some files by name.

    Raises:
        CheckpointError: see `stored_tensors`.
    """
    found: dict[str, StoredTensor] = {}
    for path in files:
        for name, tensor in (pickled_tensors(path) if is_pickled(path) else _safetensors(path)).items():
            if name in found:
                raise CheckpointError(f"{name} is in two files: {found[name].file} and {path}.")
            found[name] = tensor
    return found


def _safetensors(path: Path) -> dict[str, StoredTensor]:
    found = {}
    for name, entry in read_header(path).tensors.items():
        if entry.dtype not in DTYPES:
            raise CheckpointError(f"{path}: {name} has type {entry.dtype}; supported: {', '.join(DTYPES)}.")
        found[name] = StoredTensor(path, entry.start, DTYPES[entry.dtype], entry.shape)
    return found


# --------------------------------------------------------------------------------------------------- writing


def write_shards(directory: Path, outputs: Sequence[Output], on_bytes: Callable[[int], None] = lambda _: None) -> None:
    """Write tensors as model*.safetensors, their sums, and an index if there are several files.

    Args:
        directory: an existing directory.
        outputs: the tensors, in the order to write them.
        on_bytes: called with the number of bytes after each write.
    """
    shards = split(outputs, SHARD_BYTES)
    names = [f"model-{n:05d}-of-{len(shards):05d}.safetensors" for n in range(1, len(shards) + 1)]
    if len(shards) == 1:
        names = ["model.safetensors"]
    for name, shard in zip(names, shards, strict=True):
        _write_shard(directory / name, shard, on_bytes)
    if len(shards) > 1:
        weight_map = {s.name: name for name, shard in zip(names, shards, strict=True) for o in shard for s in o.slots}
        total = sum(output.nbytes for output in outputs)
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
        (directory / INDEX_FILE).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    write_sums(directory, names)


def split(outputs: Sequence[Output], most: int) -> list[list[Output]]:
    """The tensors in files of at most `most` bytes; a larger tensor has a file of its own."""
    shards: list[list[Output]] = [[]]
    room = most
    for output in outputs:
        if shards[-1] and output.nbytes > room:
            shards.append([])
            room = most
        shards[-1].append(output)
        room -= output.nbytes
    return shards


def _write_shard(path: Path, outputs: Sequence[Output], on_bytes: Callable[[int], None]) -> None:
    offsets, end = {}, 0
    for slot in (slot for output in outputs for slot in output.slots):
        offsets[slot.name], end = end, end + slot.nbytes
    header = json.dumps(
        {"__metadata__": {"format": "mlx"}}
        | {
            slot.name: {
                "dtype": NAMES[slot.dtype],
                "shape": slot.shape,
                "data_offsets": [offsets[slot.name], offsets[slot.name] + slot.nbytes],
            }
            for output in outputs
            for slot in output.slots
        }
    ).encode()
    header += b" " * (-len(header) % 8)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        data = file.tell()
        file.truncate(data + end)
        for output in outputs:
            _write_output(file, output, [data + offsets[slot.name] for slot in output.slots])
            on_bytes(output.nbytes)
        file.flush()
        os.fsync(file.fileno())


def _write_output(file: BinaryIO, output: Output, starts: Sequence[int]) -> None:
    """Write an output block by block, each slot at its own place in the file."""
    for first, last in row_blocks(output.source):
        made = output.make(output.source.rows(first, last))
        for slot, start, array in zip(output.slots, starts, made, strict=True):
            assert (array.dtype, array.shape[1:]) == (slot.dtype, slot.shape[1:]), slot
            file.seek(start + slot.nbytes // slot.shape[0] * first if slot.shape else start)
            file.write(_bytes_of(array))
        mx.clear_cache()


def row_blocks(tensor: StoredTensor) -> Iterator[tuple[int, int]]:
    """(first, last) of blocks of rows of about BLOCK_BYTES."""
    count = tensor.shape[0] if tensor.shape else 1
    per_row = prod(tensor.shape[1:]) * tensor.dtype.size
    step = max(1, BLOCK_BYTES // max(1, per_row))
    return ((first, min(first + step, count)) for first in range(0, count, step))


def _bytes_of(array: mx.array) -> memoryview:
    raw = {1: mx.uint8, 2: mx.uint16, 4: mx.uint32, 8: mx.uint64}[array.dtype.size]
    return np.ascontiguousarray(np.array(array.view(raw), copy=False)).data


# ------------------------------------------------------------------------------------------------------ sums


def write_sums(directory: Path, names: Sequence[str]) -> None:
    """Keep the sums of files in the form that `sha256sum --check` reads."""
    lines = [f"{_sum_of(directory / name)}  {name}\n" for name in names]
    (directory / SUMS_FILE).write_text("".join(lines), encoding="ascii")


def check_sums(directory: Path) -> list[str]:
    """Compare a directory's weights with the sums beside them, and return the files that have a sum.

    Raises:
        CheckpointError: a file is missing or is not what was written; the message names it.
    """
    if not (directory / SUMS_FILE).is_file():
        return []
    lines = (directory / SUMS_FILE).read_text(encoding="utf-8", errors="replace").splitlines()
    parts = [line.split(maxsplit=1) for line in lines]
    wanted = {part[1]: part[0] for part in parts if len(part) == 2}
    if not wanted or len(wanted) != len(lines):
        raise CheckpointError(f"{directory / SUMS_FILE} is broken, so the weights cannot be verified.")
    if others := [name for name in wanted if Path(name).name != name or Path(name).suffix != ".safetensors"]:
        raise CheckpointError(
            f"{directory / SUMS_FILE} names what is no .safetensors file beside it: {first_names(others)}; the weights "
            "cannot be verified."
        )
    if missing := [name for name in wanted if not (directory / name).is_file()]:
        raise CheckpointError(f"{directory} lacks {', '.join(sorted(missing))}, which {SUMS_FILE} names.")
    with ThreadPoolExecutor(min(len(wanted), os.cpu_count() or 1)) as pool:
        sums = pool.map(lambda name: _sum_of(directory / name), wanted)
        wrong = [name for name, found in zip(wanted, sums, strict=True) if found != wanted[name]]
    if wrong:
        raise CheckpointError(
            f"{directory}: {', '.join(sorted(wrong))} is not what was written: its sum differs from {SUMS_FILE}. Copy "
            f"or convert it again."
        )
    return [str(directory / name) for name in wanted]


def _sum_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
