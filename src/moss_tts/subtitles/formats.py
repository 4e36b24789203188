"""Cues as files: SubRip (.srt), WebVTT (.vtt), lyrics (.lrc) and JSON."""

from __future__ import annotations

import html
import json
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from moss_tts.atomic import atomic_file
from moss_tts.errors import RequestError
from moss_tts.subtitles.cues import Cue, Word

# Columns that a subtitle shows at a time: two lines of 42, as broadcasters have them. Wide characters take two each.
MOST_SHOWN: Final = 84
_STOPS: Final = tuple(".!?;:,…。！？；：，、")
# Lyrics show a time to 10 ms; a gap that is shorter is none.
_LEAST_GAP: Final = 0.01


def write_subtitles(path: Path, cues: Sequence[Cue]) -> None:
    """Write cues as .srt, .vtt, .lrc or .json, by the suffix: all of the file, or none of it.

    Raises:
        RequestError: another suffix, or a place that cannot be written to.
    """
    if path.suffix.lower() not in SUBTITLES:
        raise RequestError(f"subtitles {path} must end in {', '.join(SUBTITLES)}.")
    try:
        with atomic_file(path) as part:
            part.write_text(SUBTITLES[path.suffix.lower()](cues), "utf-8", "surrogateescape", newline="\n")
    except OSError as error:
        raise RequestError(f"subtitles {path} cannot be written: {error.strerror or error}.") from error


def srt(cues: Sequence[Cue]) -> str:
    """SubRip: numbered cues with times to 1 ms."""
    shown = [part for cue in cues for part in in_parts(cue)]
    return "\n".join(
        f"{number}\n{clock(cue.start, ',')} --> {clock(cue.end, ',')}\n{_no_arrow(cue.text)}\n"
        for number, cue in enumerate(shown, start=1)
    )


def vtt(cues: Sequence[Cue]) -> str:
    """WebVTT: the same with voices. Times inside a line, of its words, would make some readers stumble."""
    return "\n".join(["WEBVTT\n", *(_vtt_cue(part) for cue in cues for part in in_parts(cue))])


def _vtt_cue(cue: Cue) -> str:
    voice = "" if cue.voice is None else f"<v {_escaped(cue.voice)}>"
    return f"{clock(cue.start)} --> {clock(cue.end)}\n{voice}{_escaped(cue.text)}\n"


def lrc(cues: Sequence[Cue]) -> str:
    """Lyrics: a line for each cue with its start to 10 ms, words with theirs, and an empty line before a gap."""
    lines = []
    shown = [part for cue in cues for part in in_parts(cue)]
    for cue, following in zip(shown, [*shown[1:], None], strict=True):
        lines.append(f"[{_lyrics_time(cue.start)}]{_with_lyrics_times(cue)}")
        if following is None or following.start - cue.end >= _LEAST_GAP:
            lines.append(f"[{_lyrics_time(cue.end)}]")
    return "".join(f"{line}\n" for line in lines)


def _with_lyrics_times(cue: Cue) -> str:
    """The text of a cue on one line, with the time of each word before it."""
    line, done = "", 0
    for start, word in zip(_places(cue.text, cue.words), cue.words, strict=True):
        line += f"{cue.text[done:start]}<{_lyrics_time(word.start)}>"
        done = start
    return " ".join((line + cue.text[done:]).split())


def as_json(cues: Sequence[Cue]) -> str:
    """JSON with the names that OpenAI's transcriptions have."""
    segments = [{"id": number, **cue.as_json()} for number, cue in enumerate(cues)]
    return json.dumps({"segments": segments}, indent=1, ensure_ascii=False) + "\n"


SUBTITLES: Final[Mapping[str, Callable[[Sequence[Cue]], str]]] = {
    ".srt": srt,
    ".vtt": vtt,
    ".lrc": lrc,
    ".json": as_json,
}


def in_parts(cue: Cue) -> Iterator[Cue]:
    """A cue in parts that are read at a glance, if the times of its words are known; they end at marks if they can."""
    if _width(cue.text) <= MOST_SHOWN or not cue.words:
        yield cue
        return
    ends = [*_places(cue.text, cue.words)[1:], len(cue.text)]
    first, start = 0, 0
    while first < len(cue.words):
        count = _count_shown(cue.text, start, ends[first:])
        part = cue.words[first : first + count]
        first += count
        text, start = cue.text[start : ends[first - 1]].strip(), ends[first - 1]
        yield replace(cue, start=part[0].start, end=part[-1].end, text=text, words=part)


def _places(text: str, words: Sequence[Word]) -> list[int]:
    """Where each word begins in the text that they are words of."""
    places, end = list[int](), 0
    for word in words:
        places.append(text.index(word.text, end))
        end = places[-1] + len(word.text)
    return places


def _width(text: str) -> int:
    """The columns that a text takes: two for a Chinese character, a kana or a Hangul syllable, one for others."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def _count_shown(text: str, start: int, ends: Sequence[int]) -> int:
    """How many words are shown together, of those that begin at `start` and end at `ends`."""
    lengths = [_width(text[start:end].strip()) for end in ends]
    fitting = max(1, sum(length <= MOST_SHOWN for length in lengths))
    if fitting == len(ends):
        return fitting
    at_marks = [
        count
        for count in range(1, fitting + 1)
        if text[start : ends[count - 1]].rstrip().endswith(_STOPS) and 2 * lengths[count - 1] >= MOST_SHOWN
    ]
    return at_marks[-1] if at_marks else fitting


def clock(seconds: float, point: str = ".") -> str:
    """A time as HH:MM:SS.mmm, with this sign before the milliseconds."""
    milliseconds = round(1000 * seconds)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}{point}{rest % 1000:03d}"


def _lyrics_time(seconds: float) -> str:
    minutes, rest = divmod(round(100 * seconds), 6000)
    return f"{minutes:02d}:{rest // 100:02d}.{rest % 100:02d}"


def _no_arrow(text: str) -> str:
    """A text without the arrow that stands between two times."""
    return text.replace("-->", "→")


def _escaped(text: str) -> str:
    return html.escape(_no_arrow(text), quote=False)
