"""Commands mark the files that they write, unless they are told not to."""

from __future__ import annotations

import io
import time
from pathlib import Path

import av
import pytest

from moss_tts.audio.marking import mark_of

MARK = mark_of("tiny_voice")


def comment(file: str) -> str | None:
    with av.open(io.BytesIO(Path(file).read_bytes())) as container:
        return container.metadata.get("comment")


def test_commands_mark_their_files(run):
    for output in ("a.wav", "a.mp3", "b.mp3"):
        assert run("say", "Hello.", "--seed", "1", "--output", output).code == 0
    assert run("generate", "Hello.", "--seed", "1", "--stream", "--output", "live.wav").code == 0
    for name in ("a.wav", "a.mp3", "live.wav"):
        assert comment(name) == MARK
    assert Path("a.mp3").read_bytes() == Path("b.mp3").read_bytes()
    assert run("say", "Hello.", "--no-mark", "--output", "c.wav").code == 0
    assert run("generate", "Hello.", "--no-mark", "--stream", "--output", "d.wav").code == 0
    assert {comment(name) for name in ("c.wav", "d.wav")} == {None}


@pytest.mark.slow
@pytest.mark.parametrize(("output", "file"), [("b.m4b", "b.m4b"), ("book", "book/01 One.mp3")])
def test_books_are_marked_and_the_same_twice(run, output, file):
    Path("book.md").write_text("# One\n\nIt was cold.\n")
    contents = []
    for _ in range(2):
        assert run("read", "book.md", "--seed", "1", "--output", output, "--force").code == 0
        contents.append(Path(file).read_bytes())
        time.sleep(1)  # no second of a clock is in a file
    assert contents[0] == contents[1]
    assert comment(file) == MARK
    assert run("read", "book.md", "--seed", "1", "--output", "plain", "--no-mark", "--format", "wav").code == 0
    assert comment("plain/01 One.wav") is None
