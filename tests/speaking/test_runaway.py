"""The runaway guard: what it allows is far above any reading, and what it hears does not depend on chunks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moss_tts.speaking.runaway import (
    FLOOR_SECONDS,
    MAX_QUIET_SECONDS,
    QuietState,
    QuietWatch,
    longest_plausible_seconds,
    longest_quiet_seconds,
    states,
)

RATE = 1000
WINDOW = 20

# Texts and how long a calm reading of each takes, in seconds.
READINGS = [
    ("The quick brown fox jumps over the lazy dog, and then it goes home to sleep.", 6.0),
    ("1,234,567 and 89,012,345", 10.0),
    ("我今天学习了一首中国的古诗，它的名字是静夜思！", 6.5),
    ("今日は日本語の勉強をしました。明日も頑張ります。", 6.0),
    ("나는 오늘 중국의 고시를 배웠습니다.", 4.0),
    ("أدرس اللغة العربية كل يوم في الجامعة.", 4.5),
    ("मैं हर दिन विश्वविद्यालय में हिंदी पढ़ता हूँ।", 5.0),
    ("WWW, HTTP and the FBI", 6.0),
    ("50% of $3 & 4 km²", 6.5),
    ("name is[pause 3.2s]silence", 5.0),
]


@pytest.mark.parametrize(("text", "calm"), READINGS)
def test_a_slow_reading_is_never_too_long_and_a_loop_always_is(text, calm):
    limit = longest_plausible_seconds(text) - FLOOR_SECONDS
    assert 1.2 * calm < limit < 6 * calm


@given(st.text(max_size=60), st.text(max_size=60))
def test_more_text_may_take_longer(first, second):
    both = longest_plausible_seconds(first + " " + second)
    assert both >= longest_plausible_seconds(first) - 1e-9 >= FLOOR_SECONDS - 1e-9
    assert both <= longest_plausible_seconds(first) + longest_plausible_seconds(second) + 1e-9


@given(st.integers(0, 30), st.integers(0, 9))
def test_pauses_asked_for_are_allowed(whole, tenths):
    pause = whole + tenths / 10
    text = f"Now [pause {whole}.{tenths}s] then"
    assert longest_plausible_seconds(text) >= longest_plausible_seconds("Now then") + pause
    assert longest_quiet_seconds(text) >= MAX_QUIET_SECONDS + pause


def test_tags_are_not_spoken():
    assert longest_plausible_seconds("[S1] Hello.") < longest_plausible_seconds("S one, Hello.")


def listen(chunks):
    state = QuietState()
    for chunk in chunks:
        *_, state = states(state, chunk, RATE)
    return state


def speech(seconds, level=0.2):
    return level * np.sin(np.arange(int(seconds * RATE)))


def hush(seconds, level=0.0):
    return speech(seconds, level)


@given(st.lists(st.integers(1, 3000), max_size=12), st.sampled_from([0.0, 1e-4]))
def test_any_chunks_are_heard_alike(cuts, level):
    audio = np.concatenate([hush(0.3), speech(1.1), hush(2.035, level), speech(0.2), hush(1.5, level)])
    whole = listen([audio])
    parts = listen(np.split(audio, np.minimum(np.cumsum(cuts), len(audio))))
    assert parts.quiet_samples == whole.quiet_samples
    assert parts.loudest == pytest.approx(whole.loudest)
    np.testing.assert_array_equal(parts.rest, whole.rest)
    assert whole.quiet_samples == pytest.approx(1500, abs=40)


def test_silence_before_speech_is_no_runaway():
    assert listen([hush(60, 1e-3)]).quiet_samples == 0


@pytest.mark.parametrize("loudness", [0.02, 0.2, 0.9])
@pytest.mark.parametrize("hiss", [0.0, 1e-4])
def test_low_level_after_speech_counts_at_any_loudness(loudness, hiss):
    state = listen([speech(1, loudness), hush(6, hiss)])
    assert state.quiet_samples == pytest.approx(6 * RATE, abs=20)


def test_speech_resets_the_count():
    assert listen([speech(1), hush(6), speech(0.5)]).quiet_samples == 0


def test_stereo_is_heard_as_its_mean():
    audio = np.concatenate([speech(1), hush(2)])
    stereo = listen([np.stack([audio, audio], axis=1)])
    assert stereo.quiet_samples == listen([audio]).quiet_samples


def test_a_pause_that_was_asked_for_may_be_quiet():
    def watched(text):
        watch = QuietWatch(text, RATE)
        return [watch.hear(audio) for audio in (speech(1), hush(5.5))]

    assert watched("Hello there.") == [None, 5 * RATE + WINDOW]
    assert watched("Hello [pause 5s] there.") == [None, None]


@given(st.lists(st.integers(1, 9 * RATE), max_size=5), st.booleans())
def test_where_the_quiet_is_too_long_does_not_depend_on_chunks(cuts, speaks_on):
    audio = np.concatenate([speech(1), hush(6), speech(1) if speaks_on else hush(1)])
    watch, before = QuietWatch("Hello there.", RATE), 0
    for chunk in np.split(audio, sorted(cuts)):
        if (until := watch.hear(chunk)) is not None:
            assert before + until == 6 * RATE + WINDOW
            return
        before += len(chunk)
    pytest.fail("nothing was noticed")
