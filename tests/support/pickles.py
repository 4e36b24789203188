"""Files as torch.save writes them, made by hand: pickles instruction by instruction, and the zip file around them.

The instructions are those that PyTorch's own pickles have (protocol 2), so that nothing here needs PyTorch.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping
from math import prod
from pathlib import Path

import mlx.core as mx
import numpy as np

NAMES = {
    mx.float32: "FloatStorage",
    mx.bfloat16: "BFloat16Storage",
    mx.float16: "HalfStorage",
    mx.int64: "LongStorage",
    mx.int32: "IntStorage",
    mx.int16: "ShortStorage",
    mx.int8: "CharStorage",
    mx.uint8: "ByteStorage",
    mx.bool_: "BoolStorage",
}
MARK, TUPLE, REDUCE, BUILD, STOP, PERSID = b"(", b"t", b"R", b"b", b".", b"Q"
TABLE = b"ccollections\nOrderedDict\n)R"


def name(module: str, attribute: str) -> bytes:
    """The instruction that names something of Python."""
    return f"c{module}\n{attribute}\n".encode()


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value: int) -> bytes:
    length = value.bit_length() // 8 + 1
    return b"\x8a" + bytes([length]) + value.to_bytes(length, "little", signed=True)


def numbers(values: tuple[int, ...]) -> bytes:
    return MARK + b"".join(map(number, values)) + TUPLE


def storage(kind: str, key: str, count: int) -> bytes:
    reference = text("storage") + name("torch", kind) + text(key) + text("cpu") + number(count)
    return MARK + reference + TUPLE + PERSID


def tensor(stored: bytes, first: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> bytes:
    arguments = stored + number(first) + numbers(shape) + numbers(strides) + b"\x89" + TABLE
    return name("torch._utils", "_rebuild_tensor_v2") + MARK + arguments + TUPLE + REDUCE


def parameter(made: bytes) -> bytes:
    return name("torch._utils", "_rebuild_parameter") + MARK + made + b"\x88" + TABLE + TUPLE + REDUCE


def table(items: Mapping[str, bytes]) -> bytes:
    """A state_dict with the version numbers that PyTorch keeps beside it."""
    entries = b"".join(text(key) + value for key, value in items.items())
    versions = TABLE + text("") + b"}" + text("version") + number(1) + b"ss"
    return b"\x80\x02" + TABLE + MARK + entries + b"u" + b"}" + text("_metadata") + versions + b"sb" + STOP


def archive(
    pickle: bytes, storages: Mapping[str, bytes] | None = None, order: bytes = b"little", compression: int = 0
) -> bytes:
    """The zip file; storages by their names in data/."""
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", compression) as file:
        file.writestr("archive/data.pkl", pickle)
        file.writestr("archive/byteorder", order)
        for key, values in (storages or {}).items():
            file.writestr(f"archive/data/{key}", values)
        file.writestr("archive/version", b"3\n")
    return raw.getvalue()


def plain_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))


def saved(weights: Mapping[str, mx.array]) -> bytes:
    """The file of a state_dict; an array that is there under two names is one storage, as a tied weight is."""
    keys: dict[int, str] = {}
    storages: dict[str, bytes] = {}
    items: dict[str, bytes] = {}
    for label, weight in weights.items():
        key = keys.setdefault(id(weight), str(len(keys)))
        raw = {1: mx.uint8, 2: mx.uint16, 4: mx.uint32, 8: mx.uint64}[weight.dtype.size]
        storages[key] = np.array(weight.view(raw)).tobytes()
        shape = tuple(weight.shape)
        items[label] = tensor(storage(NAMES[weight.dtype], key, weight.size), 0, shape, plain_strides(shape))
    return archive(table(items), storages)


def write(path: Path, weights: Mapping[str, mx.array]) -> Path:
    path.write_bytes(saved(weights))
    return path
