"""Several voices in a book: each segment in its own, marks never spoken, errors first, files as if never killed."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from moss_tts.audio.pcm import as_pcm
from moss_tts.books.book import read_book
from moss_tts.books.chapter_files import SpokenBook
from moss_tts.books.kept_segments import KeptSegments
from moss_tts.books.narrators import BookNarrators, chapter_seed
from moss_tts.books.planning import long_form_options, plan_book
from moss_tts.books.reading import begin_reading, chapter_paths, finish_book, misspoken, speak_book
from moss_tts.books.voices import BookVoices
from moss_tts.errors import RequestError
from moss_tts.long_form import retry_seed
from moss_tts.speaking.checking import Check
from moss_tts.text.cast import Cast, Casting
from moss_tts.voices import Voices
from moss_tts.weights.layout import read_weights
from support.adapters import linears_of, write_adapter
from support.command_line import runner

TEXT = """
# The Clocks

It was a bright cold day in April, and the GIF was new.

Alice: The clocks strike thirteen. [narrator] Nobody cared.

[voice: bob] So said the mayor himself

# The End

Tom: It rains.

[Alice]

It is over. So we go home, one by one.
"""
CAST = 'narrator = ada\n"Alice" = default, seed 5\n"Tom" = bob, seed 9\n'
SPOKEN = [
    [
        ("ada", "The Clocks\n\nIt was a bright cold day in April, and the jiff was new."),
        (None, "The clocks strike"),
        ("ada", "Nobody cared."),
        ("bob", "So said the mayor himself"),
    ],
    [("ada", "The End"), ("bob", "It rains."), (None, "It is over. So we go home, one by one.")],
]
OPTIONS = {"max_tokens": 8, "seed": 7, "lexicon": {"GIF": "jiff"}}


@pytest.fixture(scope="module")
def voices(models, tmp_path_factory):
    """Two registered voices, whose recordings differ."""
    found = Voices(tmp_path_factory.mktemp("voices"))
    for seed, name in enumerate(("ada", "bob")):
        noise = 0.1 * np.random.default_rng(seed).standard_normal(12000).astype(np.float32)
        found.add(name, (noise, models["delay"].sample_rate))
    return found


@pytest.fixture
def book(tmp_path):
    (tmp_path / "play.md").write_text(TEXT)
    return read_book(tmp_path / "play.md")


@pytest.fixture
def cast(tmp_path):
    (tmp_path / "cast.txt").write_text(CAST)
    return Cast.read(tmp_path / "cast.txt")


@pytest.fixture
def several(book, cast, voices):
    return BookVoices.of(book, cast, voices)


class Killed(Exception):
    """What ends a reading in the middle."""


def hear(audio, rate):
    """A recogniser that hears wrong words: how many, the samples decide. More than were said are too many."""
    assert rate == 24000
    return "wrong " * int(1 + as_pcm(audio).astype(int).sum() % 12), "en"


def read(model, book, several, output, *, hear=hear, limit=1.0, stop_after=None):
    """Read into an .m4b with subtitles; the places of the segments that were spoken for it."""
    spoken_now = []

    def on_spoken(chapter, segment):
        spoken_now.append((chapter, segment.metrics.segment_idx))
        if len(spoken_now) == stop_after:
            raise Killed

    work, more = output.with_suffix(".work"), several.fingerprints() | {"check": limit}
    kept, seed = begin_reading(work, book, OPTIONS, "c", more=more)
    plans = plan_book(book, OPTIONS, voices=several)
    spoken = SpokenBook(book, plans, kept, long_form_options(OPTIONS), limit=limit)
    check = Check(limit, 2, hear)
    try:
        speak_book(model, spoken, OPTIONS, seed, voices=several, check=check, on_spoken=on_spoken)
    except Killed:
        return spoken_now
    finish_book(spoken, chapter_paths(book, output, ".mp3"), output.with_suffix(".html"), output.with_suffix(".srt"))
    return spoken_now


def test_each_segment_has_its_voice(book, several):
    plans = plan_book(book, OPTIONS, voices=several)
    assert [
        [(part.casting.voice, part.text[: len(text)]) for part, (_, text) in zip(plan, wanted, strict=True)]
        for plan, wanted in zip(plans, SPOKEN, strict=True)
    ] == SPOKEN
    assert "GIF" in plans[0][0].written
    ends = [str(part.boundary) for part in plans[0]]
    assert ends == ["paragraph", "turn", "paragraph", "end"]
    starts = [place for plan in plans for part in plan for place in (part.start_offset, part.end_offset)]
    assert starts[:8] == sorted(starts[:8])


def test_the_model_is_given_voices_and_no_marks(delay_model, book, several, tmp_path, monkeypatch):
    asked = []
    real = type(delay_model).job
    monkeypatch.setattr(
        type(delay_model),
        "job",
        lambda self, request, cancel=None: asked.append(request) or real(self, request, cancel),
    )
    read(delay_model, book, several, tmp_path / "a.m4b", hear=lambda *_: ("", "en"), limit=0.4)
    once = [request for request in asked[::3]]
    assert [[request.text for request in once[:4]], [request.text for request in once[4:]]] == [
        [part.text for part in plan] for plan in plan_book(book, OPTIONS, voices=several)
    ]
    assert not any("[" in request.text or "Alice" in request.text for request in asked)
    ada, bob = (several.registered[name].codes(delay_model) for name in ("ada", "bob"))
    for number, own in ((0, ada), (2, ada), (3, bob), (4, ada), (5, bob)):
        [reference] = once[number].reference
        codes = reference.parts[0].codes if hasattr(reference, "parts") else reference.codes
        assert np.array_equal(codes, own)
    # The model's own voice: nothing says how it sounds at first; then its first segment does.
    assert once[1].reference == ()
    first = KeptSegments(tmp_path / "a.work").spoken(0, 1).codes
    assert np.array_equal(once[6].reference[0].codes, first)
    seeds = [(7, 0), (5, 1), (7, 2), (7, 3), (chapter_seed(7, 1), 0), (chapter_seed(9, 1), 1), (chapter_seed(5, 1), 2)]
    assert [request.seed for request in once] == [retry_seed(seed, index, 0) for seed, index in seeds]


def test_a_reading_killed_anywhere_becomes_what_it_would_have_been(delay_model, book, several, tmp_path):
    everything = read(delay_model, book, several, tmp_path / "whole.m4b")
    takes = [len(KeptSegments(tmp_path / "whole.work").spoken(*place).takes) for place in everything]
    assert len(everything) == 7
    assert len(set(takes)) > 1

    def killed_at(times):
        heard = iter(range(1, times + 1))

        def hear_until(audio, rate):
            if next(heard) == times:
                raise Killed
            return hear(audio, rate)

        return hear_until

    spoken = []
    for options in ({"stop_after": 1}, {"hear": killed_at(2)}, {"hear": killed_at(5)}, {"stop_after": 2}, {}):
        spoken += read(delay_model, book, several, tmp_path / "parts.m4b", **options)
    assert spoken == everything
    for suffix in (".m4b", ".srt"):
        assert (tmp_path / f"parts{suffix}").read_bytes() == (tmp_path / f"whole{suffix}").read_bytes()
    rows, others = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("parts", "whole"))
    assert [{**row, "file": ""} for row in rows] == [{**row, "file": ""} for row in others]
    assert [row["voice"] for row in rows] == [voice for plan in SPOKEN for voice, _ in plan]
    assert all(row["heard"] and row["word_error"] >= 0 for row in rows)


def test_a_misspoken_segment_is_listed_and_stops_nothing(delay_model, book, several, tmp_path):
    read(delay_model, book, several, tmp_path / "a.m4b", hear=lambda *_: ("nothing <of> that", "en"), limit=0.4)
    kept = KeptSegments(tmp_path / "a.work")
    spoken = SpokenBook(book, plan_book(book, OPTIONS, voices=several), kept, long_form_options(OPTIONS), limit=0.4)
    sentences = misspoken(spoken)
    assert len(sentences) == 7
    assert sentences[3] == (
        "chapter 1 ('The Clocks'), segment 4 ('So said the mayor himself') was heard as 'nothing <of> that': 1.00, the "
        "best of 3 attempts."
    )
    page = (tmp_path / "a.html").read_text()
    assert "Misspoken segments" in page
    assert page.count("nothing &lt;of&gt; that") == 7 + 3 * 7
    assert misspoken(replace(spoken, limit=1.0)) == []


def test_a_preview_is_what_the_book_will_be(delay_model, book, several, tmp_path):
    read(delay_model, book, several, tmp_path / "a.m4b", hear=lambda *_: ("", "en"), limit=0.4)
    kept = KeptSegments(tmp_path / "a.work")
    spoken = SpokenBook(
        book, plan_book(book, OPTIONS, voices=several), KeptSegments(tmp_path / "none"), long_form_options(OPTIONS)
    )
    narrators = BookNarrators(delay_model, spoken, OPTIONS, 7, several)
    assert list(narrators.first.values()) == [(0, 0), (0, 1), (0, 3), (1, 1)]
    for casting, place in narrators.first.items():
        delay_model.architecture.prefixes.clear()
        assert np.array_equal(as_pcm(narrators.alone(casting).audio), kept.pcm(*place)), casting


def test_side_by_side_the_voices_are_the_same(delay_model, book, several, tmp_path):
    """A voice without a recording is heard once before others may be spoken beside it."""
    untied = {**OPTIONS, "long_form_prefix_audio_seconds": 0.0, "long_form_prefix_audio_max_tokens": 0}
    codes = []
    for parallel in (1, 4):
        kept = KeptSegments(tmp_path / str(parallel))
        options = {**untied, "long_form_parallel": parallel}
        spoken = SpokenBook(book, plan_book(book, options, voices=several), kept, long_form_options(options))
        kept.directory.mkdir()
        assert speak_book(delay_model, spoken, options, 7, voices=several)
        codes.append([kept.spoken(0, segment).codes for segment in range(4)])
    assert all(map(np.array_equal, *codes))


def test_a_casting_adds_its_adapters_and_takes_the_place_of_other_voices(several):
    given = {"ref_audio": ["x.wav"], "instruction": "slowly", "adapters": {"warm": 0.0, "dry": 1.0}, "seed": 3}
    assert several.options(given, None) == given
    own = several.options(given, Casting(None, 4, (("warm", 0.5),)))
    assert own == {"instruction": "slowly", "adapters": {"warm": 0.5, "dry": 1.0}}
    assert several.options(given, Casting("bob"))["voice"].name == "bob"


def test_a_registered_voice_of_a_book_has_its_own_adapters(several, tmp_path):
    """Those of the narrator's voice, among the options of the book, are not heard in the others."""
    soundfile.write(tmp_path / "a.wav", [0.3, -0.3] * 6_000, 24_000)
    warm = Voices(tmp_path / "voices").add("warm", tmp_path / "a.wav", adapters={"warm": 0.5})
    book = replace(several, registered={**several.registered, "warm": warm}, weights={"warm": 0.0, "dry": 1.0})
    given = {"adapters": {"warm": 0.0, "dry": 1.0, "of the narrator": 0.7}}
    assert book.options(given, Casting("warm"))["adapters"] == {"warm": 0.5, "dry": 1.0}
    assert book.options(given, Casting("bob"))["adapters"] == {"warm": 0.0, "dry": 1.0}
    assert book.options(given, Casting("warm", None, (("warm", 2.0),)))["adapters"] == {"warm": 2.0, "dry": 1.0}
    assert book.options(given, None) == given


