"""Places and formats that commands write to, refused before the work if nothing could be written there."""

from __future__ import annotations

import os
from pathlib import Path

from moss_tts.audio.files import WRITABLE_FORMATS
from moss_tts.errors import RequestError


def check_file(option: str, path: Path) -> None:
    """Refuse a file that could not be written.

    Args:
        option: the option that names it.
        path: the file, which may be there already.

    Raises:
        RequestError: it is a directory, or in one that is not there or may not be written into.
    """
    if path.is_dir():
        raise RequestError(f"{option} {path} is a directory; name a file in it.")
    check_beside(option, path)


def check_directory(option: str, path: Path) -> None:
    """Refuse a directory that could not be filled, or made where it is missing.

    Args:
        option: the option that names it.
        path: the directory.

    Raises:
        RequestError: it is a file, may not be written into, or cannot be made.
    """
    if path.is_dir():
        _check_writable(option, path, path)
    elif path.exists():
        raise RequestError(f"{option} {path} is a file; name a directory.")
    else:
        check_beside(option, path)


def check_beside(option: str, path: Path) -> None:
    """Refuse a path if no file could be made beside it.

    Raises:
        RequestError: its directory is not there, or may not be written into.
    """
    if not path.absolute().parent.is_dir():
        raise RequestError(f"{option} {path}: there is no directory {path.parent}; make it, or name another.")
    _check_writable(option, path, path.parent)


def check_format(suffix: str) -> None:
    """Refuse a --format in which audio is not written.

    Raises:
        RequestError: there is no such format.
    """
    if suffix not in WRITABLE_FORMATS:
        known = ", ".join(known.removeprefix(".") for known in WRITABLE_FORMATS)
        raise RequestError(f"--format must be one of {known}, got {suffix.removeprefix('.')!r}.")


def _check_writable(option: str, path: Path, directory: Path) -> None:
    if not os.access(directory, os.W_OK | os.X_OK):
        raise RequestError(
            f"{option} {path}: you may not write into the directory {directory.absolute()}; name another."
        )
