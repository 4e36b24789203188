"""pytorch_model.bin: where its tensors lie, told from its pickle without running it, and without PyTorch.

torch.save writes a zip file without compression: the pickle, data.pkl, names tensors and the storages that hold their
values; each storage is a file of its own in the zip, so its values can be read where they lie. Two tensors may share
a storage, and a tensor may be a part of one, or one turned on its side.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, TypeVar

import mlx.core as mx

from moss_tts.errors import CheckpointError
from moss_tts.weights.stored import StoredTensor, check_content
from moss_tts.weights.tensor_pickle import Name, read_pickle

T = TypeVar("T")

SUFFIX = ".bin"
# Names and shapes of ten thousands of tensors take less.
_MOST_PICKLE_BYTES = 2**22
_MOST_AXES = 8
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_LOCAL_MAGIC = b"PK\x03\x04"
_PICKLE = "data.pkl"
_OLD_PICKLE = b"\x80"


@dataclass(frozen=True)
class _Kind:
    """The type of a storage's values once they are read, and whether the file has 64-bit floats."""

    dtype: mx.Dtype
    is_double: bool = False

    @property
    def itemsize(self) -> int:
        """Bytes of a value in the file."""
        return 8 if self.is_double else self.dtype.size


_KINDS = {
    "torch.FloatStorage": _Kind(mx.float32),
    "torch.BFloat16Storage": _Kind(mx.bfloat16),
    "torch.HalfStorage": _Kind(mx.float16),
    "torch.DoubleStorage": _Kind(mx.float32, is_double=True),
    "torch.LongStorage": _Kind(mx.int64),
    "torch.IntStorage": _Kind(mx.int32),
    "torch.ShortStorage": _Kind(mx.int16),
    "torch.CharStorage": _Kind(mx.int8),
    "torch.ByteStorage": _Kind(mx.uint8),
    "torch.BoolStorage": _Kind(mx.bool_),
}


@dataclass(frozen=True)
class _Storage:
    """Values in the file: the byte where they begin, their number and their type."""

    start: int
    count: int
    kind: _Kind