def test_voices_are_fingerprints_of_a_reading(book, cast, voices, several, tmp_path):
    assert several.fingerprints()["cast Tom"] == "bob, seed 9"
    begin_reading(tmp_path / "w", book, OPTIONS, "c", more=several.fingerprints())
    other = BookVoices.of(book, Cast({**cast.castings, "Tom": Casting("ada")}), voices)
    with pytest.raises(RequestError, match="cast Tom was 'bob, seed 9', is now 'ada'"):
        begin_reading(tmp_path / "w", book, OPTIONS, "c", more=other.fingerprints())


def test_an_adapter_that_is_not_loaded_is_refused_before_anything_is_spoken(delay_model, book, several, tmp_path):
    castings = {**several.cast.castings, "Tom": Casting("bob", None, (("warm", 0.5),), "cast c.txt, line 3")}
    other = replace(several, cast=Cast(castings))
    with pytest.raises(RequestError, match=r"cast c\.txt, line 3: .*warm"):
        read(delay_model, book, other, tmp_path / "a.m4b")
    assert not KeptSegments(tmp_path / "a.work").holds(0, 0)


# --------------------------------------------------------------------------------------------- the command line


@pytest.fixture
def run(capsys, voices, monkeypatch, tmp_path):
    monkeypatch.setenv("MOSS_TTS_VOICES", str(voices.directory))
    monkeypatch.chdir(tmp_path)
    return runner(capsys)


