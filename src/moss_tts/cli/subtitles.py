"""The option --subtitles: which file it names, and that it can be written."""

from __future__ import annotations

import os
from pathlib import Path

from moss_tts.errors import RequestError
from moss_tts.subtitles.formats import SUBTITLES


def subtitle_path(given: Path | None, output: Path) -> Path | None:
    """The file of the subtitles; a suffix alone stands for a file beside the audio, with its name.

    Args:
        given: the value of --subtitles; None for none.
        output: the audio file.

    Raises:
        RequestError: another suffix, the audio file itself, or a place that cannot be written to.
    """
    if given is None:
        return None
    if given.name in SUBTITLES and output.name == "-":
        raise RequestError(f"--subtitles {given} has no audio file to stand beside; name a whole file.")
    path = output.with_suffix(given.name) if given.name in SUBTITLES else given
    if path.suffix.lower() not in SUBTITLES:
        raise RequestError(f"--subtitles {given} must end in {', '.join(SUBTITLES)}.")
    check_place(path)
    return path


def check_place(path: Path) -> None:
    """Refuse a file that could not be written, before anything is loaded.

    Raises:
        RequestError: it is a directory, or in a place that does not exist or may not be written to.
    """
    if path.is_dir():
        raise RequestError(f"--subtitles {path} is a directory; name a file in it.")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise RequestError(f"--subtitles {path}: there is no directory {path.parent} that you may write into.")