def pickled_tensors(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a file of torch.save, by name. Tied tensors are equal entries. No value is read.

    Raises:
        CheckpointError: it holds anything but a table of tensors, is of another form, broken, or cut off.
    """
    return _read(path, lambda archive: archive.checked(archive.content()))


def pickled_model(path: Path, table: str, settings: str) -> tuple[dict[str, StoredTensor], Mapping[str, object]]:
    """The tensors and the settings of a file of torch.save that holds both, each under a name. No value is read.

    Raises:
        CheckpointError: it lacks one of them, or see `pickled_tensors`.
    """

    def parts(archive: _Archive) -> tuple[dict[str, StoredTensor], Mapping[str, object]]:
        content = archive.content()
        if not isinstance(content, dict) or not isinstance(content.get(settings), dict) or table not in content:
            raise ValueError(f"it holds no {table} beside {settings}")
        return archive.checked(content[table]), content[settings]

    return _read(path, parts)


def _read(path: Path, read: Callable[[_Archive], T]) -> T:
    check_content(path)
    try:
        return read(_Archive(path))
    except (ValueError, zipfile.BadZipFile, NotImplementedError, struct.error, OverflowError, EOFError) as error:
        raise CheckpointError(
            f"{path} cannot be read as a table of tensors: {error}. Nothing of it was run; take it from where it was "
            "published, or weights in safetensors."
        ) from error


class _Archive:
    """A zip file as torch.save writes it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._nbytes = path.stat().st_size
        if not zipfile.is_zipfile(path):
            raise ValueError(_no_zip(path))
        with zipfile.ZipFile(path) as archive:
            self._entries = {entry.filename: entry for entry in archive.infolist()}
        pickles = [name for name in self._entries if name.endswith(f"/{_PICKLE}") and name.count("/") == 1]
        if len(pickles) != 1:
            raise ValueError(f"it is a zip file without one {_PICKLE}, so torch.save did not write it")
        self._root = pickles[0].removesuffix(_PICKLE)

    def content(self) -> object:
        """What the pickle describes."""
        if f"{self._root}byteorder" in self._entries and self._bytes("byteorder") != b"little":
            raise ValueError("its numbers are not in little-endian order")
        names = {
            "collections.OrderedDict": _table,
            "torch._utils._rebuild_tensor_v2": self._tensor,
            "torch._utils._rebuild_parameter": _parameter,
        } | dict.fromkeys(_KINDS)
        return read_pickle(self._bytes(_PICKLE), names, self._storage)

    def checked(self, table: object) -> dict[str, StoredTensor]:
        """A table of tensors by name, and nothing else.

        Raises:
            ValueError: it is something else, or claims more values than the file has.
        """
        if not isinstance(table, dict) or not table or not all(isinstance(one, StoredTensor) for one in table.values()):
            raise ValueError("it holds something beside tensors by name, such as a whole model or a training state")
        # Overlapping tensors could claim any size; fused weights and their parts are there twice at most.
        if sum(one.nbytes for one in set(table.values())) > 2 * self._nbytes:
            raise ValueError("its tensors claim more values than the file has")
        return table

    def _bytes(self, name: str) -> bytes:
        start, nbytes = self._place(name)
        if nbytes > _MOST_PICKLE_BYTES:
            raise ValueError(f"its {name} is longer than {_MOST_PICKLE_BYTES} bytes")
        with self._path.open("rb") as file:
            file.seek(start)
            return file.read(nbytes)

    def _place(self, name: str) -> tuple[int, int]:
        """First byte and length of a file inside the zip file, where it lies uncompressed."""
        entry = self._entries.get(self._root + name)
        if entry is None:
            raise ValueError(f"it lacks {name[:40]!r}")
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
            raise ValueError(f"its {name} is compressed or encrypted, which torch.save never does")
        # A damaged list can count from before the file's first byte.
        at = max(0, entry.header_offset)
        with self._path.open("rb") as file:
            file.seek(at)
            magic, name_length, extra_length = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
        start = at + _LOCAL_HEADER.size + name_length + extra_length
        if magic != _LOCAL_MAGIC or start + entry.file_size > self._nbytes:
            raise ValueError(f"its {name} is not where the file says")
        return start, entry.file_size

    def _storage(self, reference: object) -> _Storage:
        """The storage of a reference ("storage", type, file in data/, device, number of values)."""
        match reference:
            case ("storage", Name(type_name), str(key), str(), int(count)) if type_name in _KINDS:
                kind = _KINDS[type_name]
            case _:
                raise ValueError(f"it refers to values of an unknown type; known: {', '.join(_KINDS)}")
        start, nbytes = self._place(f"data/{key}")
        if nbytes != count * kind.itemsize:
            raise ValueError(f"data/{key} should hold {count} values of {kind.itemsize} bytes but has {nbytes} bytes")
        return _Storage(start, count, kind)

    def _tensor(self, arguments: tuple[Any, ...]) -> StoredTensor:
        """The tensor of a storage, its first value there, shape and strides; further arguments are for training."""
        match arguments:
            case (_Storage() as storage, int(first), tuple(shape), tuple(strides), bool(), dict()):
                _check_layout(storage.count, first, shape, strides)
            case _:
                raise ValueError("it describes a tensor otherwise than torch.save does")
        start = storage.start + first * storage.kind.itemsize
        gaps = None if _is_plain(shape, strides) else strides
        return StoredTensor(self._path, start, storage.kind.dtype, shape, gaps, storage.kind.is_double)


def _table(arguments: tuple[Any, ...]) -> dict[str, object]:
    if arguments:
        raise ValueError("it fills a table otherwise than torch.save does")
    return {}


def _parameter(arguments: tuple[Any, ...]) -> StoredTensor:
    match arguments:
        case (StoredTensor() as tensor, bool(), dict()):
            return tensor
        case _:
            raise ValueError("it describes a parameter otherwise than torch.save does")


def _check_layout(count: int, first: int, shape: tuple[Any, ...], strides: tuple[Any, ...]) -> None:
    """Refuse a tensor that reaches beyond its storage, or uses a value of it twice."""
    numbers = (first, *shape, *strides)
    if len(shape) != len(strides) or len(shape) > _MOST_AXES or not all(type(n) is int and n >= 0 for n in numbers):
        raise ValueError("it has a tensor of an impossible shape")
    last = first + sum((size - 1) * step for size, step in zip(shape, strides, strict=True))
    if prod(shape) and (last >= count or prod(shape) > count):
        raise ValueError(f"it has a tensor of shape {shape} that reaches beyond its {count} values")


def _is_plain(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Whether values lie one after the other, the last axis counting fastest."""
    expected = 1
    for size, step in zip(reversed(shape), reversed(strides), strict=True):
        if size != 1 and step != expected:
            return not prod(shape)
        expected *= size
    return True


def _no_zip(path: Path) -> str:
    with path.open("rb") as file:
        begin = file.read(len(_LOCAL_MAGIC))
    if begin == _LOCAL_MAGIC:
        return "it is cut off: an incomplete copy"
    if begin.startswith(_OLD_PICKLE):
        return "it has the form that PyTorch wrote before version 1.6; load and save it with a newer one"
    return "torch.save did not write it"


def read_pickled(path: Path) -> dict[str, mx.array]:
    """All tensors of a file of torch.save, read now, one after the other; tied tensors are one array.

    Raises:
        CheckpointError: see `pickled_tensors`.
    """
    tensors = pickled_tensors(path)
    arrays: Mapping[StoredTensor, mx.array] = {tensor: tensor.whole() for tensor in dict.fromkeys(tensors.values())}
    return {name: arrays[tensor] for name, tensor in tensors.items()}