@pytest.mark.parametrize(
    ("text", "cast", "complaint"),
    [
        (
            "[voice: eve] Hi.",
            "narrator = ada",
            "chapter 1 ('play'): [voice: eve]: There is no voice 'eve'. Registered voices: ada, bob.",
        ),
        ("Hi.", 'narrator = ada\n"Eve" = eve', "cast cast.txt, line 2: There is no voice 'eve'."),
        ("[S1] Hi. [S2] Ho.", "S1 = ada", "chapter 1 ('play'): The cast has no voice for 'S2'. The cast has S1."),
        ("[voice: ada]", "", "chapter 1 ('play'): there are voice marks, and no text"),
        ("[voice:] Hi.", "", "chapter 1 ('play'): the mark '[voice:]' must name one voice"),
    ],
)
def test_what_has_no_voice_is_one_sentence_before_anything_is_loaded(run, tmp_path, text, cast, complaint):
    (tmp_path / "play.txt").write_text(text)
    (tmp_path / "cast.txt").write_text(cast)
    ended = run("read", "play.txt", "--cast", "cast.txt", "--model", "nowhere/at-all")
    assert ended.code == 2
    assert complaint in ended.err
    assert {path.name for path in tmp_path.iterdir()} == {"play.txt", "cast.txt"}


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (
            ["--cast", "cast.txt", "--voice", "bob"],
            "The narrator has a voice in --cast cast.txt, so leave --voice out.",
        ),
        (["--retakes", "1"], "Give --check as well"),
        (["--check", "2"], "--check must be errors per word, 0 to 1, got 2.0"),
        (["--check", "nan"], "0 to 1, got nan"),
        (["--check", "0.2", "--retakes", "21"], "--retakes must be 0 to 20"),
    ],
)
def test_options_that_do_not_fit_are_refused(run, tmp_path, options, complaint):
    (tmp_path / "play.txt").write_text("Hi.")
    (tmp_path / "cast.txt").write_text("narrator = ada")
    ended = run("read", "play.txt", *options)
    assert ended.code == 2
    assert complaint in ended.err


