"""The evaluations: error rates obey the laws of distances, and what is run ends with the line others read."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "evals"))

import likeness
import metrics
import prose
import recogniser
import speech
import spoken
import voices

from moss_tts import write_audio
from moss_tts.checkpoints.loading import load_config
from moss_tts.checkpoints.packaged import DIRECTORY
from moss_tts.errors import GenerationError
from moss_tts.text.english.reading import in_words
from moss_tts.text.prepared import prepare

heard_by_whisper = pytest.mark.skipif(not recogniser.installed(), reason=recogniser.MISSING)
sentences = st.lists(st.sampled_from("the cat sat on a red mat and we left".split()), max_size=8)


def line_of(capsys) -> dict:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


@given(sentences, sentences, sentences)
def test_edits_are_a_distance(a, b, c):
    assert metrics.edits(a, b) == metrics.edits(b, a)
    assert (metrics.edits(a, b) == 0) == (a == b)
    assert metrics.edits(a, c) <= metrics.edits(a, b) + metrics.edits(b, c)
    assert abs(len(a) - len(b)) <= metrics.edits(a, b) <= max(len(a), len(b))


@given(sentences, sentences, sentences)
def test_edits_grow_by_what_is_put_in(a, b, c):
    assert metrics.edits(a + c, b + c) <= metrics.edits(a, b)
    assert metrics.edits(a, a + b) == len(b)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("He is nineteen.", "he is 19"),
        ("It opened in nineteen eighty-four.", "It opened in 1984"),
        ("A grey colour, in the centre!", "a gray color in the center"),
        ("Well-known words", "well known words"),
        ("We're late; it's ten.", "we are late it is 10"),
        ("Doctor Brown", "Dr. Brown"),
    ],
)
def test_ways_of_writing_the_same_are_no_errors(one, other):
    found = metrics.compare(one, other)
    assert (found.word_errors, found.letter_errors) == (0, 0)


def test_scripts_without_blanks_are_compared_by_character():
    found = metrics.compare("今天天气很好", "今天天汽好", "zh")
    assert (found.words, found.word_errors) == (6, 2)


@settings(deadline=None)
@given(st.lists(st.tuples(sentences.filter(bool), sentences), min_size=1, max_size=4))
def test_rates_weigh_every_word_the_same(pairs):
    results = [metrics.compare(" ".join(a), " ".join(b)) for a, b in pairs]
    errors = sum(metrics.edits(metrics.words(" ".join(a)), metrics.words(" ".join(b))) for a, b in pairs)
    assert metrics.word_error_rate(results) == errors / sum(r.words for r in results)
    assert metrics.word_error_rate(results + results) == pytest.approx(metrics.word_error_rate(results))
    assert metrics.length_ratio(results) == sum(r.words_heard for r in results) / sum(r.words for r in results)


@pytest.mark.parametrize("audio", [np.zeros(16_000), np.zeros((800, 2)), np.zeros(0), np.full(800, 1e-4)])
def test_silence_is_heard_as_nothing(audio):
    assert recogniser.Recogniser().hear(audio.astype(np.float32), 16_000) == ""


@given(st.lists(st.text("ab ", min_size=1).filter(str.strip), min_size=1, max_size=30), st.integers(1, 40))
def test_sentences_are_spread_over_the_file(tmp_path_factory, lines, limit):
    path = tmp_path_factory.mktemp("sentences") / "some.txt"
    path.write_text("\n\n".join(lines))
    chosen = speech.read_sentences(path, limit)
    assert len(chosen) == min(limit, len(lines))
    assert chosen[0] == lines[0].strip()


def test_the_held_out_sentences_are_fifty_of_ours():
    chosen = speech.read_sentences(speech.HELD_OUT, speech.parsed([]).limit)
    assert len(set(chosen)) == speech.SENTENCES


@pytest.fixture
def deaf(monkeypatch):
    """A recogniser that hears one word whatever is said, so that nothing needs to be installed."""
    monkeypatch.setattr(recogniser.Recogniser, "hear", lambda *_: "you")
    monkeypatch.setattr(speech, "installed", lambda: True)
    monkeypatch.setattr(speech.quality, "installed", lambda: False)


@pytest.mark.usefixtures("deaf")
def test_checkpoints_are_compared(checkpoints, tmp_path, capsys):
    lines = tmp_path / "lines.txt"
    lines.write_text("You.\nYou and me.\n")
    models = [f"--model={checkpoints[name]}" for name in ("local", "delay")]
    arguments = [f"--sentences={lines}", f"--output={tmp_path / 'out'}", "--json", "--keep-audio"]
    assert speech.main([*models, *arguments]) == 0
    found = line_of(capsys)["checkpoints"]
    assert [(r["wer"], r["length_ratio"], r["sentences"]) for r in found] == [(0.5, 0.5, 2)] * 2
    assert all(r["real_time_factor"] > 0 for r in found)
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == found
    assert len(list((tmp_path / "out").rglob("*.wav"))) == 4
    tables = list((tmp_path / "out").rglob("heard.tsv"))
    assert [table.read_text().splitlines()[1].split("\t")[3] for table in tables] == ["You and me."] * 2


@pytest.mark.usefixtures("deaf")
def test_the_codec_alone_is_judged_on_the_teacher(checkpoints, tmp_path, monkeypatch, capsys):
    lines = tmp_path / "lines.txt"
    lines.write_text("You.\n")
    noise = np.random.default_rng(0).standard_normal(24_000).astype(np.float32) / 10
    monkeypatch.setattr(spoken, "teacher_reads", lambda _: noise)
    assert speech.main(["--codec", f"--model={checkpoints['local']}", f"--sentences={lines}", "--json"]) == 0
    found = line_of(capsys)
    assert (found["wer"], found["sentences"]) == (0, 1)
    assert 0.9 <= found["audio_seconds"] <= 1
    assert (found["mos"], found["silent"], found["cut_off"]) == (None, 0, 0)


def test_silence_is_counted():
    def waves(level):
        return spoken.Spoken(np.full(2400, level, np.float32), 24_000, 1.0, "stop")

    heard = metrics.compare("you", "you")
    judged = [speech.Judged(waves(level), heard, 3.0) for level in (0.0, 1e-3, 0.1)]
    found = speech.summary(judged)
    assert (found["silent"], found["mos"]) == (2, 3.0)


@pytest.mark.parametrize(
    ("matrix", "margin", "nearest"),
    [([[0.9, 0.1, 0.3], [0.5, 0.8, 0.1], [0.2, 0.2, 0.7]], 0.5, 0.3), ([[0.5, 0.5], [0.6, 0.4]], -0.2, -0.2)],
)
def test_margins_are_those_of_the_voice_that_follows_least(matrix, margin, nearest):
    found = voices.summary(np.array(matrix))
    assert (found["margin"], found["nearest"]) == (margin, nearest)


def test_a_matrix_of_voices_ends_with_its_line(checkpoints, tmp_path, monkeypatch, capsys):
    """The embedding is a stand-in: it hears the level of the audio."""
    monkeypatch.setattr(likeness, "installed", lambda: True)
    monkeypatch.setattr(likeness, "likeness", lambda audio, _: np.array([1.0, np.abs(audio).max()]))
    for name, level in (("low", 0.1), ("high", 0.5)):
        write_audio(tmp_path / f"{name}.wav", np.full(24_000, level, np.float32), 24_000)
    given = [f"--voice={name}={tmp_path / name}.wav" for name in ("low", "high")]
    out = tmp_path / "out"
    assert voices.main([f"--model={checkpoints['local']}", *given, "--limit=1", f"--output={out}", "--json"]) == 0
    found = line_of(capsys)
    assert (found["voices"], found["sentences"]) == (["low", "high"], 1)
    stored = json.loads((out / "matrix.json").read_text())
    assert np.array(stored["matrix"]).shape == (2, 2)
    assert stored["own"] == found["own"]


def test_one_voice_is_compared_with_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(likeness, "installed", lambda: True)
    assert voices.main(["--model=x", f"--voice=a={tmp_path}"]) == 1
    assert "two voices at least" in capsys.readouterr().err


def test_without_a_recogniser_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(speech, "installed", lambda: False)
    assert speech.main([]) == 1
    assert "pip install faster-whisper" in capsys.readouterr().err


PASSAGES, LONG = prose.read_passages(prose.PASSAGES)


@pytest.mark.parametrize("passage", [*PASSAGES, LONG], ids=lambda passage: passage.name)
def test_the_packaged_voice_is_given_what_a_person_reads_out(passage):
    assert not any(character.isdigit() for character in passage.spoken)
    wanted = prepare(passage.text, load_config(DIRECTORY).text_preparation)
    # Letters are given by their names; what is left is "a" of "a m", and "pence".
    assert metrics.compare(in_words(passage.spoken), " ".join(wanted.segments)).word_errors <= 2


def test_the_passages_are_many_and_one_is_long():
    assert len(PASSAGES) >= 16
    assert 250 <= len(LONG.spoken.split()) <= 350
    assert " ".join(prose.one_by_one("One. Two three!\n\n# Four\n- five")) == "One. Two three! Four five"


def test_prose_ends_with_the_line_that_others_read(tmp_path, monkeypatch, capsys):
    """Its speaker takes a second for each word, says nothing of sums, and never comes to an end of "on"."""

    def speak(text):
        if "=" in text:
            raise GenerationError("no sums")
        reason = "length" if text == "on" else "stop"
        return spoken.Spoken(np.zeros(100 * len(text.split()), np.float32), 100, 1.0, reason)

    monkeypatch.setattr(prose, "model_speaker", lambda *_: speak)
    monkeypatch.setattr(prose, "installed", lambda: True)
    monkeypatch.setattr(recogniser.Recogniser, "hear", lambda *_: "you")
    passages = tmp_path / "some.toml"
    texts = {"a": ("you", "You."), "b": ("1=1", "You you."), "c": ("on", "you")}
    tables = "".join(f"[[passage]]\nname = '{name}'\ntext = '{t}'\nspoken = '{s}'\n" for name, (t, s) in texts.items())
    passages.write_text(tables + "[long]\ntext = 'One. Two three.'\nspoken = 'you'\n")
    assert prose.main(["--json", f"--passages={passages}", f"--output={tmp_path / 'heard.tsv'}"]) == 0
    assert line_of(capsys) == {"wer": 0.5, "length_ratio": 1.0, "failed": 2}
    rows = [line.split("\t")[:3] for line in (tmp_path / "heard.tsv").read_text().splitlines()]
    assert rows[1:] == [["0", "1", "a"], ["2", "2", "b"], ["0", "1", "c"], ["0", "1", "long"]]


@heard_by_whisper
@pytest.mark.slow
def test_the_teacher_is_understood_and_noise_is_not():
    pytest.importorskip("hibari", reason=spoken.TEACHER_MISSING)
    ears, texts = recogniser.Recogniser(), speech.read_sentences(speech.HELD_OUT, 5)
    said = [metrics.compare(text, ears.hear(spoken.teacher_reads(text), 24_000)) for text in texts]
    assert metrics.word_error_rate(said) <= 0.1
    noise = np.random.default_rng(0).standard_normal(48_000).astype(np.float32) / 10
    assert metrics.compare(texts[0], ears.hear(noise, 24_000)).word_errors >= len(texts[0].split()) - 1
