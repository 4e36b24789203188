"""Speech and the time of its cue: bounds of the tempo, silence at the ends, words that are cut off."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("av", reason="the extra dub is not installed")

from moss_tts.dubbing.fitting import Bounds, Room, fitted, rooms_of, trimmed
from moss_tts.errors import RequestError

RATE = 24_000


def noise(seconds: float, channels: int = 1) -> np.ndarray:
    shape = (round(seconds * RATE),) if channels == 1 else (round(seconds * RATE), channels)
    return (0.1 * np.random.default_rng(0).standard_normal(shape)).astype(np.float32)


@pytest.mark.parametrize(
    ("spoken", "wanted", "tempo"),
    [(1.0, 1.0, 1.0), (1.2, 1.0, 1.2), (2.0, 1.0, 1.5), (0.9, 1.0, 0.9), (0.8, 1.0, 0.8), (0.5, 1.0, 1.0)],
)
def test_the_tempo_stays_within_its_bounds(spoken, wanted, tempo):
    assert Bounds().tempo(spoken, wanted) == pytest.approx(tempo)
    assert Bounds(1, 1).tempo(spoken, wanted) == 1.0


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        (Bounds(0.1, 1.5), "--slowest must be a number in 0.25..1, got 0.1"),
        (Bounds(1.1, 1.5), "--slowest"),
        (Bounds(0.8, 0.9), "--fastest must be a number in 1..4, got 0.9"),
        (Bounds(0.8, 5), "--fastest"),
        (Bounds(math.nan, 1), "--slowest"),
    ],
)
def test_other_bounds_are_refused(bounds, message):
    with pytest.raises(RequestError, match=message):
        bounds.check()


def test_a_slot_ends_where_the_next_cue_begins():
    first, second, third = rooms_of([(1.0, 4.0), (2.0, 2.0), (3.0, 5.0)])
    assert (first.end, first.limit, first.seconds) == (4.0, 2.0, 1.0)
    assert (second.end, second.seconds) == (3.0, 1.0)
    assert (third.limit, third.seconds) == (math.inf, 2.0)
    assert rooms_of([(1.0, 1.0)])[0].seconds == math.inf


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("seconds", [0.5, 0.9, 1.0, 1.3, 1.6])
def test_speech_fits_to_the_sample(seconds, channels):
    room = Room(10.0, 11.0, 11.1)
    words, fit = fitted(noise(seconds, channels), RATE, room, Bounds())
    assert words.shape[1:] == (() if channels == 1 else (2,))
    assert len(words) == pytest.approx(min(seconds / fit.tempo, 1.1) * RATE, abs=1)
    assert fit.is_fit is (seconds <= 1.5)
    assert (fit.late, fit.lost) == (pytest.approx(0.0667, abs=1e-3) if seconds == 1.6 else 0, 0)
    if seconds < 0.8:
        np.testing.assert_array_equal(words, noise(seconds, channels))


def test_what_would_sound_into_the_next_cue_is_cut_off_softly():
    words, fit = fitted(noise(3.0), RATE, Room(1.0, 1.8, 2.0), Bounds())
    assert len(words) == RATE
    assert (fit.tempo, fit.late, fit.lost) == (1.5, pytest.approx(0.2), pytest.approx(1.0))
    assert fit.needed == pytest.approx(3.0 / 0.8)
    assert not fit.is_fit
    assert abs(words[-1]) < 1e-3 < np.abs(words[-2000:-1000]).max()


def test_silence_at_the_ends_goes_and_words_begin_at_once():
    silence = np.zeros(RATE, np.float32)
    words = trimmed(np.concatenate([silence, noise(1.0), silence]), RATE)
    assert len(words) == pytest.approx(1.04 * RATE, abs=0.01 * RATE)
    assert np.flatnonzero(words)[0] <= 0.02 * RATE
    np.testing.assert_array_equal(trimmed(silence, RATE), silence)
