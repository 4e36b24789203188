"""Long texts, end to end: segments in one voice, tied by codes, retried, measured, streamed.

What goes wrong with a segment is made to go wrong in the architecture, below everything that is tested here.
"""

import dataclasses
import gc
import re
import threading
import weakref

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moss_tts.errors import GenerationError, RequestError
from moss_tts.frames import Frames
from moss_tts.long_form import (
    SegmentMetrics,
    evaluate_segment_boundary,
    plan_text_segments,
    retry_seed,
)
from moss_tts.processor import MossTTSProcessor
from moss_tts.prompts.options import LONG_FORM, OPTIONS, GenerateOptions
from moss_tts.speaking.engine import SpeechEngine
from moss_tts.speaking.runaway import longest_plausible_seconds
from support.references import codes_of
from support.runtime_laws import followed

TEXT = (
    "It was a bright cold day in April. The clocks were striking thirteen, and nobody cared. "
    "Then it rained for hours. Snow came after the rain, and more snow after that."
)
BUDGETS = {"long_form_min_chars": 20, "long_form_target_chars": 40, "long_form_max_chars": 60}
# Greedy in the text channel, the tiny models speak up to any budget; drawn, they may end before the first frame.
OPTIONS_USED = {"long_form": True, "seed": 5, "max_tokens": 10, "text_temperature": 0.0, **BUDGETS}
UNTIED = {"long_form_prefix_audio_seconds": 0.0, "long_form_prefix_audio_max_tokens": 0}
PLAN = plan_text_segments(TEXT, *BUDGETS.values())


def speak(model, text=TEXT, **options):
    (result,) = model.generate(text, **followed(model, OPTIONS_USED | options))
    return result


def stream(model, text=TEXT, **options):
    return list(model.generate(text, stream=True, **followed(model, OPTIONS_USED | options)))


def by_segment(results):
    segments = {}
    for result in results:
        segments.setdefault(result.segment_idx, []).append(result.audio)
    return {index: np.concatenate(audio) for index, audio in segments.items()}


def same(made, wanted):
    assert made.shape == wanted.shape
    np.testing.assert_allclose(made, wanted, atol=1e-4, rtol=0)


def voice(model, frames, seed=0):
    shape = frames, model.config.n_vq
    return np.random.default_rng(seed).integers(0, model.config.audio_vocab_size, shape, dtype=np.int32)


# ------------------------------------------------------------------------------------------- streamed and whole


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(interval=st.floats(0.01, 3.0))
def test_chunks_joined_are_the_whole_for_any_interval(delay_model, interval):
    chunks = stream(delay_model, streaming_interval=interval)
    np.testing.assert_allclose(
        np.concatenate([chunk.audio for chunk in chunks]), speak(delay_model).audio, atol=1e-4, rtol=0
    )