class Ears:
    """Stands in for Whisper: what it hears is never what was said."""

    def __init__(self, model):
        assert model is None

    def check_language(self, code):
        assert code == "en"

    def hear(self, audio, code):
        assert audio.dtype == np.float32
        return "not at all", code


def test_a_check_lists_what_was_misspoken(run, checkpoints, tmp_path, monkeypatch):
    for name, stand_in in (("Recogniser", Ears), ("check_recogniser", lambda _: None)):
        monkeypatch.setattr(f"moss_tts.subtitles.recogniser.{name}", stand_in)
    (tmp_path / "play.txt").write_text("[voice: ada] It was cold\n\n" + "[narrator] One. [voice: bob] Two. " * 6)
    told = ["--max-tokens", "2", "--check", "0.2", "--retakes", "1", "--language", "English", "--report", "r.html"]
    ended = run("read", "play.txt", "--model", checkpoints["delay"], *told)
    assert ended.code == 0, ended.err
    assert "segment 1 ('It was cold') was heard as 'not at all': 1.00, the best of 2 attempts." in ended.err
    assert "3 more segments were misspoken: play/segments.json has them, as --report does." in ended.err
    rows = json.loads((tmp_path / "play" / "segments.json").read_text())
    assert [row.get("voice") for row in rows[:3]] == ["ada", None, "bob"]
    assert {row["heard"] for row in rows} == {"not at all"}
    assert "Misspoken segments" in (tmp_path / "r.html").read_text()


def test_a_plan_and_a_preview_name_the_voices(run, checkpoints, tmp_path):
    (tmp_path / "play.md").write_text(TEXT)
    (tmp_path / "cast.txt").write_text(CAST)
    ended = run("read", "play.md", "--cast", "cast.txt", "--model", checkpoints["delay"], "--plan")
    assert "1.2  " in ended.out
    assert "ends at turn, in voice default, seed 5: The clocks strike thirteen." in ended.out
    told = ["--max-tokens", "8", "--seed", "7", "--format", "wav", "--preview"]
    ended = run("read", "play.md", "--cast", "cast.txt", "--model", checkpoints["delay"], *told)
    assert ended.code == 0, ended.err
    names = ["01 narrator.wav", "02 Alice.wav", "03 bob.wav", "04 Tom.wav"]
    assert sorted(path.name for path in (tmp_path / "play.preview").iterdir()) == names
    assert "play.preview/02 Alice.wav: Alice, " in ended.out
    assert not (tmp_path / "play").exists()


def test_an_adapter_is_heard_in_its_voice_alone(run, checkpoints, tmp_path):
    layers = linears_of(read_weights(checkpoints["delay"]))
    adapter = write_adapter(tmp_path / "warm", layers)
    (tmp_path / "play.txt").write_text("It is cold.\n\nTom: So it is.")
    heard = []
    for more in ("", ", adapter warm"):
        (tmp_path / "cast.txt").write_text(f'narrator = default\n"Tom" = ada, seed 3{more}\n')
        told = ["--lora", f"warm={adapter}:0", "--max-tokens", "8", "--seed", "7", "--format", "wav", "--preview"]
        ended = run("read", "play.txt", "--cast", "cast.txt", "--model", checkpoints["delay"], *told)
        assert ended.code == 0, ended.err
        heard.append([path.read_bytes() for path in sorted((tmp_path / "play.preview").iterdir())])
    assert heard[0][0] == heard[1][0]
    assert heard[0][1] != heard[1][1]
