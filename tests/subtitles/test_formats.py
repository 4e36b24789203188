"""Subtitles as files, read back by pysubs2, which other programs are made of."""

from __future__ import annotations

import json
import re

import pysubs2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moss_tts.errors import RequestError
from moss_tts.subtitles.cues import Cue, Word
from moss_tts.subtitles.formats import MOST_SHOWN, SUBTITLES, in_parts, lrc, srt, vtt, write_subtitles

CUES = [
    Cue(0.0, 1.4404, "It was cold."),
    Cue(2.44, 5.4, "- 3 < 4 & 5 > 4 --> {really}\n- \\Nice [laughs]", "ada"),
    Cue(3661.0, 3725.9996, "很晚了。", "S1"),
]


def spoken(text: str, seconds: float = 0.4) -> Cue:
    """A cue with a time for each word, with pauses between them."""
    words = [Word(index * 0.5, index * 0.5 + seconds, word) for index, word in enumerate(text.split())]
    return Cue(0.0, words[-1].end, text, None, tuple(words))


@pytest.mark.parametrize("format_", ["srt", "vtt"])
def test_pysubs2_reads_the_times_and_the_texts(format_):
    content = SUBTITLES[f".{format_}"](CUES)
    read = pysubs2.SSAFile.from_string(content, format_)
    assert [(event.start, event.end) for event in read] == [(0, 1440), (2440, 5400), (3661000, 3726000)]
    assert read[0].plaintext == CUES[0].text
    assert read[2].plaintext == CUES[2].text
    shown = content.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&").replace("<v ada>", "")
    assert CUES[1].text.replace("-->", "→") in shown


@given(
    st.lists(
        st.tuples(st.integers(0, 10**7), st.integers(1, 10**5), st.text("ab<>&-\n {}\\é中", min_size=1)), max_size=4
    )
)
def test_no_text_breaks_the_next_cue(given_cues):
    cues = [
        Cue(start / 1000, (start + length) / 1000, f"x{' '.join(text.split())}") for start, length, text in given_cues
    ]
    for format_, make in (("srt", srt), ("vtt", vtt)):
        read = pysubs2.SSAFile.from_string(make(cues), format_)
        times = sorted((round(cue.start * 1000), round(cue.end * 1000)) for cue in cues)
        assert sorted((event.start, event.end) for event in read) == times


def test_voices_are_in_webvtt():
    assert "<v ada>- 3 &lt; 4 &amp; 5 &gt; 4 → {really}" in vtt(CUES)
    assert pysubs2.SSAFile.from_string(vtt(CUES), "vtt")[1].plaintext.startswith("- 3")


def test_lyrics_have_their_times_and_an_empty_line_before_a_gap():
    lines = lrc([*CUES[:2], spoken("It was.").shifted(5.4)]).splitlines()
    assert lines[:2] == ["[00:00.00]It was cold.", "[00:01.44]"]
    assert lines[2].startswith("[00:02.44]- 3 <")
    assert lines[3:] == ["[00:05.40]<00:05.40>It <00:05.90>was.", "[00:06.30]"]
    assert lrc(CUES[2:]).startswith("[61:01.00]")


def test_json_is_as_openai_names_it():
    [first, second, _] = json.loads(SUBTITLES[".json"](CUES))["segments"]
    assert first == {"id": 0, "start": 0.0, "end": 1.4404, "text": "It was cold.", "voice": None}
    assert (second["id"], second["voice"]) == (1, "ada")
    [timed] = json.loads(SUBTITLES[".json"]([spoken("It was.")]))["segments"]
    assert timed["words"][1] == {"word": "was.", "start": 0.5, "end": 0.9}


def test_long_cues_are_shown_in_parts_that_end_at_marks():
    text = "When the rain had gone on for a week, the river rose; nobody in the village had seen it so high, and so on."
    cue = spoken(text)
    parts = list(in_parts(cue))
    assert " ".join(part.text for part in parts) == text
    assert all(len(part.text) <= MOST_SHOWN for part in parts)
    assert parts[0].text.endswith(";")
    assert all(part.start == part.words[0].start and part.end == part.words[-1].end for part in parts)
    assert len(pysubs2.SSAFile.from_string(srt([cue]), "srt")) == len(parts) > 1
    assert [part.text for part in in_parts(spoken("a" * 200))] == ["a" * 200]
    assert list(in_parts(CUES[0])) == CUES[:1]


def test_parts_keep_the_spaces_of_their_script():
    text = "雨下了一个星期。" * 20
    words = tuple(Word(index * 0.1, index * 0.1 + 0.1, sign) for index, sign in enumerate(text))
    parts = list(in_parts(Cue(0.0, 16.0, text, None, words)))
    assert "".join(part.text for part in parts) == text
    assert all(part.text.endswith("。") for part in parts)
    # A Chinese character is as wide as two letters.
    assert all(len(part.text) <= MOST_SHOWN / 2 for part in parts)
    assert "<00:00.10>下<00:00.20>了" in lrc([Cue(0.0, 16.0, text, None, words)])


def test_bad_places_are_refused(tmp_path):
    with pytest.raises(RequestError, match=re.escape("must end in .srt, .vtt, .lrc, .json")):
        write_subtitles(tmp_path / "cues.txt", CUES)
    with pytest.raises(RequestError, match="No such file"):
        write_subtitles(tmp_path / "nowhere" / "cues.srt", CUES)
