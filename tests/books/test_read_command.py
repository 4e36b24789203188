"""What `moss-tts read` leaves behind and says: cover, language, front matter, lengths, estimates."""

from __future__ import annotations

import io
import re

import av
import numpy as np
import pytest
import soundfile

from moss_tts import cli
from moss_tts.audio.files import read_audio
from moss_tts.audio.m4b import ChapterMark, Tags, write_m4b
from moss_tts.books.book import read_book
from moss_tts.books.planning import SHARES, estimate, plan_book
from support.books import archive, epub_of, written

pytestmark = pytest.mark.slow


def picture(codec="mjpeg", form="yuvj420p"):
    file = io.BytesIO()
    with av.open(file, "w", format="image2pipe") as container:
        stream = container.add_stream(codec, rate=1)
        stream.width, stream.height, stream.pix_fmt = 32, 48, form
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 32, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode(None))
    return file.getvalue()


JPEG, PNG = picture(), picture("png", "rgb24")


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as exit_:
        cli.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return exit_.value.code, out, err


def book_with_cover(mark, item):
    """An EPUB whose cover is marked in one of the two ways."""
    files = epub_of({"a.xhtml": "<h1>One</h1><p>It was 7 o'clock, and late</p>"})
    opf = files["OEBPS/book.opf"]
    opf = opf.replace("</metadata>", f"{mark}</metadata>").replace("<manifest>", f"<manifest>{item}")
    return archive({**files, "OEBPS/book.opf": opf, "OEBPS/c.jpg": JPEG})


COVERS = {
    "EPUB 3": ("", '<item id="c" href="c.jpg" media-type="image/jpeg" properties="cover-image"/>'),
    "EPUB 2": ('<meta name="cover" content="c"/>', '<item id="c" href="c.jpg" media-type="image/jpeg"/>'),
}


@pytest.mark.parametrize("kind", COVERS)
def test_a_books_cover_is_read(tmp_path, kind):
    assert read_book(written(tmp_path, "b.epub", book_with_cover(*COVERS[kind]))).cover == JPEG


def test_a_cover_that_is_missing_is_a_warning(tmp_path):
    item = '<item id="c" href="gone.jpg" media-type="image/jpeg" properties="cover-image"/>'
    book = read_book(written(tmp_path, "b.epub", book_with_cover("", item)))
    assert book.cover is None
    assert any("gone.jpg" in warning for warning in book.warnings)


@pytest.mark.parametrize("cover", [JPEG, PNG], ids=["JPEG", "PNG"])
def test_an_m4b_has_its_cover_language_and_chapters(tmp_path, cover):
    tags = Tags("Tales", "Somebody", "en-GB", cover)
    audio = [np.zeros(24000, np.int16)]
    marks = [ChapterMark("One", 0, 12000), ChapterMark("Two", 12000, 24000)]
    write_m4b(tmp_path / "b.m4b", audio, 24000, 1, marks, tags)
    with av.open(str(tmp_path / "b.m4b")) as container:
        [sound], [shown] = container.streams.audio, container.streams.video
        assert sound.metadata["language"] == "eng"
        assert shown.disposition & av.stream.Disposition.attached_pic
        assert (shown.width, shown.height) == (32, 48)
        assert container.metadata["major_brand"] == "M4A "
        assert [mark["metadata"]["title"] for mark in container.chapters()] == ["One", "Two"]
    assert read_audio(tmp_path / "b.m4b").seconds == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("language", ["", "English", "xx", "x-klingon", None])
def test_a_language_that_is_none_is_left_out(tmp_path, language):
    write_m4b(tmp_path / "b.m4b", [np.zeros(24000, np.int16)], 24000, 1, [], Tags("Tales", language=language))
    with av.open(str(tmp_path / "b.m4b")) as container:
        assert container.streams.audio[0].metadata.get("language", "und") == "und"


