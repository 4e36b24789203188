"""Files: paths as callers write them; files and directories that appear whole or not at all, and disappear whole.

Files that appear are made beside their place under a hidden name, `.NAME.*.incomplete`, and take their own name at the
end in one step of the file system. So nobody ever reads half of one, and what an interrupted process leaves behind is
not taken for the whole, even if the machine stops.
"""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from moss_tts.errors import RequestError

# Flags of renameat2 on Linux (paths from the working directory; exchange two names), and of macOS's call.
AT_CWD, EXCHANGE = -100, 2
# Characters of a name that the hidden name repeats: file systems allow 255 bytes in all.
NAME_SHOWN = 32


class PlaceTakenError(OSError):
    """A directory is complete, but cannot take its place: another process has put something there."""


def expanded(path: str | os.PathLike[str]) -> Path:
    """A path as a caller wrote it, with the home directory in the place of `~`.

    Raises:
        RequestError: it begins with the name of a user that this machine does not have, or no path has such characters.
    """
    written = os.fspath(path)
    if not isinstance(written, str) or "\0" in written:
        raise RequestError(f"{written[:100]!r} is not a path: a path is a text without zero characters")
    try:
        return Path(written).expanduser()
    except RuntimeError as error:
        user = Path(written).parts[0]
        if user == "~":
            raise RequestError(f"{written}: this user has no home directory; set the variable HOME") from error
        raise RequestError(
            f"{user} is no home directory on this machine; write ./{user} for a file of that name"
        ) from error


def open_regular(path: Path) -> FileIO:
    """Open a file to read it, without a buffer and without waiting for what a pipe or a device may never send.

    Raises:
        OSError: it cannot be opened, or is no regular file.
    """
    stream = FileIO(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    if stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        return stream
    stream.close()
    raise OSError(errno.EINVAL, "it is a pipe or a device, not a file")


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
    except OSError as error:
        # Writing to a full disk fails without the name of the file.
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """A directory to fill, which becomes `path` when the block ends well; otherwise `path` stays as it was.

    Args:
        path: its place; directories above it are made.
        replace: whether a directory at that place is replaced. It stays until the new one is complete; the exchange
            is one step if the system can do that.

    Raises:
        PlaceTakenError: its place holds something that may not, or cannot, be removed.
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
            if not (replace and _exchanged(part, path)):
                if replace and path.exists():
                    path.rename(old)
                part.rename(path)
        except OSError as error:
            if old.exists() and not path.exists():
                old.rename(path)
            raise PlaceTakenError(error.errno, error.strerror, str(path)) from error
    finally:
        for left in (part, old):
            if left.is_symlink():
                left.unlink()
            shutil.rmtree(left, ignore_errors=True)


def remove_directory(path: Path) -> None:
    """Delete a directory; its name is free at once.

    Raises:
        OSError: it is not there, or cannot be removed.
    """
    gone = _hidden(path)
    path.rename(gone)
    if gone.is_symlink():
        gone.unlink()
    else:
        shutil.rmtree(gone)


def _exchanged(one: Path, other: Path) -> bool:
    """Exchange the names of two directories in one step; False if the system could not."""
    paths = os.fsencode(one), os.fsencode(other)
    libc = ctypes.CDLL(None)
    try:
        if sys.platform == "darwin":
            return bool(libc.renamex_np(*paths, EXCHANGE) == 0)
        return bool(libc.renameat2(AT_CWD, paths[0], AT_CWD, paths[1], EXCHANGE) == 0)
    except AttributeError:  # the C library lacks it
        return False


def _hidden(place: Path) -> Path:
    return place.with_name(f".{place.name[:NAME_SHOWN]}.{secrets.token_hex(8)}.incomplete")


def _to_disk(file: Path) -> None:
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
