"""The manifest of a reading: text, options, checkpoint, seed. The same manifest means the same audio."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from moss_tts.books.chapters import Book
from moss_tts.errors import RequestError

# The bytes of a weight file that are read, in blocks spread over it: enough to tell two trainings apart without reading
# 16 GB twice.
BLOCK_BYTES = 1 << 16
BLOCKS = 64


@dataclass(frozen=True)
class Manifest:
    """The text, options, checkpoint and seed of a reading.

    Attributes:
        text: fingerprint of the chapters.
        checkpoint: fingerprint of the weights and how they are computed with.
        options: the options of generate as JSON; audio is a fingerprint.
        seed: the seed of the reading.
    """

    text: str
    checkpoint: str
    options: dict[str, Any]
    seed: int

    def to_json(self) -> str:
        """The text of the file."""
        return json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, content: str | bytes, where: str) -> Manifest:
        """Read a file.

        Raises:
            RequestError: it is no manifest.
        """
        try:
            values = json.loads(content)
            manifest = cls(**{field.name: values[field.name] for field in fields(cls)})
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise RequestError(f"{where} is no manifest of a reading: {error!r}.") from error
        if not isinstance(manifest.options, dict) or type(manifest.seed) is not int:
            raise RequestError(
                f"{where} is no manifest of a reading: options must be an object, and seed a whole number."
            )
        return manifest

    def differences(self, other: Manifest) -> list[str]:
        """The differences to another manifest, in words."""
        found = []
        if self.text != other.text:
            found.append("another text")
        if self.checkpoint != other.checkpoint:
            found.append("another checkpoint")
        for name in sorted(self.options.keys() | other.options.keys()):
            was, is_now = self.options.get(name), other.options.get(name)
            if was != is_now:
                found.append(f"{name} was {_shown(was)}, is now {_shown(is_now)}")
        if self.seed != other.seed:
            found.append(f"seed was {self.seed}, is now {other.seed}")
        return found


def _shown(value: Any) -> str:
    return "not given" if value is None else repr(value)


def text_fingerprint(book: Book) -> str:
    """A sum over the chapters: texts, and titles, because files and marks are named after them."""
    chapters = [[chapter.title, chapter.text] for chapter in book.chapters]
    return _digest([json.dumps([book.title, book.author, chapters]).encode("utf-8", "surrogatepass")])


def option_fingerprints(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as JSON holds them; audio as the digest of its bytes."""
    return {name: _option(value) for name, value in sorted(options.items()) if value is not None}


def _option(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _option(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_option(item) for item in value]
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        array = np.ascontiguousarray(np.asarray(value))
        return "audio " + _digest([str((array.shape, array.dtype)).encode(), array.tobytes()])
    if isinstance(value, str | os.PathLike) and _is_file(value):
        return "file " + _digest([Path(value).read_bytes()])
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _is_file(value: str | os.PathLike[str]) -> bool:
    try:
        return Path(value).is_file()
    except (OSError, ValueError):  # a text too long for a path, or with a NUL in it
        return False


def checkpoint_fingerprint(directories: Iterable[Path], dtype: str | None = None) -> str:
    """A sum over configs, tokenizers and weights in directories and those below, and the type computed in."""
    parts = [str(dtype).encode()]
    for directory in directories:
        for file in sorted(directory.rglob("*")):
            if file.suffix in (".json", ".safetensors", ".jinja", ".model", ".bin"):
                parts += [str(file.relative_to(directory)).encode(), *_samples_of(file)]
    return _digest(parts)


def _samples_of(file: Path) -> Iterator[bytes]:
    size = file.stat().st_size
    yield str(size).encode()
    with file.open("rb") as opened:
        if size <= BLOCKS * BLOCK_BYTES:
            yield opened.read()
            return
        for block in range(BLOCKS):
            opened.seek(block * (size - BLOCK_BYTES) // (BLOCKS - 1))
            yield opened.read(BLOCK_BYTES)


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8) + part)
    return digest.hexdigest()[:32]
