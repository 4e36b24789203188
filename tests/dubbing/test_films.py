"""Subtitle files as people have them: every format, any encoding, broken lines."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("pysubs2", reason="the extra dub is not installed")

from moss_tts.dubbing.subtitle_files import MOST_BYTES, Film, read_film
from moss_tts.errors import RequestError

SRT = """1
00:00:01,000 --> 00:00:02,500
<i>One</i>,
two

2
00:00:03,000 --> 00:00:04,000
{\\an8}Three
"""
VTT = """WEBVTT

NOTE nothing to say

intro
00:01.000 --> 00:02.500 line:0
<v Ada>One &amp; two

NOTE nothing either

2
00:00:03.000 --> 00:00:04.000
Three
"""
ASS = """[Script Info]
Title: a film
[V4+ Styles]
Style: Default,Arial,20,&H00FFFFFF,&H0,&H0,&H0,0,0,0,0,100,100,0,0,1,2,2,2,10,10,10,1
[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Comment: 0,0:00:00.00,0:00:01.00,Default,,0,0,0,,not said
Dialogue: 0,0:00:03.00,0:00:04.00,Default,Ada,0,0,0,,{\\i1}Three{\\i0}, four
Dialogue: 0,0:00:01.00,0:00:02.50,Default,,0,0,0,,One\\Ntwo\\hthree
Dialogue: 0,0:00:05.00,0:00:06.00,Default,,0,0,0,,{\\p1}m 0 0 l 10 10{\\p0}
Dialogue: 0,nonsense,0:00:06.00,Default,,0,0,0,,lost
"""


def film(directory: Path, name: str, content: str | bytes) -> Film:
    path = directory / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_film(path)


def told(film: Film) -> list[tuple[int, int, float, float, str, str]]:
    return [(cue.number, cue.line, cue.start, cue.end, cue.text, cue.actor) for cue in film.cues]


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_subrip(tmp_path, ends):
    read = film(tmp_path, "a.srt", SRT.replace("\n", ends))
    assert told(read) == [(1, 2, 1.0, 2.5, "<i>One</i>,\ntwo", ""), (2, 7, 3.0, 4.0, "Three", "")]
    assert read.warnings == ()


def test_webvtt_has_notes_and_names_that_nobody_says(tmp_path):
    read = film(tmp_path, "a.vtt", VTT)
    assert told(read) == [(1, 6, 1.0, 2.5, "<v Ada>One &amp; two", ""), (2, 12, 3.0, 4.0, "Three", "")]
    assert read.warnings == ()


def test_ass_is_in_the_order_of_time(tmp_path):
    read = film(tmp_path, "a.ass", ASS)
    assert told(read) == [(1, 9, 1.0, 2.5, "One\ntwo three", ""), (2, 8, 3.0, 4.0, "Three, four", "Ada")]
    assert len(read.warnings) == 1
    assert read.warnings[0].startswith("a.ass, line 11: has no times that can be read")


@pytest.mark.parametrize(
    "times",
    ["00:00:01,000 --> 00:00:0x,000", "--> 00:00:02,000", "1 --> 2", "00:00:01,000 -> 2"],
)
def test_a_broken_cue_is_left_out_and_named(tmp_path, times):
    read = film(tmp_path, "a.srt", f"{SRT}\n3\n{times}\nlost\n\n4\n00:00:05,000 -> 00:00:06.5\nFour\n")
    assert [cue.text for cue in read.cues] == ["<i>One</i>,\ntwo", "Three", "Four"]
    [warning] = read.warnings
    assert warning == f"a.srt, line 11: has no times that can be read ({times!r}); its cue is left out"


def test_a_cue_that_ends_before_it_begins_is_kept(tmp_path):
    read = film(tmp_path, "a.srt", "1\n00:00:05,000 --> 00:00:04,000\nOne\n")
    assert told(read) == [(1, 2, 5.0, 5.0, "One", "")]
    assert read.warnings == ("a.srt, line 2: does not end after it begins; its words have the time until the next cue",)


@pytest.mark.parametrize(
    ("times", "start", "end"),
    [
        ("00:00:01 --> 00:00:02", 1.0, 2.0),
        ("00:01,5 --> 00:02,25", 1.5, 2.25),
        ("0:0:1.000-->0:0:2.000 X1:100 X2:200", 1.0, 2.0),
        ("12:00:01,000 → 12:00:02,000", 43201.0, 43202.0),
    ],
)
def test_times_are_read_as_people_write_them(tmp_path, times, start, end):
    read = film(tmp_path, "a.srt", f"1\n{times}\nOne\n")
    assert told(read) == [(1, 2, start, end, "One", "")]
    assert read.warnings == ()


@pytest.mark.parametrize(
    ("times", "start", "end", "warning"),
    [
        ("-00:00:01,000 --> 00:00:02,000", 0.0, 2.0, "begins before the film; its words begin with the film"),
        (
            "00:00:01,000 --> 99:59:59,999",
            1.0,
            1.0,
            "lasts longer than 24 hours; its words have the time until the next cue",
        ),
        ("100:00:01,000 --> 100:00:02,000", None, None, "begins after 24 hours; its cue is left out"),
    ],
)
def test_times_that_no_film_has_are_told(tmp_path, times, start, end, warning):
    read = film(tmp_path, "a.srt", f"1\n00:00:00,500 --> 00:00:00,900\nFirst\n\n2\n{times}\nOne\n")
    found = [(cue.start, cue.end) for cue in read.cues if cue.text == "One"]
    assert found == ([] if start is None else [(start, end)])
    assert read.warnings == (f"a.srt, line 6: {warning}",)


@pytest.mark.parametrize("name", ["a.srt", "a.vtt"])
def test_numbers_and_arrows_in_the_text_are_words(tmp_path, name):
    numbered = "1\n00:00:01.000 --> 00:00:02.000\nFrom A --> B:\n42\n\n2\n\n00:00:03.000 --> 00:00:04.000\n1984"
    assert [cue.text for cue in film(tmp_path, name, numbered).cues] == ["From A --> B:\n42", "1984"]
    bare = "00:00:01.000 --> 00:00:02.000\nOne\n42\n\n00:00:03.000 --> 00:00:04.000\nTwo\n43"
    assert [cue.text for cue in film(tmp_path, name, bare).cues] == ["One\n42", "Two\n43"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_other_encodings_are_read(tmp_path, encoding):
    content = "1\n00:00:01,000 --> 00:00:02,000\nVoilà, c'était à Orléans où l'été dernier nous étions allés\n"
    read = film(tmp_path, "a.srt", content.encode(encoding))
    assert read.cues[0].text.startswith("Voilà, c'était à Orléans")
    assert bool(read.warnings) is (encoding == "cp1252")


def test_characters_that_steer_a_terminal_are_blanks(tmp_path):
    assert film(tmp_path, "a.srt", "00:00:01,000 --> 00:00:02,000\na\x1b[2Jb\n").cues[0].text == "a [2Jb"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "", "must end in .srt, .vtt, .ass, .ssa"),
        ("a.srt", "", "has no cue that can be read"),
        ("a.srt", "00:00:01 --> 2\nlost", "line 1: has no times that can be read .* has no cue"),
        ("a.srt", b" " * (MOST_BYTES + 1), "subtitles may have 16777216"),
    ],
)
def test_other_files_are_refused(tmp_path, name, content, message):
    with pytest.raises(RequestError, match=message):
        film(tmp_path, name, content)
