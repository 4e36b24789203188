"""`read --read-along`: an EPUB 3 whose pages, sound and times belong together."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
from lxml import etree
from test_read_command import JPEG

from moss_tts import cli
from moss_tts.audio.files import decode_audio
from moss_tts.books.book import read_book

BOOK = """---
title: Rain & <Sun>
author: A. Writer
---
# One

It was cold.

***

Then it rained.

# Two

It was warm.
"""
SMIL, XHTML, OPF = "{http://www.w3.org/ns/SMIL}", "{http://www.w3.org/1999/xhtml}", "{http://www.idpf.org/2007/opf}"


def run(capsys: Any, *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as exit_:
        cli.main(["read", *arguments])
    return int(exit_.value.code or 0), capsys.readouterr().err


@pytest.fixture
def book(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("book.md").write_text(BOOK)
    Path("cover.jpg").write_bytes(JPEG)
    return Path("book.md")


def seconds(clock: str) -> float:
    return float(clock.removesuffix("s"))


@pytest.mark.slow
def test_text_sound_and_times_belong_together(capsys, book):
    for output in "ab":
        told = ("--seed", "1", "--cover", "cover.jpg", "--output", output, "--read-along", f"{output}.epub")
        assert run(capsys, str(book), *told)[0] == 0
    assert Path("a.epub").read_bytes() == Path("b.epub").read_bytes()
    with zipfile.ZipFile("a.epub") as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
        assert archive.infolist()[0].compress_type == zipfile.ZIP_STORED
    assert next(iter(files.items())) == ("mimetype", b"application/epub+zip")
    package = etree.fromstring(files["EPUB/book.opf"])
    items = {item.get("id"): item for item in package.iter(f"{OPF}item")}
    assert {f"EPUB/{item.get('href')}" for item in items.values()} == files.keys() - {
        "mimetype",
        "META-INF/container.xml",
        "EPUB/book.opf",
    }
    whole = 0.0
    for reference in package.iter(f"{OPF}itemref"):
        page, overlay = items[reference.get("idref")], items[items[reference.get("idref")].get("media-overlay")]
        names = [span.get("id") for span in etree.fromstring(files[f"EPUB/{page.get('href')}"]).iter(f"{XHTML}span")]
        smil = etree.fromstring(files[f"EPUB/{overlay.get('href')}"])
        assert [text.get("src") for text in smil.iter(f"{SMIL}text")] == [
            f"{page.get('href')}#{name}" for name in names
        ]
        clips = list(smil.iter(f"{SMIL}audio"))
        times = [seconds(clip.get(edge)) for clip in clips for edge in ("clipBegin", "clipEnd")]
        assert times == sorted(times)
        sound = decode_audio(files[f"EPUB/{clips[0].get('src')}"])
        assert sound.seconds == pytest.approx(times[-1], abs=0.01)
        told = package.xpath(f"//*[@refines='#{overlay.get('id')}']")
        assert seconds(told[0].text) == pytest.approx(sum(times[1::2]) - sum(times[::2]), abs=0.01)
        whole += seconds(told[0].text)
    assert seconds(package.xpath("//*[@property='media:duration' and not(@refines)]")[0].text) == pytest.approx(
        whole, abs=0.01
    )
    again = read_book(Path("a.epub"))
    assert (again.title, again.author, again.cover, again.warnings) == ("Rain & <Sun>", "A. Writer", JPEG, ())
    assert [chapter.title for chapter in again.chapters] == ["One", "Two"]
    assert re.findall(r"\w+", again.chapters[0].text) == ["One", "It", "was", "cold", "Then", "it", "rained"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--read-along", "a.epub", "--output", "b.m4b"), "Name a directory as --output"),
        (("--read-along", "a.epub", "--format", "wav"), "leave --format at mp3"),
        (("--read-along", "a.zip"), "must end in .epub"),
        (("--read-along", "nowhere/a.epub"), "there is no directory nowhere"),
        (("--read-along", "book.md"), "would replace the book itself"),
    ],
)
def test_what_cannot_be_is_refused(capsys, book, arguments, message):
    code, err = run(capsys, str(book), *arguments)
    assert (code, message in err) == (2, True), err
