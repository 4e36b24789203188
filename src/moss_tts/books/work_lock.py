"""One reading at a time for each work directory: two would write the same segments, and delete them under each other.

The lock is the system's, on a file in the directory: it goes with the process, however that ends.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from moss_tts.errors import RequestError

LOCK = "in_use"


@contextmanager
def work_lock(directory: Path) -> Iterator[None]:
    """Keep other readings out of a work directory, which is made where need be, and goes at the end if it is empty.

    Raises:
        RequestError: another reading is at work there, or it is no directory.
    """
    if directory.exists() and not directory.is_dir():
        raise RequestError(f"{directory} is no directory, and segments are kept there; move it away.")
    directory.mkdir(exist_ok=True)
    file = _locked(directory / LOCK)
    try:
        yield
    finally:
        (directory / LOCK).unlink(missing_ok=True)
        file.close()
        with suppress(OSError):
            directory.rmdir()


def _locked(path: Path) -> BinaryIO:
    while True:
        file = path.open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.close()
            raise RequestError(
                f"{path.parent} is in use: another run with the same output is under way. Wait until it has ended, "
                "or choose another --output."
            ) from error
        # A reading that ended meanwhile has deleted the file that it held.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()
