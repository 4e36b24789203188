"""Books read aloud: killed and resumed is the same bytes, nothing is spoken twice, one voice, memory stays flat."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from moss_tts.audio.ogg import fix_serial
from moss_tts.audio.pcm import as_float, as_pcm
from moss_tts.books import kept_segments
from moss_tts.books.book import read_book
from moss_tts.books.chapter_files import SpokenBook, chapter_file_name
from moss_tts.books.chapters import Book, Chapter
from moss_tts.books.kept_segments import KeptSegments
from moss_tts.books.manifest import Manifest, checkpoint_fingerprint, option_fingerprints, text_fingerprint
from moss_tts.books.narrators import chapter_seed
from moss_tts.books.planning import long_form_options, plan_book
from moss_tts.books.reading import begin_reading, chapter_paths, finish_book, speak_book
from moss_tts.cli import main
from moss_tts.errors import AudioError, GenerationError, RequestError

TEXT = """---
title: Tales
author: A. Writer
---
# The Clocks

It was a bright cold day in April. The clocks were striking thirteen, and nobody cared about it.

Then it rained: for hours. Snow came after the rain, and more snow after that.

# The End / of *it*

The end came quickly. Nobody was surprised, for they had all been told. So they went home, one by one.
"""
OPTIONS = {
    "long_form_min_chars": 20,
    "long_form_target_chars": 40,
    "long_form_max_chars": 60,
    "max_tokens": 12,
    "seed": 7,
}
SEGMENTS = [5, 3]
UNTIED = {"long_form_prefix_audio_seconds": 0.0, "long_form_prefix_audio_max_tokens": 0}


@pytest.fixture
def book(tmp_path):
    path = tmp_path / "tales.md"
    path.write_text(TEXT)
    return read_book(path)


class Killed(Exception):
    """What ends a reading in the middle."""


def read(model, book, directory, *, options=OPTIONS, suffix=".wav", stop_after=None, checkpoint="c"):
    """Read a book into files of a directory; the segments that were spoken for it."""
    spoken_now = []

    def on_spoken(chapter, spoken):
        spoken_now.append((chapter, spoken.metrics.segment_idx))
        if len(spoken_now) == stop_after:
            raise Killed

    kept, seed = begin_reading(directory.with_name(f"{directory.name}.work"), book, options, checkpoint)
    spoken = SpokenBook(book, plan_book(book, options), kept, long_form_options(options))
    paths = chapter_paths(book, directory, suffix)
    paths[0].parent.mkdir(exist_ok=True)
    try:
        speak_book(model, spoken, options, seed, on_spoken=on_spoken)
    except Killed:
        return spoken_now
    finish_book(spoken, paths)
    return spoken_now


def files_of(directory):
    return {file.name: file.read_bytes() for file in sorted(directory.iterdir())}


# ------------------------------------------------------------------------------------------------------- resume


@pytest.mark.parametrize(
    ("extra", "suffix"),
    [
        ({}, ".wav"),
        ({"long_form_continuity": "continue"}, ".flac"),
        ({"long_form_prefix_text_chars": 30, "long_form_crossfade_ms": 5.0, "long_form_trim_silence": True}, ".ogg"),
        ({**UNTIED, "long_form_parallel": 3}, ".mp3"),
    ],
)
def test_a_reading_killed_anywhere_becomes_what_it_would_have_been(delay_model, book, tmp_path, extra, suffix):
    options = {**OPTIONS, **extra}
    everything = read(delay_model, book, tmp_path / "whole", options=options, suffix=suffix)
    assert everything == [(chapter, segment) for chapter, count in enumerate(SEGMENTS) for segment in range(count)]
    spoken = []
    for killed_after in (1, 2, 2, None):
        spoken += read(delay_model, book, tmp_path / "parts", options=options, suffix=suffix, stop_after=killed_after)
    assert spoken == everything
    assert files_of(tmp_path / "parts") == files_of(tmp_path / "whole")


@pytest.mark.parametrize("name", ["local", "local_v1_5", "nano", "realtime"])
def test_so_it_does_with_every_architecture(models, book, tmp_path, name):
    read(models[name], book, tmp_path / "whole")
    read(models[name], book, tmp_path / "parts", stop_after=2)
    read(models[name], book, tmp_path / "parts", stop_after=3)
    read(models[name], book, tmp_path / "parts")
    assert files_of(tmp_path / "parts") == files_of(tmp_path / "whole")


# The command, killed when half of its third segment is written.
KILLED = """
import os, signal, sys
from pathlib import Path
from moss_tts.books import kept_segments
from moss_tts.cli import main

