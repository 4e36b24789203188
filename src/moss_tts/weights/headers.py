"""Headers of safetensors files: everything that they say is compared with the file before it is used.

mlx maps files lazily, and would notice what is wrong in the middle of a computation, if at all.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from moss_tts.atomic import open_regular
from moss_tts.errors import CheckpointError, shown
from moss_tts.strict import is_integer, parse_json
from moss_tts.weights.stored import check_content

# A thousand tensors take 150 KB.
MOST_HEADER_BYTES = 2**23
MOST_AXES = 8
_METADATA = "__metadata__"
# Bytes of a value of each type.
SIZES = {
    name: size
    for size, names in {
        1: "BOOL U8 I8 F8_E4M3 F8_E5M2",
        2: "U16 I16 F16 BF16",
        4: "U32 I32 F32",
        8: "U64 I64 F64",
    }.items()
    for name in names.split()
}


@dataclass(frozen=True)
class Entry:
    """A tensor of the file: the name of its type, its shape, its first byte and the byte after its last."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Header:
    """What a safetensors file holds.

    Attributes:
        tensors: its tensors by name.
        metadata: notes of the program that wrote the file.
    """

    tensors: Mapping[str, Entry]
    metadata: Mapping[str, str]


def read_header(path: Path) -> Header:
    """The header of a safetensors file, which holds exactly the bytes that its tensors need.

    Raises:
        CheckpointError: it is not such a file, it is cut off, or its header contradicts itself or the file.
    """
    check_content(path)
    try:
        raw, first, size = _raw(path)
        tensors = {name: _entry(name, entry, first) for name, entry in raw.items() if name != _METADATA}
        _check_places(path, list(tensors.values()), first, size)
        return Header(tensors, _metadata(raw.get(_METADATA)))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise CheckpointError(f"{path} has a broken safetensors header: {error}.") from error


def _raw(path: Path) -> tuple[dict[str, Any], int, int]:
    """The header as JSON, the first byte after it, the size of the file."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8) or b"", "little")
        if not 2 <= length <= size - 8:
            raise CheckpointError(f"{path} is not a safetensors file, or is cut off in its header.")
        if length > MOST_HEADER_BYTES:
            raise ValueError(f"it is {length} bytes long; at most {MOST_HEADER_BYTES} are allowed")
        raw = parse_json(file.read(length))
    if not isinstance(raw, dict):
        raise ValueError("it is no JSON object")
    return raw, 8 + length, size


def _entry(name: str, raw: Any, first: int) -> Entry:
    match raw:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [start, end], **rest} if not rest:
            pass
        case _:
            raise ValueError(f"{shown(name)} is not described by dtype, shape and data_offsets")
    if dtype not in SIZES:
        raise ValueError(f"{shown(name)} has the type {shown(dtype)}; known: {', '.join(SIZES)}")
    # An index is no more than 32 bits in mlx, a place in the file no more than 62.
    if len(shape) > MOST_AXES or not all(is_integer(axis, most=2**31 - 1) for axis in shape):
        raise ValueError(f"{shown(name)} has the impossible shape {shown(shape)}")
    if (
        not is_integer(start, most=2**62)
        or not is_integer(end, most=2**62)
        or end - start != prod(shape) * SIZES[dtype]
    ):
        raise ValueError(f"{shown(name)} has {dtype} values of shape {shown(shape)}, and not as many bytes")
    return Entry(dtype, tuple(shape), first + start, first + end)


def _check_places(path: Path, entries: list[Entry], first: int, size: int) -> None:
    """Check that tensors lie one after the other, from the header to the end of the file."""
    end = first
    for entry in sorted(entries, key=lambda entry: (entry.start, entry.end)):
        if entry.start != end:
            raise ValueError("its tensors overlap, or there are gaps between them")
        end = entry.end
    if end != size:
        raise CheckpointError(f"{path} should be {end} bytes long but has {size}: an incomplete copy?")


def _metadata(raw: Any) -> dict[str, str]:
    if raw is None:
        return {}
    if not isinstance(raw, dict) or not all(isinstance(value, str) for value in raw.values()):
        raise ValueError(f"its {_METADATA} must be texts by name")
    return raw
