"""Text files of the user with an entry in each line, such as lexicons and casts; a line that begins with # is none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from moss_tts.atomic import expanded, open_regular
from moss_tts.errors import RequestError

MOST_BYTES: Final = 2**20


def read_entry_file(path: str | os.PathLike[str], where: str) -> str:
    """The text of a file in UTF-8.

    Args:
        path: the path of the file.
        where: what messages call it, such as "lexicon names.txt".

    Raises:
        RequestError: it cannot be read, is too large, or is no text.
    """
    try:
        with open_regular(expanded(path)) as file:
            content = file.read(MOST_BYTES + 1) or b""
        if len(content) > MOST_BYTES:
            raise RequestError(f"{where} has more than {MOST_BYTES} bytes")
        return content.decode("utf-8-sig")
    except OSError as error:
        raise RequestError(f"{where} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise RequestError(f"{where} is no text in UTF-8: {error.reason} at byte {error.start}") from error


def entry_lines(content: str) -> Iterator[tuple[int, str]]:
    """(number, line) of the lines that are neither blank nor comments, without white space at their ends."""
    for number, line in enumerate(content.splitlines(), start=1):
        if (stripped := line.strip()) and not stripped.startswith("#"):
            yield number, stripped


@contextmanager
def errors_name_line(where: str, number: int) -> Iterator[None]:
    """Errors that are raised inside name the file and the line."""
    try:
        yield
    except RequestError as error:
        raise RequestError(f"{where}, line {number}: {error}") from error