def test_a_book_is_read_to_its_end_by_the_command(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written(tmp_path, "b.epub", book_with_cover(*COVERS["EPUB 3"]))
    code, out, err = run(capsys, "read", "b.epub", "-o", "b.m4b", "--seed", "1", "--report", "r.html")
    assert code == 0, err
    assert re.search(r"b\.m4b: 1 chapter, \d s of audio, made in (\d+ min )?\d+ s, seed 1", out)
    assert {path.name for path in tmp_path.iterdir()} == {"b.epub", "b.m4b", "b.json", "r.html"}
    assert 'href="b.m4b#t=0.000,' in (tmp_path / "r.html").read_text("utf-8")
    with av.open("b.m4b") as container:
        assert len(container.streams.video) == 1
    code, _, err = run(capsys, "read", "b.epub", "-o", "b.m4b")
    assert code == 2
    assert "holds a finished reading. Name another --output, or replace it with --force" in " ".join(err.split())


def test_another_cover_may_be_given(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b.txt").write_text("It was late")
    (tmp_path / "c.png").write_bytes(PNG)
    assert run(capsys, "read", "b.txt", "-o", "b.m4b", "--cover", "c.png", "--seed", "1", "--quiet")[0] == 0
    with av.open("b.m4b") as container:
        assert len(container.streams.video) == 1
    code, _, err = run(capsys, "read", "b.txt", "-o", "c.m4b", "--cover", "b.txt")
    assert (code, "must be a JPEG or a PNG" in err) == (2, True)


def test_files_of_chapters_say_what_they_are(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b.md").write_text("# One\n\nIt was late\n\n# Two\n\nIt was 8 o'clock\n")
    for form in ("mp3", "flac"):
        assert run(capsys, "read", "b.md", "-o", form, "--format", form, "--seed", "1", "--quiet")[0] == 0
        with soundfile.SoundFile(next((tmp_path / form).glob(f"02*.{form}"))) as file:
            assert (file.title, file.album, file.tracknumber) == ("Two", "b", "2")


def test_pages_before_the_first_chapter_are_a_part_of_their_own(tmp_path):
    documents = {"t.xhtml": "<h1>The Tales</h1><h2>by Somebody</h2>", "a.xhtml": "<h1>One</h1><p>It was late</p>"}
    files = epub_of(documents, [("a.xhtml", "One")])
    first, second = read_book(written(tmp_path, "b.epub", archive(files))).chapters
    assert (first.title, first.text) == ("The Book", "The Tales\n\nby Somebody")
    assert (second.title, second.text) == ("One", "One\n\nIt was late")


# --------------------------------------------------------------------------------------------------- the plan


def test_a_plan_says_hours_and_disk(capsys, tmp_path):
    text = "It rained for three days, and then for a week, while the river rose past the bridge.\n\n" * 700
    (tmp_path / "b.txt").write_text(text)
    code, out, _ = run(capsys, "read", tmp_path / "b.txt", "--plan")
    assert code == 0
    [hours, minutes] = re.search(r"roughly (\d+) h (\d+) min of audio; [\d.]+ MB as mp3", out).groups()
    spoken = 60 * int(hours) + int(minutes)
    # 84 characters each, at the 14 to 16 characters a second of audiobooks.
    assert 700 * 84 / 16 / 60 < spoken < 700 * 84 / 12 / 60


@pytest.mark.parametrize("suffix", SHARES)
def test_the_shares_of_formats_are_what_speech_takes(suffix, packaged_speech):
    share = len(packaged_speech.encode(suffix.removeprefix("."))) / (2 * len(packaged_speech))
    assert share == pytest.approx(SHARES[suffix], rel=0.3)


def test_the_estimate_of_plain_speech_is_near(packaged_speech, tmp_path):
    book = read_book(written(tmp_path, "b.txt", packaged_speech.text))
    roughly = estimate(plan_book(book, {}), ".wav", packaged_speech.sample_rate, 1)
    assert roughly.seconds == pytest.approx(packaged_speech.seconds, rel=0.35)
    assert roughly.nbytes == pytest.approx(2 * len(packaged_speech), rel=0.35)


@pytest.fixture(scope="module")
def packaged_speech():
    import moss_tts

    text = "It rained for three days, and then for a week. The river rose past the old bridge, and nobody said a word."
    with moss_tts.load() as model:
        yield model.say(text, seed=1)


def test_a_segment_that_was_cut_short_is_named(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b.txt").write_text("It was late, and nobody was there")
    code, _, err = run(capsys, "read", "b.txt", "-o", "out", "--max-tokens", "4", "--seed", "1")
    assert code == 0
    assert "chapter 1 ('b'), segment 1 ('It was late, and nobody was there.') ended at its limit." in " ".join(
        err.split()
    )
