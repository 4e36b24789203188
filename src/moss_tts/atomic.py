"""Files and directories that appear whole or not at all, and disappear whole.

Each is made beside its place under a hidden name, `.NAME.*.incomplete`, and takes its own name at the end in one step
of the file system. So nobody ever reads half of it, and what an interrupted process leaves behind is not taken for the
whole, even if the machine stops.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Characters of a name that the hidden name repeats: file systems allow 255 bytes in all.
NAME_SHOWN = 32


class PlaceTakenError(OSError):
    """A directory is complete, but cannot take its place: another process has put something there."""


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A file to write, which becomes `path` when the block ends well; otherwise `path` stays as it was.

    Where `path` is a symbolic link, the file that it points to is replaced.

    Raises:
        OSError: the place cannot be written to.
    """
    place = Path(os.path.realpath(path))
    part = _hidden(place)
    try:
        yield part
        _to_disk(part)
        part.replace(place)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """A directory to fill, which becomes `path` when the block ends well; otherwise `path` stays as it was.

    Args:
        path: its place; directories above it are made.
        replace: whether what is there goes. It stays until the new one can take its place.

    Raises:
        PlaceTakenError: something is in its place that may not or does not go.
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part, old = _hidden(path), _hidden(path)
    part.mkdir()
    try:
        yield part
        for file in part.rglob("*"):
            if file.is_file():
                _to_disk(file)
        try:
            if replace and path.exists():
                path.rename(old)
            part.rename(path)
        except OSError as error:
            if old.exists() and not path.exists():
                old.rename(path)
            raise PlaceTakenError(error.errno, error.strerror, str(path)) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def remove_directory(path: Path) -> None:
    """Delete a directory; its name is free at once.

    Raises:
        OSError: it is not there, or cannot be removed.
    """
    gone = _hidden(path)
    path.rename(gone)
    shutil.rmtree(gone)


def _hidden(place: Path) -> Path:
    return place.with_name(f".{place.name[:NAME_SHOWN]}.{secrets.token_hex(8)}.incomplete")


def _to_disk(file: Path) -> None:
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
