"""Long prompts beside those who speak: nobody waits for one, and it says what it says alone."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from moss_tts.context import reading as context_reading
from moss_tts.context.reading import ON_CPU, ON_GPU, PartSizes, Reading, parts
from moss_tts.model import Model
from moss_tts.speaking import reading
from moss_tts.speaking.driving import speak_one
from moss_tts.speaking.engine import SpeechEngine, SpeechJob, is_last
from moss_tts.speaking.reading import Readings

ENDLESS = {"text_temperature": 0.0, "runaway_guard": False, "max_tokens": 10**6}
PART = 8


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt of a few sentences is a long one."""
    for device in ("ON_CPU", "ON_GPU"):
        monkeypatch.setattr(context_reading, device, PartSizes(PART, 2**16))
    monkeypatch.setattr(reading, "SHORT", 4 * PART)
    monkeypatch.setattr(reading, "ROWS_PER_STEP", 2 * PART)


@pytest.fixture
def read(delay_model: Model, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows of one request the network reads in each call from now on."""
    counts: list[int] = []
    network = type(delay_model.architecture.network)
    forward = network.__call__

    def counting(self, rows, *given, **named):
        if len(rows) == 1 and rows.shape[1] > 1:
            counts.append(rows.shape[1])
        return forward(self, rows, *given, **named)

    monkeypatch.setattr(network, "__call__", counting)
    delay_model.architecture.prefixes.clear()
    return counts


def job(model: Model, text: str, **options: object) -> SpeechJob:
    return model.job(model.request({"text": text, "seed": 1, "stream": True, **options}))


def long_job(model: Model) -> SpeechJob:
    return job(model, "A long text. " * 20, max_tokens=8)


def test_others_get_their_rows_while_a_long_prompt_is_read(delay_model, read):
    engine = SpeechEngine(delay_model.architecture, delay_model.codec)
    speaker = engine.submit(job(delay_model, "Hi.", **ENDLESS))
    while not speaker.frames and not speaker.undecoded:
        engine.step()
    read.clear()
    late, steps = engine.submit(long_job(delay_model)), 0
    while late not in engine._runs:
        before = len(read), engine._pending[0]
        engine.step()
        steps += 1
        assert sum(read[before[0] :]) <= 3 * PART
        assert engine._pending[0] is not before[1]
    assert steps >= 4
    assert sum(read) > 100
    assert max(read) <= PART


def test_a_long_prompt_says_beside_others_what_it_says_alone(delay_model):
    expected = list(speak_one(SpeechEngine(delay_model.architecture, delay_model.codec), long_job(delay_model)))
    engine = SpeechEngine(delay_model.architecture, delay_model.codec)
    others = [engine.submit(job(delay_model, "Hi.", **ENDLESS)) for _ in range(2)]
    engine.step()
    late, chunks = engine.submit(long_job(delay_model)), []
    while not (chunks and is_last(chunks[-1])):
        chunks += [chunk for run, chunk in engine.step() if run is late]
    frames = [np.concatenate([chunk.frames for chunk in made]) for made in (expected, chunks)]
    np.testing.assert_array_equal(*frames)
    for run in others:
        engine.drop(run)


def test_short_prompts_pass_long_ones(delay_model):
    """However many of these there are."""
    engine = SpeechEngine(delay_model.architecture, delay_model.codec, max_batch=6)
    long = [engine.submit(long_job(delay_model)) for _ in range(5)]
    short = engine.submit(replace(job(delay_model, "Hi.", max_tokens=4), prompt=long_job(delay_model).prompt[-PART:]))
    for _ in range(2):
        engine.step()
    assert short in engine._runs
    assert not set(long) & set(engine._runs)
    over = {short}
    while not engine.idle:
        over |= {run for run, chunk in engine.step() if is_last(chunk)}
    assert over == {short, *long}


def slow_parts(rows: int) -> Reading[Any]:
    """A reading of one row at a time, none of which comes at once."""
    for row in range(rows):
        time.sleep(0.002)
        yield row + 1
    return "its batch"


def test_long_prompts_take_no_more_time_than_the_rows_of_others():
    """To their last row: that takes as much time as the others."""
    readings: Readings[Any] = Readings()
    run = SimpleNamespace(prompt_rows=6 * PART, cancelled=False)
    readings.start(run, slow_parts(run.prompt_rows))
    [started] = readings._started
    for count in range(1, run.prompt_rows):
        assert not list(readings.go_on(others_speak=True))
        readings.others_took(0.001)
        assert not list(readings.go_on(others_speak=True))
        assert started.read == count
        readings.others_took(10)
    assert list(readings.go_on(others_speak=False)) == [(run, "its batch")]


@pytest.mark.parametrize("way", ["drop", "cancel"])
def test_a_prompt_is_read_no_further_than_somebody_waits_for_it(delay_model, read, way):
    gone: list[bool] = []
    engine = SpeechEngine(delay_model.architecture, delay_model.codec)
    run = engine.submit(replace(long_job(delay_model), cancelled=lambda: bool(gone)))
    engine.step()
    count = len(read)
    assert not engine.idle
    if way == "drop":
        engine.drop(run)
    else:
        gone.append(True)
        results = engine.step()
        assert [(who, chunk.finish_reason, len(chunk.audio)) for who, chunk in results] == [(run, "cancelled", 0)]
    assert engine.idle
    assert len(read) == count


@pytest.mark.parametrize("sizes", [ON_CPU, ON_GPU])
def test_attention_takes_bounded_memory_wherever_in_a_prompt(sizes, monkeypatch):
    for device in ("ON_CPU", "ON_GPU"):
        monkeypatch.setattr(context_reading, device, sizes)
    for start in (0, 5):
        cut = list(parts(start, 70_000))
        assert (cut[0][0], cut[-1][1]) == (start, 70_000)
        assert all(end == following for (_, end), (following, _) in pairwise(cut))
        assert all(0 < end - first <= sizes.rows for first, end in cut)
        assert all(end - first == 1 or (end - first) * end <= sizes.products for first, end in cut)


@pytest.mark.parametrize("most", [PART, 2 * PART])
def test_long_beginnings_are_not_kept(delay_model, monkeypatch, most):
    monkeypatch.setattr("moss_tts.context.prefixes.MOST_ROWS", most)
    prefixes = delay_model.architecture.prefixes
    prefixes.clear()
    prompt = long_job(delay_model).prompt
    slots = np.repeat(prompt[:1], 2 * PART, axis=0)
    slots[:, 0] = delay_model.config.audio_user_slot_token_id
    referenced = replace(long_job(delay_model), prompt=np.concatenate([slots, prompt]))
    assert list(speak_one(SpeechEngine(delay_model.architecture, delay_model.codec), referenced))
    assert len(prefixes) == (most == 2 * PART)
