"""Subtitle files to cues, through pysubs2: .srt, .vtt, .ass and .ssa.

Each cue is given to pysubs2 by itself, so that a broken one is named by its line and the others are read.
"""

from __future__ import annotations

import importlib
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from moss_tts.books.encodings import decode_plain
from moss_tts.books.remarks import Remarks
from moss_tts.errors import RequestError, shown
from moss_tts.text.harmless import composed, without_controls

SUFFIXES: Final = (".srt", ".vtt", ".ass", ".ssa")
MOST_BYTES: Final = 2**24
# A line with an arrow or two times is meant as the times of a cue.
_TIMES: Final = re.compile(r"-->|\d\s*(?:->|→)\s*\d|(?:\d+:\d+:\d+[.,]\d+\D*){2}")
_EVENT: Final = re.compile(r"(?:Dialogue|Comment):")
_BLANK: Final = re.compile(r"\\N\s*\\N")


@dataclass(frozen=True)
class FilmCue:
    """A cue of a film, as its file has it.

    Attributes:
        number: its number, in the order of time, from 1.
        line: the line of the file that has its times.
        start: when it appears, in seconds.
        end: when it goes, in seconds.
        text: its text with the markup of its format taken away but <v NAME>; lines as they are.
        actor: the name of its speaker, if the file says so; "" if not.
    """

    number: int
    line: int
    start: float
    end: float
    text: str
    actor: str = ""


@dataclass(frozen=True)
class Film:
    """The cues of a file, in the order of time, and sentences about what is wrong with the file."""

    cues: tuple[FilmCue, ...]
    warnings: tuple[str, ...] = ()


def require_pysubs2() -> Any:
    """pysubs2, which reads subtitles.

    Raises:
        RequestError: it is not installed.
    """
    try:
        return importlib.import_module("pysubs2")
    except ImportError as error:
        raise RequestError("subtitles are read with pysubs2: pip install 'moss-tts-mlx[dub]'.") from error


def read_film(path: Path) -> Film:
    """Read a subtitle file; what is wrong with it is a warning where the rest can be read.

    Raises:
        RequestError: another suffix, a file that cannot be read or is too large, no cue at all, or no pysubs2.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise RequestError(f"{path} must end in {', '.join(SUFFIXES)}.")
    require_pysubs2()
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror or error}.") from error
    if len(content) > MOST_BYTES:
        raise RequestError(f"{path} has {len(content)} bytes; subtitles may have {MOST_BYTES}.")
    remarks = Remarks()
    text = composed(decode_plain(content, path.name, remarks))
    found = [cue for cue in _cues(re.split(r"\r\n|\r|\n", text), path, remarks)]
    in_order = sorted(found, key=lambda cue: (cue.start, cue.line))
    cues = tuple(
        FilmCue(number, cue.line, cue.start, cue.end, cue.text, cue.actor)
        for number, cue in enumerate(in_order, start=1)
    )
    if not cues:
        raise RequestError(" ".join([*remarks.warnings, f"{path} has no cue that can be read."]))
    return Film(cues, remarks.warnings)


def _cues(lines: list[str], path: Path, remarks: Remarks) -> Iterator[FilmCue]:
    for number, snippet in _snippets(lines, path.suffix.lower()):
        where = f"{path.name}, line {number}"
        event = _event(snippet, path.suffix.lower().removeprefix("."))
        if event is None:
            remarks.warn(
                where, f"has no times that can be read ({shown(lines[number - 1].strip())}); its cue is left out"
            )
        elif event.is_text:
            start, end = event.start / 1000, event.end / 1000
            if start < 0 or end <= start:
                remarks.warn(where, "ends before it begins; its words have the time until the next cue")
            text = _BLANK.split(event.text)[0] if path.suffix.lower() == ".vtt" else event.text
            event.text = text
            yield FilmCue(0, number, max(0.0, start), max(start, end), without_controls(event.plaintext), event.name)


def _snippets(lines: list[str], suffix: str) -> Iterator[tuple[int, str]]:
    """(line of its times, text) of each cue."""
    begins = _EVENT if suffix in (".ass", ".ssa") else _TIMES
    places = [place for place, line in enumerate(lines) if begins.search(line)]
    for place, following in pairwise([*places, len(lines)]):
        last = place + 1 if begins is _EVENT else following
        yield place + 1, "\n".join(lines[place:last]) + "\n"


def _event(snippet: str, format_: str) -> Any:
    """The one event of a snippet; None if it has no times."""
    pysubs2 = require_pysubs2()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about styles, which nobody hears
            kept = {} if format_ in ("ass", "ssa") else {"keep_html_tags": True}
            events = pysubs2.SSAFile.from_string(snippet, format_, **kept).events
    except (ValueError, TypeError, IndexError):
        return None
    return events[0] if len(events) == 1 else None