def test_chunks_come_in_the_plans_order_and_exactly_one_is_final(model):
    chunks = stream(model, streaming_interval=0.2)
    assert [chunk.is_final_chunk for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert [chunk.finish_reason is None for chunk in chunks] == [not chunk.is_final_chunk for chunk in chunks]
    order = [chunk.segment_idx for chunk in chunks]
    assert order == sorted(order)
    assert set(order) == set(range(len(PLAN)))
    assert all(chunk.is_streaming_chunk for chunk in chunks)
    assert len(chunks) > len(PLAN)  # inside segments too


def test_same_seed_same_audio_other_seed_other_audio(model):
    assert np.array_equal(speak(model).audio, speak(model).audio)
    assert not np.array_equal(speak(model).audio, speak(model, seed=6).audio)


def test_a_text_of_one_segment_sounds_as_without_long_form(model):
    short = "Hello there."
    (plain,) = model.generate(short, **followed(model, {"seed": 5, "max_tokens": 10, "text_temperature": 0.0}))
    np.testing.assert_array_equal(speak(model, short).audio, plain.audio)


def test_an_empty_part_of_codebooks_is_carried_over_too(local_model):
    chunks = stream(local_model, n_vq_for_inference=2)
    assert {chunk.segment_idx for chunk in chunks} == set(range(len(PLAN)))


def test_closing_the_generator_frees_what_it_held(delay_model):
    speak(delay_model)
    gc.collect()
    mx.clear_cache()
    before = mx.get_active_memory()
    results = delay_model.generate(TEXT, stream=True, **OPTIONS_USED)
    while next(results).segment_idx < 1:
        pass
    held = weakref.ref(results.gi_frame.f_locals["steps"])
    assert mx.get_active_memory() > before
    results.close()
    del results
    gc.collect()
    mx.clear_cache()
    assert held() is None
    assert mx.get_active_memory() <= before


# ------------------------------------------------------------------------------------------ what is in a prompt


@pytest.fixture
def prompts(monkeypatch):
    """The messages of every segment that is packed, with the mode."""
    packed = []
    real = MossTTSProcessor.prepare_generation_inputs

    def prepare(self, messages, mode, template):
        packed.append((messages, mode))
        return real(self, messages, mode, template)

    monkeypatch.setattr(MossTTSProcessor, "prepare_generation_inputs", prepare)
    return packed


def test_only_the_segment_is_spoken_whatever_conditions_it(delay_model, prompts):
    speak(delay_model, long_form_prefix_text_chars=30)
    assert [messages[-1].text for messages, _ in prompts] == [segment.text for segment in PLAN]
    assert {mode for _, mode in prompts} == {"generation"}
    for (messages, _), before in zip(prompts[1:], PLAN[:-1], strict=True):
        line = re.fullmatch(r"Previous text: (.*)", messages[-1].instruction)
        assert before.text.endswith(line[1])
        assert len(line[1]) <= 30


def test_continuing_has_the_previous_text_and_codes_and_nothing_more(delay_model, prompts):
    chunks = stream(delay_model, long_form_continuity="continue")
    frames = {index: len(audio) // 1920 for index, audio in by_segment(chunks).items()}
    assert prompts[0][1] == "generation"
    for index, ((user, assistant), mode) in enumerate(prompts[1:], start=1):
        assert mode == "continuation"
        assert user.text == f"{PLAN[index - 1].text} {PLAN[index].text}"
        assert len(codes_of(assistant.audio_codes_list[0])) == frames[index - 1]


def test_codes_are_carried_and_nothing_is_encoded_again(delay_model, monkeypatch):
    def refuse(*_):
        raise AssertionError("audio was encoded")

    monkeypatch.setattr(type(delay_model.codec()), "batch_encode", refuse)
    for continuity in ("voice", "continue"):
        speak(delay_model, long_form_continuity=continuity)


@pytest.mark.parametrize("prefix", [UNTIED, {}, {"long_form_prefix_audio_max_tokens": 3}])
def test_the_users_reference_stays_first(delay_model, prompts, prefix):
    mine = voice(delay_model, 6)
    speak(delay_model, reference=[mine], **prefix)
    most = prefix.get("long_form_prefix_audio_max_tokens", 25)
    for index, (messages, _) in enumerate(prompts):
        (reference,) = map(codes_of, messages[-1].reference)
        assert np.array_equal(reference[:6], mine)
        assert len(reference) - 6 <= (most if index else 0)
        assert (len(reference) > 6) == bool(index and most)


def test_without_a_reference_the_first_segment_is_the_voice(delay_model, prompts):
    speak(delay_model, **UNTIED)
    assert prompts[0][0][-1].reference is None
    references = [codes_of(messages[-1].reference[0]) for messages, _ in prompts[1:]]
    assert all(np.array_equal(reference, references[0]) for reference in references)


def test_several_references_keep_their_places(delay_model, prompts):
    mine = [voice(delay_model, 4, seed) for seed in (1, 2)]
    speak(delay_model, "[S1] " + TEXT + " [S2] " + TEXT, reference=mine)
    for messages, _ in prompts:
        assert all(np.array_equal(*pair) for pair in zip(map(codes_of, messages[-1].reference), mine, strict=True))


# ------------------------------------------------------------------------------------------------------ metrics


def test_metrics_have_exactly_the_fields_of_the_contract_and_describe_the_audio(delay_model):
    told = []
    parts = by_segment(stream(delay_model, on_segment=told.append))
    metrics = delay_model._last_long_form_segment_metrics
    assert told == metrics
    assert [field.name for field in dataclasses.fields(SegmentMetrics)] == (
        "segment_idx segment_chars start_offset end_offset retry_count prompt_tokens_generated emitted_samples "
        "emitted_seconds segment_latency_seconds segment_peak_memory_gb total_peak_memory_gb prefix_audio_samples "
        "prefix_text_chars boundary_note"
    ).split()
    for index, (one, planned) in enumerate(zip(metrics, PLAN, strict=True)):
        assert one.segment_idx == index
        assert (one.start_offset, one.end_offset) == (planned.start_offset, planned.end_offset)
        assert one.segment_chars == len(planned.text)
        assert one.emitted_samples == len(parts[index]) == one.prompt_tokens_generated * 1920
        assert one.emitted_seconds == one.emitted_samples / 24000
        assert one.retry_count == 0
        assert one.segment_latency_seconds > 0
        assert 0 < one.segment_peak_memory_gb <= one.total_peak_memory_gb
        previous = metrics[index - 1].prompt_tokens_generated if index else 0
        assert one.prefix_audio_samples == min(previous, 25) * 1920
    seams = delay_model._last_long_form_boundary_metrics
    assert seams == [evaluate_segment_boundary(parts[i], parts[i + 1], 24000) for i in range(len(PLAN) - 1)]
    assert [one.boundary_note for one in metrics] == ["segment-start", *(seam.note for seam in seams)]


def test_metrics_are_reset_at_the_start_of_every_generate(delay_model):
    speak(delay_model)
    first = delay_model._last_long_form_segment_metrics
    assert len(first) == len(PLAN)
    delay_model.generate("Hello.", seed=1)  # not even asked for its first result
    assert delay_model._last_long_form_segment_metrics == []
    assert delay_model._last_long_form_boundary_metrics == []
    assert len(first) == len(PLAN)


# ------------------------------------------------------------------------------------------------------ retries


class Faulty:
    """An architecture that goes wrong where it is told to, and is the real one otherwise.

    Args:
        real: the architecture.
        faults: what happens to the n-th prompt that is begun: "raise", "mute" (ends without audio).
    """

    def __init__(self, real, faults):
        self._real, self._faults, self.begun = real, dict(faults), 0
        self.seeds = []

    def __getattr__(self, name):
        return getattr(self._real, name)

    def reading(self, prompts, requests, n_vq):
        self.seeds.append(requests[0].seed)
        if self._faults.get(self.begun - 1) == "raise":
            raise RuntimeError("out of memory")
        return self._real.reading(prompts, requests, n_vq)

    def reader(self, prompt, max_frames, n_vq):
        self.begun += 1
        if self._faults.get(self.begun - 1) == "mute":
            return Mute()
        return self._real.reader(prompt, max_frames, n_vq)


class Mute:
    """Reads rows of which none is audio."""

    finish_reason = None

    def start(self) -> list[Frames]:
        return []

    def push(self, _row) -> list[Frames]:
        self.finish_reason = "stop"
        return []


@pytest.fixture
def faulty(delay_model, monkeypatch):
    """Makes the model's architecture go wrong."""

    def make(faults):
        architecture = Faulty(delay_model.architecture, faults)
        monkeypatch.setattr(delay_model, "architecture", architecture)
        return architecture

    return make


# Segments end by themselves, by chance.
ENDING = {"max_tokens": 400, "text_temperature": 1.5}


@pytest.mark.parametrize("fault", ["raise", "mute"])
@pytest.mark.parametrize("parallel", [{}, {**UNTIED, "long_form_parallel": 3}])
def test_a_segment_that_fails_is_spoken_again_with_another_seed(delay_model, faulty, fault, parallel):
    architecture = faulty({0: fault, 1: fault})
    speak(delay_model, long_form_retry_attempts=2, **ENDING, **parallel)
    metrics = delay_model._last_long_form_segment_metrics
    assert metrics[0].retry_count == 2
    assert architecture.seeds[:3] == [retry_seed(5, 0, attempt) for attempt in range(3)]
    assert [one.segment_idx for one in metrics] == list(range(len(PLAN)))


def test_what_a_retry_gives_is_what_its_seed_gives(delay_model, faulty):
    faulty({0: "raise"})
    chunks = stream(delay_model, long_form_retry_attempts=1, **ENDING)
    (alone,) = delay_model.generate(PLAN[0].text, seed=retry_seed(5, 0, 1), **ENDING)
    np.testing.assert_allclose(by_segment(chunks)[0], alone.audio, atol=1e-4)


@pytest.mark.parametrize("attempts", [0, 2])
def test_a_budget_stop_is_retried_and_the_last_one_counts(delay_model, attempts):
    result = speak(delay_model, long_form_retry_attempts=attempts, max_tokens=2)
    assert {one.retry_count for one in delay_model._last_long_form_segment_metrics} == {attempts}
    assert result.finish_reason == "length"
    assert result.token_count == 2 * len(PLAN)


@pytest.mark.parametrize("parallel", [{}, {**UNTIED, "long_form_parallel": 2}])
@pytest.mark.parametrize(("attempts", "words"), [(0, "its only attempt"), (1, "all 2 attempts")])
def test_a_segment_that_always_fails_names_itself_and_its_cause(delay_model, faulty, parallel, attempts, words):
    faulty(dict.fromkeys(range(1, 99), "raise"))
    streamed = []
    options = {**OPTIONS_USED, **ENDING, "long_form_retry_attempts": attempts, **parallel}
    results = delay_model.generate(TEXT, stream=True, on_chunk=streamed.append, **options)
    with pytest.raises(GenerationError, match=f"segment 1 failed {words}: out of memory") as failure:
        list(results)
    assert isinstance(failure.value.__cause__, RuntimeError)
    assert {chunk.segment_idx for chunk in streamed} == {0}
    assert [one.segment_idx for one in delay_model._last_long_form_segment_metrics] == [0]


def test_mistakes_of_ours_are_not_retried(delay_model, faulty, monkeypatch):
    architecture = faulty({})
    monkeypatch.setattr(architecture, "reading", lambda *_: [][0])
    with pytest.raises(IndexError):
        speak(delay_model, long_form_retry_attempts=3)


# ------------------------------------------------------------------------------------------------- side by side


@pytest.mark.parametrize("reference", [False, True])
@pytest.mark.parametrize("parallel", [2, 16])
def test_side_by_side_is_one_after_the_other(model, reference, parallel):
    options = {**UNTIED, "reference": [voice(model, 5)] if reference else None}
    alone = by_segment(stream(model, **options))
    beside = by_segment(stream(model, long_form_parallel=parallel, **options))
    assert list(alone) == list(beside) == list(range(len(PLAN)))
    for index, audio in alone.items():
        np.testing.assert_allclose(beside[index], audio, atol=1e-4, rtol=0)


def test_so_many_are_spoken_at_the_same_time(delay_model, monkeypatch):
    widths = []
    real = SpeechEngine.step

    def step(self):
        results = real(self)
        widths.append(len(self._runs))
        return results

    monkeypatch.setattr(SpeechEngine, "step", step)
    speak(delay_model, **UNTIED, long_form_parallel=2, reference=[voice(delay_model, 5)])
    assert max(widths) == 2


@pytest.mark.parametrize(
    "tie",
    [
        {"long_form_continuity": "continue", **UNTIED},
        {"long_form_prefix_audio_max_tokens": 0},
        {"long_form_prefix_audio_seconds": 0.0},
        {"long_form_prefix_text_chars": 10, **UNTIED},
    ],
)
def test_segments_that_are_tied_cannot_be_spoken_side_by_side(delay_model, tie):
    with pytest.raises(RequestError, match="long_form_parallel = 2 needs"):
        speak(delay_model, long_form_parallel=2, **tie)


# ----------------------------------------------------------------------------------------- callbacks and cancel


@pytest.mark.parametrize("parallel", [{}, {**UNTIED, "long_form_parallel": 3}])
def test_cancel_from_another_thread_ends_within_a_frame(delay_model, parallel):
    cancel = threading.Event()
    results = delay_model.generate(
        TEXT, stream=True, cancel=cancel, streaming_interval=0.08, **{**OPTIONS_USED, "max_tokens": 400, **parallel}
    )
    next(results)
    setter = threading.Thread(target=cancel.set)
    setter.start()
    setter.join()
    rest = list(results)
    assert rest[-1].finish_reason == "cancelled"
    assert [chunk.is_final_chunk for chunk in rest] == [False] * (len(rest) - 1) + [True]
    if not parallel:
        assert sum(chunk.token_count for chunk in rest) <= 1
    finished = {one.segment_idx for one in delay_model._last_long_form_segment_metrics}
    assert rest[-1].segment_idx not in finished


def test_callbacks_hear_everything_in_order(delay_model):
    heard = []
    results = stream(
        delay_model,
        on_chunk=lambda chunk: heard.append(("chunk", chunk.segment_idx)),
        on_segment=lambda one: heard.append(("segment", one.segment_idx)),
    )
    assert [index for what, index in heard if what == "chunk"] == [result.segment_idx for result in results]
    assert [index for what, index in heard if what == "segment"] == list(range(len(PLAN)))
    for index in range(1, len(PLAN)):
        assert heard.index(("segment", index - 1)) < heard.index(("chunk", index))


# -------------------------------------------------------------------------------------------------------- seams


def test_treatment_of_seams_is_off_by_default_and_changes_only_seams(delay_model):
    plain = speak(delay_model).audio
    faded = speak(delay_model, long_form_crossfade_ms=10.0).audio
    overlap = round(0.01 * 24000)
    assert len(plain) - len(faded) == overlap * (len(PLAN) - 1)
    same(np.concatenate(list(by_segment(stream(delay_model)).values())), plain)
    np.testing.assert_array_equal(faded[:1000], plain[:1000])


def test_a_change_of_speaker_is_never_crossfaded(delay_model):
    turns = "[S1] It was a bright cold day in April. [S2] The clocks were striking thirteen, they said."
    budgets = {"long_form_min_chars": 10, "long_form_target_chars": 40, "long_form_max_chars": 50}
    plan = plan_text_segments(turns, *budgets.values())
    assert [segment.speaker for segment in plan] == ["[S1]", "[S2]"]
    treated = {"long_form_crossfade_ms": 30.0, "long_form_trim_silence": True}
    np.testing.assert_array_equal(
        speak(delay_model, turns, **budgets).audio, speak(delay_model, turns, **budgets, **treated).audio
    )


def test_a_treated_stream_ends_once_and_keeps_its_segments(delay_model):
    chunks = stream(delay_model, long_form_crossfade_ms=10.0)
    assert [chunk.segment_idx for chunk in chunks] == list(range(len(PLAN)))
    assert [chunk.is_final_chunk for chunk in chunks] == [False] * (len(PLAN) - 1) + [True]


# ------------------------------------------------------------------------------------------------------ runaway


def test_the_guard_ends_a_segment_that_its_text_cannot_explain(delay_model, faulty):
    architecture = faulty({})
    budgets = []
    real = architecture.reader
    architecture.reader = lambda prompt, frames, n_vq: budgets.append(frames) or real(prompt, frames, n_vq)
    text = "No."
    plausible = int(np.ceil(longest_plausible_seconds(text) * 12.5))
    speak(delay_model, text, max_tokens=plausible + 1)
    speak(delay_model, text, max_tokens=plausible + 1, runaway_guard=False)
    assert budgets == [plausible, plausible + 1]


# ------------------------------------------------------------------------------------------------------ options


def test_type_checkers_know_every_option():
    assert set(GenerateOptions.__annotations__) | {"text"} == set(OPTIONS)


def test_every_long_form_option_needs_long_form(delay_model):
    values = {"long_form_continuity": "voice", "long_form_trim_silence": True}
    for name in LONG_FORM:
        with pytest.raises(RequestError, match=name):
            delay_model.generate("Hello.", **{name: values.get(name, 1)})


# ------------------------------------------------------------------------------------------------------ silence


@pytest.mark.parametrize("parallel", [1, 2])
def test_a_pause_between_segments_is_that_much_silence(delay_model, parallel):
    options = {**UNTIED, "long_form_parallel": parallel}
    text, rate = "[pause 0.25s]\nIt rained for hours.\n[pause 0.5s]\nThen it stopped.", delay_model.sample_rate
    first, second = by_segment(stream(delay_model, text, **options)).values()
    before, after = rate // 4, rate // 2
    assert not first[:before].any()
    assert not first[-after:].any()
    assert first[before:-after].any()
    assert second[: rate // 10].any()
    same(speak(delay_model, text, **options).audio, np.concatenate([first, second]))


@pytest.mark.parametrize("parallel", [1, 3])
def test_without_continuity_each_segment_is_as_alone(delay_model, prompts, parallel):
    segments = by_segment(stream(delay_model, long_form_continuity="none", long_form_parallel=parallel))
    assert all(messages[-1].reference is None and mode == "generation" for messages, mode in prompts)
    alone = {**OPTIONS_USED, "long_form": False, "seed": retry_seed(OPTIONS_USED["seed"], 1, 0)}
    alone = {name: value for name, value in alone.items() if not name.startswith("long_form_")}
    (second,) = delay_model.generate(PLAN[1].text, **alone)
    same(segments[1], second.audio)
