"""Subtitle files to cues: .srt, .vtt, .ass and .ssa.

Times and texts of .srt and .vtt are taken as people write them. pysubs2 reads the events of .ass and takes overrides
such as {\\an8} out of all texts. Each cue is read by itself, so that a broken one is named by its line.
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
# A line with an arrow and a digit, or with two times, is meant as the times of a cue.
_TIMES: Final = re.compile(r"\d.*-->|-->.*\d|\d\s*(?:->|→)\s*\d|(?:\d+:\d+:\d+[.,]\d+\D*){2}")
# 01:02:03,450, with hours or a fraction or without.
_TIME: Final = re.compile(r"(?<![\w:.,])([-−]?)(?:(\d+):)?(\d{1,2}):(\d{1,2})(?:[.,](\d{1,3}))?(?![\w:])")
_EVENT: Final = re.compile(r"(?:Dialogue|Comment):")
_BLANK: Final = re.compile(r"\n\s*\n")
# No film has a cue after so many seconds.
LONGEST: Final = 24 * 3600.0


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
    suffix = path.suffix.lower()
    read = _events(lines, suffix[1:]) if suffix in (".ass", ".ssa") else _blocks(lines, suffix == ".vtt")
    for number, event in read:
        where = f"{path.name}, line {number}"
        if event is None:
            shown_line = shown(lines[number - 1].strip())
            remarks.warn(where, f"has no times that can be read ({shown_line}); its cue is left out")
            continue
        if not event.is_text:
            continue
        start, end = event.start / 1000, event.end / 1000
        if start > LONGEST:
            remarks.warn(where, f"begins after {LONGEST / 3600:.0f} hours; its cue is left out")
            continue
        if start < 0:
            remarks.warn(where, "begins before the film; its words begin with the film")
            start = 0.0
        if not start < end <= LONGEST:
            what = "does not end after it begins" if end <= start else f"lasts longer than {LONGEST / 3600:.0f} hours"
            remarks.warn(where, f"{what}; its words have the time until the next cue")
            end = start
        yield FilmCue(0, number, start, end, without_controls(event.plaintext), event.name)


def _events(lines: list[str], format_: str) -> Iterator[tuple[int, Any]]:
    """(line, event) of .ass and .ssa; None for an event without times."""
    pysubs2 = require_pysubs2()
    for number, line in enumerate(lines, start=1):
        if not _EVENT.search(line):
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about styles, which nobody hears
                [event] = pysubs2.SSAFile.from_string(f"{line}\n", format_).events
        except (ValueError, TypeError, IndexError):
            event = None
        yield number, event


def _blocks(lines: list[str], is_webvtt: bool) -> Iterator[tuple[int, Any]]:
    """(line of the times, event) of .srt and .vtt; None for an event without times."""
    pysubs2 = require_pysubs2()
    places = [place for place, line in enumerate(lines) if _TIMES.search(line)]
    is_numbered = bool(places) and _is_number(_last(lines[: places[0]]))
    for place, following in pairwise([*places, len(lines)]):
        text = "\n".join(lines[place + 1 : following]).strip()
        if is_webvtt:
            text = _BLANK.split(text)[0]
        elif is_numbered and following < len(lines) and _is_number(_last(text.split("\n"))):
            # The number of the next cue.
            text = text.rpartition("\n")[0].strip()
        times = [_milliseconds(*found.groups()) for found in _TIME.finditer(lines[place])]
        shown_text = text.replace("\n", "\\N")
        yield place + 1, pysubs2.SSAEvent(*times, shown_text) if len(times) == 2 else None


def _last(lines: list[str]) -> str:
    """The last line that is not blank."""
    return next((line for line in reversed(lines) if line.strip()), "")


def _is_number(line: str) -> bool:
    return line.strip().isdecimal()


def _milliseconds(sign: str, hours: str | None, minutes: str, seconds: str, fraction: str | None) -> int:
    whole = (int(hours or 0) * 60 + int(minutes)) * 60 + int(seconds)
    return (-1 if sign else 1) * (1000 * whole + int((fraction or "0").ljust(3, "0")))
