"""Streaming: the chunks are the whole, they come when they should, and a listener who leaves ends the work."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from moss_tts.errors import GenerationError
from moss_tts.evidence.laws import greedy_text
from moss_tts.model import Model
from moss_tts.result import GenerationResult
from moss_tts.subtitles.formats import clock
from support.runtime_laws import TEXT, TOLERANCE, reference, speak, talkative

FRAMES = 16


def stream(model: Model, **options: Any) -> list[GenerationResult]:
    return list(model.generate(TEXT, **{"seed": 1, "max_tokens": FRAMES, "stream": True} | options))


def per_second(model: Model) -> float:
    return model.codec().config.frame_rate


@pytest.mark.parametrize("interval", [0.01, 0.5, 60.0])
def test_chunks_joined_are_the_whole(model, interval):
    seed = talkative(model)
    chunks = stream(model, seed=seed, streaming_interval=interval)
    whole = speak(model, seed=seed, max_tokens=FRAMES)
    joined = np.concatenate([chunk.audio for chunk in chunks])
    assert joined.shape == whole.audio.shape
    np.testing.assert_allclose(joined, whole.audio, atol=TOLERANCE, rtol=0)
    assert sum(chunk.token_count for chunk in chunks) == whole.token_count == FRAMES


@pytest.mark.parametrize(("seed", "budget"), [(1, 1), (1, 4), (2, 5), (3, 9), (4, 60)])
def test_every_chunk_is_one_and_exactly_one_is_final(model, seed, budget):
    chunks = stream(model, seed=seed, max_tokens=budget)
    assert all(chunk.is_streaming_chunk for chunk in chunks)
    assert [chunk.is_final_chunk for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    reasons = [chunk.finish_reason for chunk in chunks]
    assert reasons[:-1] == [None] * (len(chunks) - 1)
    assert reasons[-1] in ("stop", "length")
    assert all(chunk.samples > 0 for chunk in chunks[:-1])


def test_a_whole_result_is_final_and_no_chunk(model):
    whole = speak(model)
    assert (whole.is_streaming_chunk, whole.is_final_chunk) == (False, True)


def test_the_first_chunks_are_short_and_the_others_an_interval(model):
    """Delay brings frames one at a time, too, once the first is complete."""
    later, first = round(0.5 * per_second(model)), list(model.architecture.first_chunks)
    counts = [chunk.token_count for chunk in stream(model, seed=talkative(model), streaming_interval=0.5)]
    # Delay knows of its end only after its last chunk, and says so with an empty one.
    whole, rest = divmod(FRAMES - sum(first), later)
    assert [count for count in counts if count] == first + [later] * whole + [rest] * (rest > 0)


def test_nanos_first_sound_is_that_of_its_first_frame(models, monkeypatch):
    counted = CountedSteps(models["nano"], monkeypatch)
    chunk = next(models["nano"].generate(TEXT, seed=1, stream=True))
    # The row of the frame, and one that is under way.
    assert (chunk.token_count, counted.steps <= 2) == (1, True)


def test_an_interval_shorter_than_the_first_chunk_holds_from_the_start(model):
    counts = [chunk.token_count for chunk in stream(model, seed=talkative(model), streaming_interval=0.01)]
    assert set(counts[:-1]) == {1}


def test_figures_are_of_the_chunk(model):
    chunks = stream(model, seed=talkative(model))
    per_frame = model.codec().config.downsample_rate
    for chunk in chunks:
        assert chunk.samples == len(chunk.audio) == chunk.token_count * per_frame
        assert chunk.audio_duration == clock(chunk.samples / chunk.sample_rate)
        assert chunk.processing_time_seconds > 0
        assert chunk.prompt["tokens"] == chunks[0].prompt["tokens"] > 100
        assert chunk.segment_idx == 0


def test_every_result_names_the_seed_that_makes_it_again(model):
    options = {"max_tokens": FRAMES, **greedy_text(model)}
    (drawn,) = model.generate(TEXT, **options)
    chunks = stream(model, seed=drawn.seed, **options)
    assert {chunk.seed for chunk in chunks} == {drawn.seed}
    joined = np.concatenate([chunk.audio for chunk in chunks])
    np.testing.assert_allclose(joined, drawn.audio, atol=TOLERANCE, rtol=0)


def test_verbose_reports_each_result_on_standard_error(model, capsys):
    chunks = stream(model, seed=talkative(model), verbose=True)
    assert capsys.readouterr().err.splitlines() == [chunk.figures for chunk in chunks]
    stream(model, seed=talkative(model))
    assert capsys.readouterr().err == ""


def test_streams_of_references_and_continuations(model):
    continued = {"mode": "continuation", "reference": reference(model, 9), "ref_text": "Before."}
    continues = "continuation" not in model.preset.no_place_for
    for options in ({"reference": reference(model, 5)}, *([continued] if continues else [])):
        joined = np.concatenate([chunk.audio for chunk in stream(model, **options)])
        np.testing.assert_allclose(joined, speak(model, max_tokens=FRAMES, **options).audio, atol=TOLERANCE, rtol=0)


# ---------------------------------------------------------------------------------------- leaving in between


class CountedSteps:
    """How many rows a model's batches were asked for."""

    def __init__(self, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps = 0
        self.batches: list[weakref.ref[Any]] = []
        make = model.architecture.reading

        def reading(*arguments: Any) -> Any:
            made = yield from make(*arguments)
            self.batches.append(weakref.ref(made))
            step = made.step

            def counted() -> mx.array:
                self.steps += 1
                return step()

            monkeypatch.setattr(made, "step", counted)
            return made

        monkeypatch.setattr(model.architecture, "reading", reading)


def test_nothing_is_computed_before_the_first_next(model, monkeypatch):
    counted = CountedSteps(model, monkeypatch)
    results = model.generate(TEXT, seed=1, stream=True)
    assert counted.batches == []
    next(results)
    assert counted.steps > 0
    results.close()


def test_closing_early_stops_the_work(model, monkeypatch):
    counted = CountedSteps(model, monkeypatch)
    results = model.generate(TEXT, seed=talkative(model), max_tokens=4000, stream=True)
    next(results)
    steps = counted.steps
    # The rows of the first chunk, the delay pattern's, and one that is under way.
    assert steps <= model.architecture.first_chunks[0] + model.config.n_vq + 1
    results.close()
    assert counted.steps == steps
    assert list(results) == []


def test_closing_early_frees_the_memory(delay_model):
    """Caches go with the loop: streams broken off one after the other do not pile up."""

    def left_behind() -> int:
        results = delay_model.generate(TEXT, seed=talkative(delay_model), stream=True)
        next(results)
        results.close()
        del results
        gc.collect()
        return mx.get_active_memory()

    levels = [left_behind() for _ in range(5)]
    assert max(levels[1:]) - levels[0] < 2**16


def test_a_listener_who_is_gone_is_as_good_as_close(delay_model, monkeypatch):
    """No reference to the iterator, no work and no cache."""
    counted = CountedSteps(delay_model, monkeypatch)
    for _ in delay_model.generate(TEXT, seed=talkative(delay_model), stream=True):
        break
    monkeypatch.undo()
    gc.collect()
    assert [batch() for batch in counted.batches] == [None]


def test_a_broken_off_stream_does_not_disturb_the_next(model):
    wanted = speak(model).audio
    results = model.generate(TEXT, seed=7, stream=True)
    next(results)
    results.close()
    np.testing.assert_array_equal(speak(model).audio, wanted)


def test_two_streams_of_one_model_may_be_read_in_turn(model):
    """States belong to the requests: reading them by turns gives what reading them one by one gives."""
    streams = [model.generate(TEXT, seed=seed, max_tokens=10, stream=True) for seed in (1, 2)]
    heard: list[list[np.ndarray]] = [[], []]
    alive = [0, 1]
    while alive:
        for index in list(alive):
            chunk = next(streams[index], None)
            if chunk is None:
                alive.remove(index)
            else:
                heard[index].append(chunk.audio)
    for index, seed in enumerate((1, 2)):
        whole = speak(model, seed=seed, max_tokens=10).audio
        np.testing.assert_allclose(np.concatenate(heard[index]), whole, atol=TOLERANCE, rtol=0)


# ----------------------------------------------------------------------------------------------- cancelling


def test_cancelling_ends_within_a_frame_and_keeps_what_is_complete(model):
    cancel = threading.Event()
    chunks = []
    for chunk in model.generate(TEXT, seed=talkative(model), max_tokens=4000, stream=True, cancel=cancel):
        chunks.append(chunk)
        cancel.set()
    assert [chunk.finish_reason for chunk in chunks] == [None, "cancelled"]
    assert chunks[1].token_count <= 1
    whole = speak(model, seed=talkative(model), max_tokens=FRAMES).audio
    joined = np.concatenate([chunk.audio for chunk in chunks])
    np.testing.assert_allclose(joined, whole[: len(joined)], atol=TOLERANCE, rtol=0)


class GoneSilentAt:
    """Hears that speech is over at a sample, in whichever chunk that lies."""

    def __init__(self, *_: object) -> None:
        self._left = 7 * 1920 + 5

    def hear(self, audio: np.ndarray) -> int | None:
        until, self._left = self._left, self._left - len(audio)
        return until if self._left <= 0 else None


@pytest.mark.parametrize("interval", [0.01, 0.5, 60.0])
def test_where_silence_ends_speech_does_not_depend_on_chunks(delay_model, monkeypatch, interval):
    options = {"seed": talkative(delay_model), "runaway_guard": True}
    monkeypatch.setattr("moss_tts.speaking.jobs.QuietWatch", GoneSilentAt)
    whole = speak(delay_model, max_tokens=FRAMES, **options)
    chunks = stream(delay_model, streaming_interval=interval, **options)
    assert (whole.finish_reason, whole.token_count, len(whole.audio)) == ("silence", 8, 8 * 1920)
    assert chunks[-1].finish_reason == "silence"
    assert sum(chunk.token_count for chunk in chunks) == 8
    joined = np.concatenate([chunk.audio for chunk in chunks])
    np.testing.assert_allclose(joined, whole.audio, atol=TOLERANCE, rtol=0)


def test_cancelled_before_the_first_frame_is_an_empty_result(model):
    cancel = threading.Event()
    cancel.set()
    (result,) = model.generate(TEXT, seed=1, cancel=cancel)
    assert (result.finish_reason, result.samples, result.token_count) == ("cancelled", 0, 0)
    assert result.audio.shape[1:] == speak(model).audio.shape[1:]
    assert result.audio_duration == "00:00:00.000"


def test_on_chunk_hears_every_result_first(model):
    heard: list[GenerationResult] = []
    for count, chunk in enumerate(model.generate(TEXT, seed=1, max_tokens=9, stream=True, on_chunk=heard.append)):
        assert heard[count] is chunk
    assert len(heard) > 1


def test_a_model_that_says_nothing_is_an_error_of_generation(local_model):
    """Ending before the first frame is nobody's wrong request."""
    attempts = (stream(local_model, seed=seed, text_temperature=1e6, text_top_k=0) for seed in range(12))
    with pytest.raises(GenerationError, match=r"before its first frame.*another seed"):
        list(attempts)


def test_batches_stream_too(model):
    asked = [{"text": TEXT, "seed": seed, "max_tokens": 9, "stream": seed == 1} for seed in (1, 2)]
    made: list[list[GenerationResult]] = [[], []]
    for index, chunk in model.generate_batch(asked):
        made[index].append(chunk)
    assert len(made[0]) > 1
    assert [chunk.is_final_chunk for chunk in made[0]] == [False] * (len(made[0]) - 1) + [True]
    assert len(made[1]) == 1
    joined = np.concatenate([chunk.audio for chunk in made[0]])
    np.testing.assert_allclose(joined, speak(model, max_tokens=9).audio, atol=TOLERANCE, rtol=0)