save, saved = kept_segments.save_file, []

def save_two(arrays, part, told):
    saved.append(part)
    if len(saved) == 3:
        Path(part).write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    save(arrays, part, told)

kept_segments.save_file = save_two
main()
"""


def test_a_process_that_is_killed_loses_one_segment_at_most(checkpoints, tmp_path):
    (tmp_path / "tales.md").write_text(f"{TEXT}\nTom: So it was\n\nAnd so it ended.\n")
    (tmp_path / "names.txt").write_text("April = the fourth month\n")
    (tmp_path / "cast.txt").write_text('narrator = default, seed 5\n"Tom" = default\n')
    whole = tmp_path / "whole.m4b"
    parts = tmp_path / "parts.m4b"
    work = tmp_path / "parts.m4b.work"
    assert command(tmp_path, checkpoints, whole).wait() == 0
    assert command(tmp_path, checkpoints, parts, ["-c", KILLED]).wait() == -signal.SIGKILL
    assert not parts.exists()
    assert len(list(work.glob("*.safetensors"))) == 2
    assert command(tmp_path, checkpoints, parts).wait() == 0
    assert not work.exists()
    assert parts.read_bytes() == whole.read_bytes()
    subtitles = [file.with_suffix(".srt").read_text() for file in (parts, whole)]
    assert subtitles[0] == subtitles[1]
    assert "in April." in subtitles[0]
    assert "\nSo it was\n" in subtitles[0]


def command(directory, checkpoints, output, program=("-m", "moss_tts")):
    budgets = [f"--{name.replace('_', '-')}={value}" for name, value in OPTIONS.items()]
    more = ["--subtitles", ".srt", "--lexicon", directory / "names.txt", "--speed", "1.25"]
    more += ["--cast", directory / "cast.txt"]
    told = ["read", directory / "tales.md", "-m", checkpoints["delay"], "-o", output, "--quiet", *budgets, *more]
    return subprocess.Popen([sys.executable, *program, *map(str, told)])


def test_another_number_of_segments_at_a_time_goes_on_with_the_same_reading(delay_model, book, tmp_path):
    read(delay_model, book, tmp_path / "one", options={**OPTIONS, **UNTIED})
    read(delay_model, book, tmp_path / "two", options={**OPTIONS, **UNTIED}, stop_after=2)
    assert read(delay_model, book, tmp_path / "two", options={**OPTIONS, **UNTIED, "long_form_parallel": 4})
    for name in files_of(tmp_path / "one"):
        if name.endswith(".wav"):
            one, two = (soundfile.read(tmp_path / which / name)[0] for which in ("one", "two"))
            assert np.abs(one - two).max() <= 1e-4


def test_without_a_seed_a_reading_keeps_the_one_it_began_with(book, tmp_path):
    options = {name: value for name, value in OPTIONS.items() if name != "seed"}
    _, seed = begin_reading(tmp_path / "work", book, options, "c")
    assert begin_reading(tmp_path / "work", book, options, "c")[1] == seed
    assert begin_reading(tmp_path / "other", book, options, "c")[1] != seed


def test_a_reading_that_was_killed_before_it_began_begins(book, tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    (work / ".manifest.json.0123.incomplete").write_bytes(b"{")
    begin_reading(work, book, OPTIONS, "c")
    assert [file.name for file in work.iterdir()] == ["manifest.json"]


def test_a_damaged_segment_is_named_and_spoken_again_once_deleted(delay_model, book, tmp_path):
    read(delay_model, book, tmp_path / "a")
    whole = files_of(tmp_path / "a")
    victim = tmp_path / "a.work" / "0000-00001.safetensors"
    victim.write_bytes(victim.read_bytes()[:100])
    with pytest.raises(GenerationError, match=re.escape(victim.name)):
        read(delay_model, book, tmp_path / "a")
    for later in (tmp_path / "a.work").glob("*.safetensors"):
        if later.name >= victim.name:
            later.unlink()
    read(delay_model, book, tmp_path / "a")
    assert files_of(tmp_path / "a") == whole


# --------------------------------------------------------------------------------------- another text or options


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"options": {**OPTIONS, "temperature": 0.5}}, "temperature was not given, is now 0.5"),
        ({"options": {**OPTIONS, "seed": 8}}, "seed was 7, is now 8"),
        ({"checkpoint": "d"}, "another checkpoint"),
        ({"book": Book("T", None, None, (Chapter("One", "Hello."),))}, "another text"),
    ],
)
def test_a_work_directory_of_another_reading_is_refused_unless_forced(book, tmp_path, change, complaint):
    begun = {"book": book, "options": OPTIONS, "checkpoint": "c"}
    begin_reading(tmp_path / "work", **begun)
    (tmp_path / "work" / "0000-00000.safetensors").touch()
    with pytest.raises(RequestError, match=re.escape(complaint)):
        begin_reading(tmp_path / "work", **{**begun, **change})
    assert begin_reading(tmp_path / "work", **begun, force=True)[0].holds(0, 0)
    assert not begin_reading(tmp_path / "work", **{**begun, **change}, force=True)[0].holds(0, 0)
    begin_reading(tmp_path / "work", **{**begun, **change})


def test_a_directory_with_something_else_in_it_is_left_alone(book, tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "letter.txt").write_text("Dear")
    with pytest.raises(RequestError, match="is not the directory of a reading"):
        begin_reading(tmp_path / "work", book, OPTIONS, "c", force=True)
    assert (tmp_path / "work" / "letter.txt").read_text() == "Dear"


def test_a_broken_manifest_is_refused(book, tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "manifest.json").write_text('{"text": 1}')
    with pytest.raises(RequestError, match="no manifest"):
        begin_reading(tmp_path / "work", book, OPTIONS, "c")


@given(st.dictionaries(st.text(max_size=5), st.one_of(st.integers(), st.booleans(), st.text(max_size=5)), max_size=3))
def test_manifests_survive_their_file(options):
    manifest = Manifest("t", "c", option_fingerprints(options), 3)
    assert Manifest.from_json(manifest.to_json(), "here") == manifest
    assert manifest.differences(manifest) == []


def test_references_count_by_what_they_hold(tmp_path):
    for name, content in (("a.wav", b"1"), ("b.wav", b"1"), ("c.wav", b"2")):
        (tmp_path / name).write_bytes(content)
    a, b, c = (option_fingerprints({"ref_audio": [tmp_path / f"{name}.wav"]}) for name in "abc")
    assert a == b != c
    codes = np.arange(6).reshape(3, 2)
    assert option_fingerprints({"reference": codes}) == option_fingerprints({"reference": codes.copy()})
    assert option_fingerprints({"reference": codes}) != option_fingerprints({"reference": codes.T})


def test_checkpoints_count_by_what_they_hold(copied, checkpoints):
    directory = copied("delay")
    same = checkpoint_fingerprint([checkpoints["delay"]])
    assert checkpoint_fingerprint([directory]) == same != checkpoint_fingerprint([checkpoints["local"]])
    assert checkpoint_fingerprint([directory], "bfloat16") != same
    weights = directory / "audio_tokenizer" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert checkpoint_fingerprint([directory]) != same


def test_titles_and_chapters_are_part_of_the_text(book):
    prints = {
        text_fingerprint(other)
        for other in (
            book,
            replace(book, title="X"),
            replace(book, chapters=book.chapters[:1]),
            replace(book, chapters=(book.chapters[0], replace(book.chapters[1], text="X"))),
        )
    }
    assert len(prints) == 4


# -------------------------------------------------------------------------------------------------------- voice


def test_later_chapters_have_the_voice_of_the_first_segment_or_the_users(delay_model, book, tmp_path, monkeypatch):
    asked = []
    real = type(delay_model).narrator

    def narrator(self, request, **others):
        asked.append(request.reference)
        return real(self, request, **others)

    monkeypatch.setattr(type(delay_model), "narrator", narrator)
    read(delay_model, book, tmp_path / "a")
    codes = KeptSegments(tmp_path / "a.work").spoken(0, 0).codes
    assert asked[0] == ()
    assert np.array_equal(asked[1][0].codes, codes)
    asked.clear()
    mine = codes[:3]
    read(delay_model, book, tmp_path / "b", options={**OPTIONS, "reference": [mine]})
    assert all(reference[0].codes is mine for reference in asked)


def test_a_book_of_one_chapter_is_a_long_text(delay_model, tmp_path):
    text = TEXT.split("# The Clocks")[1].split("# The End")[0]
    read(delay_model, Book("B", None, None, (Chapter("One", text),)), tmp_path / "a")
    (result,) = delay_model.generate(text, long_form=True, **OPTIONS)
    assert np.array_equal(soundfile.read(tmp_path / "a" / "01 One.wav", dtype="int16")[0], as_pcm(result.audio))


@given(st.integers(0, 2**32 - 1))
def test_seeds_of_chapters_are_in_range_and_distinct(seed):
    seeds = [chapter_seed(seed, chapter) for chapter in range(20)]
    assert seeds[0] == seed
    assert len(set(seeds)) == 20
    assert all(0 <= one < 2**32 for one in seeds)


def test_a_chapter_that_fails_is_named_and_the_rest_is_kept(delay_model, tmp_path, monkeypatch):
    real = type(delay_model).narrator

    def narrator(self, request, **others):
        if "never" in request.text:
            raise GenerationError("the device is gone")
        return real(self, request, **others)

    monkeypatch.setattr(type(delay_model), "narrator", narrator)
    broken = Book("B", None, None, (Chapter("One", "Hello there."), Chapter("Bad", "It never ends.")))
    with pytest.raises(GenerationError, match=r"chapter 2 \('Bad'\): the device is gone"):
        read(delay_model, broken, tmp_path / "a")
    assert KeptSegments(tmp_path / "a.work").holds(0, 0)


# -------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("error", [SafetensorError("No space left"), OSError(28, "No space left on device")])
def test_a_full_disk_is_told_and_nothing_is_lost(delay_model, book, tmp_path, monkeypatch, error):
    read(delay_model, book, tmp_path / "whole")

    def full(*_):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(kept_segments, "save_file", full)
        with pytest.raises(GenerationError, match=r"\.safetensors cannot be written.*No space left"):
            read(delay_model, book, tmp_path / "cut")
    read(delay_model, book, tmp_path / "cut")
    assert files_of(tmp_path / "cut") == files_of(tmp_path / "whole")


@pytest.fixture(scope="module")
def finished(models, tmp_path_factory):
    """A book that was read into .wav files, and what is kept of it."""
    root = tmp_path_factory.mktemp("finished")
    (root / "tales.md").write_text(TEXT)
    book = read_book(root / "tales.md")
    read(models["delay"], book, root / "tales")
    return SpokenBook(book, plan_book(book, OPTIONS), KeptSegments(root / "tales.work"), long_form_options(OPTIONS))


def all_audio(spoken):
    return np.concatenate([pcm for chapter in range(len(SEGMENTS)) for pcm in spoken.audio(chapter)])


def test_a_book_in_one_file_has_marks_where_its_chapters_are(finished, tmp_path):
    path = tmp_path / "tales.m4b"
    finish_book(finished, chapter_paths(finished.book, path, ".mp3"))
    with av.open(str(path)) as container:
        assert (container.metadata["title"], container.metadata["artist"]) == ("Tales", "A. Writer")
        marks = [(c["metadata"]["title"], float(c["start"] * c["time_base"])) for c in container.chapters()]
        decoded = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    audio = as_float(all_audio(finished))
    first = sum(finished.lengths(0)) / finished.sample_rate
    assert [title for title, _ in marks] == [chapter.title for chapter in finished.book.chapters]
    assert [start for _, start in marks] == pytest.approx([0, first], abs=1e-3)
    assert len(decoded) >= len(audio)
    # AAC is not exact, but loud stays loud and quiet stays quiet.
    assert np.sqrt(np.mean(decoded**2)) == pytest.approx(np.sqrt(np.mean(audio**2)), rel=0.2)


@pytest.mark.parametrize("extra", [{}, {"long_form_crossfade_ms": 10.0, "long_form_trim_silence": True}])
@pytest.mark.parametrize("name", ["out.m4b", "out"])
def test_times_say_where_each_segment_lies(finished, tmp_path, extra, name):
    spoken = replace(finished, options=long_form_options({**OPTIONS, **extra}))
    (tmp_path / "out").mkdir()
    paths = chapter_paths(spoken.book, tmp_path / name, ".flac")
    finish_book(spoken, paths)
    rows = json.loads((tmp_path / ("out.json" if name == "out.m4b" else "out/segments.json")).read_text())
    assert [(row["chapter"], row["segment"]) for row in rows] == [
        (chapter + 1, segment + 1) for chapter, count in enumerate(SEGMENTS) for segment in range(count)
    ]
    before = None
    for row in rows:
        text = spoken.book.chapters[row["chapter"] - 1].text.strip()
        assert text[row["start_offset"] : row["end_offset"]] == row["text"]
        assert row["finish_reason"] in ("stop", "length")
        goes_on = before is not None and before["file"] == row["file"]
        assert row["start"] == (before["end"] if goes_on else 0)
        assert row["end"] >= row["start"]
        before = row
    for path in set(paths):
        last = [row["end"] for row in rows if row["file"] == path.name][-1]
        if path.suffix == ".flac":
            assert soundfile.info(path).duration == pytest.approx(last)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".mp3", ".ogg", ".m4b"])
def test_the_same_segments_are_the_same_file(finished, tmp_path, suffix):
    def write(name):
        (tmp_path / name).mkdir()
        output = tmp_path / name / "book.m4b" if suffix == ".m4b" else tmp_path / name
        finish_book(finished, chapter_paths(finished.book, output, suffix))
        time.sleep(0.01)
        return files_of(tmp_path / name)

    assert write("a") == write("b")


def test_ogg_pages_are_valid_after_their_serial_is_fixed(tmp_path):
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "a.ogg", rng.standard_normal(50_000) * 0.1, 24000, format="OGG", subtype="VORBIS")
    before = soundfile.read(tmp_path / "a.ogg")[0]
    with (tmp_path / "a.ogg").open("r+b") as file:
        fix_serial(file)
    assert np.array_equal(soundfile.read(tmp_path / "a.ogg")[0], before)


def test_a_chapter_that_is_there_is_not_written_again(finished, tmp_path):
    paths = chapter_paths(finished.book, tmp_path, ".wav")
    finish_book(finished, paths)
    made = [path.stat().st_ino for path in paths]
    finish_book(finished, paths)
    assert [path.stat().st_ino for path in paths] == made
    os.utime(paths[0], (0, 0))
    finish_book(finished, paths)
    assert paths[0].stat().st_ino != made[0]


def test_nothing_half_written_stays_behind(finished, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(soundfile.SoundFile, "write", fail)
    with pytest.raises(AudioError, match="disk full"):
        finish_book(finished, chapter_paths(finished.book, tmp_path, ".wav"))
    assert files_of(tmp_path) == {}


@given(st.integers(0, 200), st.text(max_size=100))
def test_names_of_chapters_are_safe_and_sort_as_they_are_read(number, title):
    name = chapter_file_name(number, title, ".mp3")
    assert name.startswith(f"{number + 1:02d}")
    assert name.endswith(".mp3")
    assert not set(name) & set('/\\:*?"<>|\n\0')
    assert len(name) < 80


def test_the_report_is_one_page_with_every_segment(finished, tmp_path):
    finish_book(finished, chapter_paths(finished.book, tmp_path / "b.m4b", ".mp3"), tmp_path / "out.html")
    page = (tmp_path / "out.html").read_text()
    assert page.count('<tr id="segment-') == sum(SEGMENTS)
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")
    assert "The Clocks" in page


# ---------------------------------------------------------------------------------------- segments that were changed


def turn_a_bit(work):
    file = work / "0000-00001.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def take_another_segment(work):
    shutil.copyfile(work / "0000-00000.safetensors", work / "0000-00001.safetensors")


def say_something_else_of_it(work):
    file = work / "0000-00001.safetensors"
    with safe_open(file, "numpy") as opened:
        arrays, told = {name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata()
    save_file(arrays, file, {**told, "segment": told["segment"].replace('"stop"', '"length"') + " "})


def say_nothing_of_it(work):
    file = work / "0000-00001.safetensors"
    with safe_open(file, "numpy") as opened:
        arrays = {name: opened.get_tensor(name) for name in opened.keys()}
    save_file(arrays, file)


def read_another_text(work):
    file = work / "manifest.json"
    file.write_text(file.read_text().replace('"text": "', '"text": "0'))


@pytest.mark.parametrize(
    "change", [turn_a_bit, take_another_segment, say_something_else_of_it, say_nothing_of_it, read_another_text]
)
def test_a_segment_that_was_changed_is_never_read(finished, tmp_path, change):
    work = tmp_path / "a.work"
    shutil.copytree(finished.kept.directory, work)
    assert len(KeptSegments(work).pcm(0, 1))
    change(work)
    for part in (KeptSegments.spoken, KeptSegments.pcm, KeptSegments.sample_rate):
        with pytest.raises(RequestError, match=r"0000-00001\.safetensors was changed .* be spoken again"):
            part(KeptSegments(work), 0, 1)


@pytest.mark.parametrize(
    "content",
    [b"\xff", b"[]", b"[" * 10**5, b'{"text": "t", "checkpoint": "c", "options": [], "seed": 1}', b"null"],
)
def test_a_manifest_that_was_changed_is_no_manifest(tmp_path, content):
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(RequestError, match="no manifest of a reading"):
        KeptSegments(tmp_path).manifest()


# ------------------------------------------------------------------------------------------------- command line


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    streams = capsys.readouterr()
    return ended.value.code, streams.out, streams.err


def test_a_plan_names_flaws_and_what_is_not_read(capsys, tmp_path):
    (tmp_path / "tales.md").write_text("# One\n\nIt was late.[^1] <!-- So he slept.\n\n[^1]: A note.\n")
    code, out, err = run(capsys, "read", tmp_path / "tales.md", "--plan")
    assert code == 0
    assert "not read: 1 note mark; 1 note" in out
    assert "warning: tales.md: has a <!-- without an end" in err


def test_the_end_of_a_reading_names_them_too(capsys, checkpoints, tmp_path):
    (tmp_path / "tales.md").write_text("# One\n\nIt was late.[^1] <!--\n\n[^1]: A note.\n")
    code, out, err = run(capsys, "read", tmp_path / "tales.md", "-m", checkpoints["delay"], "-o", tmp_path / "tales",
                         "--format=wav", "--max-tokens=8")  # fmt: skip
    assert code == 0
    assert "not read: 1 note mark; 1 note" in out
    assert "warning: tales.md: has a <!-- without an end" in err


def test_a_plan_fetches_no_model(capsys, tmp_path):
    (tmp_path / "tales.md").write_text(TEXT)
    code, out, _ = run(capsys, "read", tmp_path / "tales.md", "--plan", "-m", "some/model", "--long-form-max-chars=60",
                       "--long-form-target-chars=40", "--long-form-min-chars=20")  # fmt: skip
    assert code == 0
    assert len(re.findall(r"^  \d+\.\d+ ", out, re.MULTILINE)) == sum(SEGMENTS)
    assert "Tales: 2 chapters, 8 segments" in out
    assert list(tmp_path.iterdir()) == [tmp_path / "tales.md"]


@pytest.mark.parametrize("model", [[], ["--model", "delay"], ["--model", "some/model"]])
def test_a_plan_loads_nothing_that_speaks(checkpoints, tmp_path, model):
    """It would take seconds, where the plan itself takes none."""
    (tmp_path / "tale.txt").write_text("It was late.")
    (tmp_path / "delay").symlink_to(checkpoints["delay"])
    script = (
        "import sys\nfrom moss_tts.cli import main\n"
        f"try: main(['read', 'tale.txt', '--plan', *{model!r}])\n"
        "except SystemExit as end: print(end.code)\n"
        "slow = {'moss_tts.model', 'moss_tts.speaking.engine', 'mlx_lm', 'transformers', 'torch', 'huggingface_hub'}\n"
        "print(sorted(slow & set(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert "1.1  0-12" in ended.stdout
    assert ended.stdout.splitlines()[-2:] == ["0", "[]"]


def test_a_plan_for_the_packaged_voice_is_of_its_segments(capsys, tmp_path):
    (tmp_path / "tale.txt").write_text(
        "Chapter One\n\nIt cost $3.50 👍, and nobody, however rich, would have it then\n"
    )
    code, out, err = run(capsys, "read", tmp_path / "tale.txt", "--plan", "--instruction", "An old man")
    assert code == 0
    assert "It cost three dollars and fifty cents" in out
    assert "left out: 👍" in err
    assert "does not follow instruction" in err


def test_a_chapter_without_words_is_named_before_anything_is_spoken(delay_model, tmp_path):
    empty = Book("B", None, None, (Chapter("One", "Hello there."), Chapter("Bad", "\u200b \u200b")))
    with pytest.raises(RequestError, match=r"chapter 2 \('Bad'\): .*nothing to speak"):
        read(delay_model, empty, tmp_path / "a")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["-m", "x", "-o", "a.mp3"], "name an .m4b file for the whole book"),
        (["-m", "x", "-o", "nowhere/a.m4b"], "no directory"),
        (["-m", "x", "--format", "aac"], "wav, flac, mp3, ogg"),
        (["-m", "x", "-o", "a.m4b", "--seed", "-1"], "seed"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_loaded(capsys, tmp_path, monkeypatch, arguments, complaint):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tales.md").write_text(TEXT)
    code, _, err = run(capsys, "read", "tales.md", *arguments)
    assert code == 2
    assert complaint in " ".join(err.replace("│", "").split())
    assert list(tmp_path.iterdir()) == [tmp_path / "tales.md"]


def test_the_command_writes_chapters_times_and_report(capsys, tmp_path, checkpoints):
    (tmp_path / "tales.md").write_text(TEXT)
    told = ["read", tmp_path / "tales.md", "-m", checkpoints["delay"], "-o", tmp_path / "out", "--format", "wav"]
    told += ["--report", tmp_path / "r.html", "--max-tokens", 12, "--seed", 7]
    code, out, err = run(capsys, *told)
    assert code == 0, err
    assert re.search(r"2 chapters, \d+ s of audio, made in \d+ s, seed 7", out)
    assert not (tmp_path / "out.work").exists()
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        "01 The Clocks.wav",
        "02 The End of it.wav",
        "segments.json",
    }
    digest = hashlib.sha256((tmp_path / "out" / "01 The Clocks.wav").read_bytes()).hexdigest()
    code, _, err = run(capsys, *told)
    assert (code, "holds a finished reading" in err, "--force" in err) == (2, True, True)
    assert run(capsys, *told, "--force")[0] == 0
    assert hashlib.sha256((tmp_path / "out" / "01 The Clocks.wav").read_bytes()).hexdigest() == digest
    assert Path(tmp_path / "r.html").is_file()
