"""`lexicon check`, and `--lexicon` of commands that speak."""

from __future__ import annotations

from pathlib import Path

import pytest
import soundfile

from moss_tts.cli.arguments import read_lexicons
from moss_tts.errors import RequestError


@pytest.fixture
def names(run) -> str:  # noqa: ARG001 - it is written where `run` works
    Path("names.txt").write_text("Ada Lovelace = Ayda Luvlace\nGIF = jiff\n[French]\nGIF = giffe\n")
    return "names.txt"


def test_check_shows_the_changes_and_the_text(run, names):
    ended = run("lexicon", "check", names, "Ada\nLovelace made a GIF, a [GIF].")
    assert ended.code == 0
    assert ended.out.splitlines() == [
        "Ada Lovelace = Ayda Luvlace",
        "GIF = jiff",
        "2 words changed, 3 in the lexicon",
        "Ayda Luvlace made a jiff, a [GIF].",
    ]
    assert "GIF = giffe" in run("lexicon", "check", names, "A GIF.", "--language", "French").out
    assert "0 words changed" in run("lexicon", "check", names, "Nothing.").out


def test_check_tells_what_is_there_twice(run, names):
    Path(names).write_text("GIF = jiff\nAda = Ayda\nGIF = giff\n[French]\nAda = Adá\n")
    ended = run("lexicon", "check", names, "A GIF.")
    assert ended.err == "warning: 'GIF' is in the lexicon 2 times; its last form holds\n"
    assert ended.out.splitlines()[-1] == "A giff."


def test_commands_speak_as_the_lexicon_says(run, names):
    for output, arguments in (("a.wav", ("A GIF.", "--lexicon", names)), ("b.wav", ("A jiff.",))):
        assert run("say", *arguments, "--seed", "1", "--output", output).code == 0
    assert (soundfile.read("a.wav")[0] == soundfile.read("b.wav")[0]).all()


@pytest.mark.slow
def test_a_reading_is_tied_to_its_lexicon(run, names):
    Path("book.md").write_text("# One\n\nA GIF.\n\n# Two\n\nAda Lovelace.\n")
    assert run("read", "book.md", "--seed", "1", "--lexicon", names, "--output", "a", "--subtitles", ".srt").code == 0
    Path("other.md").write_text("# One\n\nA jiff.\n\n# Two\n\nAyda Luvlace.\n")
    assert run("read", "other.md", "--seed", "1", "--output", "b").code == 0
    for chapter in ("01 One.mp3", "02 Two.mp3"):
        made, wanted = (soundfile.read(f"{folder}/{chapter}")[0] for folder in "ab")
        assert (made == wanted).all()


def test_bad_lexicons_are_wrong_usage(run):
    Path("bad.txt").write_text("GIF\n")
    ended = run("say", "A GIF.", "--lexicon", "bad.txt")
    assert (ended.code, "bad.txt, line 1: there is no =" in ended.err) == (2, True)
    for given in (["names"], ["=names.txt"]):
        with pytest.raises(RequestError, match="must be NAME=FILE"):
            read_lexicons(given)
    Path("good.txt").write_text("GIF = jiff\n")
    with pytest.raises(RequestError, match="twice"):
        read_lexicons(["a=good.txt", "a=good.txt"])
    assert read_lexicons(["a=good.txt"])["a"].entries[0].spoken == "jiff"
