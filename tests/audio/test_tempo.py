"""Audio at another speed: as long as was asked for, at the same pitch, whatever the chunks are."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import moss_tts
from moss_tts.audio.tempo import FASTEST, SLOWEST, Tempo
from moss_tts.errors import AudioError, RequestError
from moss_tts.model import Model

RATE = 24000
SPEEDS = [SLOWEST, 0.7, 1.3, 2.0, FASTEST]
TEXT = "It was cold. Then it rained, and the rain went on for days."


def tone(seconds: float, channels: int = 1) -> np.ndarray:
    """A tone that comes and goes, (S,) or (S, C)."""
    t = np.arange(round(seconds * RATE)) / RATE
    mono = (np.sin(2 * np.pi * 440 * t) * (0.3 + 0.2 * np.sin(2 * np.pi * 3 * t))).astype(np.float32)
    return mono if channels == 1 else np.stack([mono, -mono], axis=1)


def at(speed: float, audio: np.ndarray, cuts: list[int]) -> np.ndarray:
    tempo = Tempo(speed, RATE, 1 if audio.ndim == 1 else audio.shape[1])
    parts = np.split(audio, sorted(cut % (len(audio) + 1) for cut in cuts))
    return np.concatenate([tempo.feed(part, index == len(parts) - 1) for index, part in enumerate(parts)])


@given(st.floats(SLOWEST, FASTEST), st.lists(st.integers(0, 10**6), max_size=5), st.integers(0, RATE))
@settings(max_examples=20)
def test_the_length_is_exact_and_chunks_change_nothing(speed, cuts, samples):
    audio = tone(1)[:samples]
    made = at(speed, audio, cuts)
    assert len(made) == round(samples / speed)
    assert np.array_equal(made, at(speed, audio, []))


@pytest.mark.parametrize("speed", SPEEDS)
def test_the_pitch_stays_and_the_rhythm_changes(speed):
    made = at(speed, tone(4), [])
    for signal, wanted in ((made, 440.0), (np.abs(made), 3 * speed)):
        spectrum = np.abs(np.fft.rfft((signal - signal.mean()) * np.hanning(len(signal)), 2**19))
        found = np.argmax(spectrum[: 2**19 * 800 // RATE]) * RATE / 2**19
        assert found == pytest.approx(wanted, rel=0.03)


def test_channels_stay_apart():
    made = at(1.5, tone(1, channels=2), [1000])
    assert made.shape == (RATE * 2 // 3, 2)
    np.testing.assert_allclose(made[:, 0], -made[:, 1], atol=1e-6)


@pytest.fixture(scope="module")
def model() -> Model:
    return moss_tts.load()


def test_one_is_no_change(model):
    assert np.array_equal(model.say(TEXT, seed=1, speed=1), model.say(TEXT, seed=1))


@pytest.mark.parametrize("speed", [0.5, 3.0])
def test_all_ways_to_speak_give_the_same(model, speed):
    """One piece after the other, their silence too: whole, in chunks, in a batch, and as segments."""
    options = {"seed": 1, "speed": speed}
    segments = []
    whole = model.say(TEXT, on_segment=segments.append, **options)
    usual = model.say(TEXT, seed=1)
    lengths = [round(segment.emitted_samples / speed) for segment in usual.segments]
    assert [segment.emitted_samples for segment in segments] == pytest.approx(lengths, abs=2)
    assert len(segments) == 2
    assert sum(segment.emitted_samples for segment in segments) == len(whole)
    chunks = [chunk.audio for chunk in model.generate(TEXT, stream=True, streaming_interval=0.3, **options)]
    np.testing.assert_allclose(np.concatenate(chunks), whole.audio, atol=1e-4)
    [(_, in_batch)] = model.generate_batch([{"text": TEXT, **options}])
    np.testing.assert_allclose(in_batch.audio, whole.audio, atol=1e-4)


@pytest.mark.parametrize("speed", [0, 0.2, 4.1, float("nan"), "fast", True])
def test_other_speeds_are_refused(model, speed):
    with pytest.raises(RequestError, match=r"speed must be a number in 0\.25\.\.4"):
        model.say(TEXT, speed=speed)


def test_without_pyav_the_extra_is_named_and_speed_one_works(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(AudioError, match=r"moss-tts-mlx\[av\]"):
        model.request({"text": TEXT, "speed": 2})
    assert model.request({"text": TEXT, "speed": 1}).speed == 1
