"""The Delay scheduler against a slow reference of upstream's loop, and the laws of its budget.

The reference keeps one row in plain integers and knows no budget. Both are fed the same text tokens and compared
before every step.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moss_tts.audio.codes import apply_delay_pattern
from moss_tts.inference_utils import (
    SAMPLE,
    build_delay_forced_text_tokens,
    delay_audio_mask,
    delay_text_mask,
    extract_complete_delay_rows,
    initial_delay_state,
    update_delay_scheduler_state,
)
from support.small_configs import (
    AUDIO_END,
    AUDIO_START,
    DELAY,
    GEN,
    IM_END,
    IM_START,
    PAD,
    USER_SLOT,
    VOCABULARY,
    delay_config,
)

EVERY_TOKEN = mx.arange(VOCABULARY)
UNLIMITED = 2**30


@dataclass
class ReferenceRow:
    """Upstream's rules for one row of a batch."""

    n_vq: int
    in_audio: bool = False
    stopped: bool = False
    audio_rows: int = 0
    delay_slots: int | None = None
    step: int = 0

    @classmethod
    def after(cls, text: list[int], n_vq: int) -> ReferenceRow:
        if text[-1] in (AUDIO_START, GEN) and AUDIO_START in text:
            return cls(n_vq, in_audio=True, audio_rows=text[::-1].index(AUDIO_START) + 1)
        return cls(n_vq)

    def forced(self) -> int | None:
        if self.stopped:
            return PAD
        if self.delay_slots is None:
            return None
        return DELAY if self.delay_slots < self.n_vq else AUDIO_END

    def choices(self) -> set[int]:
        if self.in_audio:
            allowed = {GEN, DELAY}
        else:
            allowed = set(range(VOCABULARY)) - {PAD, GEN, DELAY, AUDIO_END}
        if self.step == 0:
            allowed -= {DELAY}
        if self.step <= self.n_vq:
            allowed -= {IM_END}
        return allowed

    def open_codebooks(self) -> set[int]:
        if self.stopped:
            return set()
        first = 0 if self.delay_slots is None else self.delay_slots
        return set(range(first, min(self.n_vq, self.audio_rows)))

    def advance(self, text: int) -> None:
        self.step += 1
        if text == AUDIO_START:
            self.in_audio = True
        if text == IM_END:
            self.stopped = True
        if text in (AUDIO_START, GEN, DELAY):
            self.audio_rows += 1
        if text == AUDIO_END:
            self.in_audio, self.audio_rows = False, 0
        if text == DELAY and self.delay_slots is None:
            self.delay_slots = 0
        if self.delay_slots is not None:
            self.delay_slots += 1
            if self.delay_slots > self.n_vq:
                self.delay_slots = None


@dataclass
class Trace:
    """What a row said, and which codebooks it sampled, step by step."""

    text: list[int] = field(default_factory=list)
    sampled: list[set[int]] = field(default_factory=list)

    @property
    def frames_begun(self) -> int:
        return sum(0 in codebooks for codebooks in self.sampled)


def prompts_of(texts: list[list[int]], n_vq: int) -> np.ndarray:
    """Left-padded prompts (B, T, 1 + Q) with that text; codes do not matter to the scheduler."""
    longest = max(map(len, texts))
    rows = np.zeros((len(texts), longest, 1 + n_vq), dtype=np.int32)
    for row, text in enumerate(texts):
        rows[row, :, 0] = [PAD] * (longest - len(text)) + text
    return rows


def step_view(state, config) -> list[tuple[int | None, set[int], set[int]]]:
    """Per row: the forced token, the tokens it may sample, the codebooks it samples."""
    forced = np.array(build_delay_forced_text_tokens(state, config))
    text = np.array(delay_text_mask(state, EVERY_TOKEN, config))
    audio = np.array(delay_audio_mask(state, config.n_vq))
    return [
        (None if token == SAMPLE else int(token), where(may), where(opened))
        for token, may, opened in zip(forced, text, audio, strict=True)
    ]


def where(mask: np.ndarray) -> set[int]:
    return {int(index) for index in np.flatnonzero(mask)}


def a_choice(allowed: set[int], rng: random.Random) -> int:
    """One of the allowed tokens; ends of segments and turns come often enough to matter."""
    weights = {AUDIO_START: 8, DELAY: 1, GEN: 3, IM_END: 6}
    ordered = sorted(allowed)
    return rng.choices(ordered, [weights.get(token, 1) for token in ordered])[0]


def run(texts: list[list[int]], budgets: list[int], n_vq: int, seed: int, most_steps: int = 400) -> list[Trace]:
    """Rows of random choices under a budget, until all have stopped."""
    config, rng = delay_config(n_vq), random.Random(seed)
    state = initial_delay_state(prompts_of(texts, n_vq), config, budgets)
    traces = [Trace() for _ in texts]
    for _ in range(most_steps):
        made = []
        for trace, (forced, allowed, opened) in zip(traces, step_view(state, config), strict=True):
            made.append(a_choice(allowed, rng) if forced is None else forced)
            trace.text.append(made[-1])
            trace.sampled.append(opened)
        state = update_delay_scheduler_state(state, mx.array(made), config)
        if np.array(state.is_stopping).all():
            return traces
    raise AssertionError("the rows do not end")


PROMPTS = st.one_of(
    st.just([IM_START, 1, 2]),
    st.just([IM_START, 1, AUDIO_START]),
    st.integers(1, 6).map(lambda frames: [IM_START, 1, AUDIO_START, *[GEN] * frames]),
    st.integers(1, 4).map(lambda frames: [IM_START, AUDIO_START, *[USER_SLOT] * frames, AUDIO_END, 1]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(PROMPTS, min_size=1, max_size=3), st.integers(1, 5), st.integers(0, 2**32), st.integers(1, 40))
def test_every_step_is_upstreams(texts, n_vq, seed, steps):
    config, rng = delay_config(n_vq), random.Random(seed)
    state = initial_delay_state(prompts_of(texts, n_vq), config, [UNLIMITED] * len(texts))
    rows = [ReferenceRow.after(text, n_vq) for text in texts]
    for _ in range(steps):
        made = []
        for row, (forced, allowed, opened) in zip(rows, step_view(state, config), strict=True):
            assert forced == row.forced()
            assert opened == row.open_codebooks()
            if forced is None:
                assert allowed == row.choices()
            made.append(a_choice(row.choices(), rng) if forced is None else forced)
        state = update_delay_scheduler_state(state, mx.array(made), config)
        for row, token in zip(rows, made, strict=True):
            row.advance(token)


def test_the_trace_of_the_contract():
    """n_vq 3 and four gen slots: gen x4, delay x3, audio_end; five frames, the fifth begun by a delay slot."""
    config = delay_config(3)
    state = initial_delay_state(prompts_of([[IM_START, AUDIO_START]], 3), config, [UNLIMITED])
    chosen, text, sampled = [GEN] * 4 + [DELAY], [], []
    while not text or text[-1] != AUDIO_END:
        (forced, _, opened) = step_view(state, config)[0]
        text.append(chosen.pop(0) if forced is None else forced)
        sampled.append(opened)
        state = update_delay_scheduler_state(state, mx.array(text[-1:]), config)
    assert text == [GEN] * 4 + [DELAY] * 3 + [AUDIO_END]
    assert sampled == [{0}, {0, 1}, {0, 1, 2}, {0, 1, 2}, {0, 1, 2}, {1, 2}, {2}, set()]


@given(st.integers(1, 40), st.integers(1, 33))
def test_a_segment_samples_the_delay_pattern_of_its_frames(slots, n_vq):
    """L gen slots give L + 1 frames, and every code of them is sampled exactly where the pattern has it."""
    row = ReferenceRow.after([AUDIO_START], n_vq)
    sampled = []
    for _ in range(slots + n_vq):
        sampled.append([q in row.open_codebooks() for q in range(n_vq)])
        row.advance(GEN if len(sampled) <= slots else DELAY)
    frames = slots + 1
    pattern = apply_delay_pattern(np.zeros((frames, n_vq), dtype=np.int32), 1)
    np.testing.assert_array_equal(np.array(sampled), pattern == 0)


# ---------------------------------------------------------------------------------------------------- start


@pytest.mark.parametrize(
    ("text", "in_audio", "audio_rows"),
    [
        ([IM_START, 1, 2, 3], False, 0),
        ([IM_START, 1, 2, AUDIO_START], True, 1),
        ([IM_START, AUDIO_START, GEN, GEN], True, 3),
        ([AUDIO_START, GEN, AUDIO_END, AUDIO_START, GEN], True, 2),  # the last one counts
        ([AUDIO_START, USER_SLOT, AUDIO_END, 5], False, 0),
        ([IM_START, 1, 2, GEN], False, 0),  # a slot without a start resumes nothing
        ([IM_START, AUDIO_START, USER_SLOT, DELAY], False, 0),
    ],
)
@pytest.mark.parametrize("padding", [0, 3])
def test_a_prompt_resumes_the_segment_it_leaves_open(text, in_audio, audio_rows, padding):
    """Left padding changes nothing: lengths count from the last audio_start."""
    rows = prompts_of([text, [1] * (len(text) + padding)], 2)
    state = initial_delay_state(rows, delay_config(2), [9, 9])
    assert state.is_audio.tolist()[0] == in_audio
    assert state.audio_lengths.tolist()[0] == audio_rows
    assert state.delayed_lengths.tolist() == [-1, -1]
    assert state.is_stopping.tolist() == [False, False]


# --------------------------------------------------------------------------------------------------- budget


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(PROMPTS, st.integers(1, 12)), min_size=1, max_size=3),
    st.integers(1, 5),
    st.integers(0, 2**32),
)
def test_a_budget_counts_frames_and_finishes_every_one(rows, n_vq, seed):
    texts, budgets = map(list, zip(*rows, strict=True))
    for (text, budget), trace in zip(rows, run(texts, budgets, n_vq, seed), strict=True):
        assert trace.frames_begun <= budget
        assert IM_END in trace.text
        # Whatever is begun is sampled to its last codebook: by the rows of the segment, and for a resumed one
        # also what the prompt's cut-off tail would have held.
        pending = text.count(GEN)
        for segment in segments(trace, resumed=text[-1] in (AUDIO_START, GEN)):
            begun = sum(0 in sampled for sampled in segment)
            for q in range(n_vq):
                assert sum(q in sampled for sampled in segment) == begun + min(q, pending)
            pending = 0


def segments(trace: Trace, resumed: bool) -> list[list[set[int]]]:
    """Codebooks sampled in the rows of each audio segment."""
    found: list[list[set[int]]] = [[]] if resumed else []
    inside = resumed
    for text, sampled in zip(trace.text, trace.sampled, strict=True):
        if text == AUDIO_END:
            inside = False
        elif inside:
            found[-1].append(sampled)
        elif text == AUDIO_START:
            inside = True
            found.append([])
    return found


@pytest.mark.parametrize("n_vq", [1, 3, 16])
@pytest.mark.parametrize("budget", [1, 2, 7])
def test_a_row_that_never_ends_gets_exactly_its_budget(n_vq, budget):
    config = delay_config(n_vq)
    state = initial_delay_state(prompts_of([[AUDIO_START]], n_vq), config, [budget])
    text, frames = [], 0
    while not np.array(state.is_stopping).all():
        forced, _, opened = step_view(state, config)[0]
        text.append(GEN if forced is None else forced)
        frames += 0 in opened
        state = update_delay_scheduler_state(state, mx.array(text[-1:]), config)
    assert text == [GEN] * (budget - 1) + [DELAY] * n_vq + [AUDIO_END, IM_END]
    assert frames == budget


def test_a_spent_row_does_not_begin_another_segment():
    """Two frames of budget, one segment of two frames: nothing is left for a second one."""
    config = delay_config(2)
    state = initial_delay_state(prompts_of([[AUDIO_START]], 2), config, [2])
    for token in (GEN, DELAY, DELAY, AUDIO_END):
        state = update_delay_scheduler_state(state, mx.array([token]), config)
    assert step_view(state, config)[0][0] == IM_END


def test_budgets_of_a_batch_are_apart():
    texts = [[AUDIO_START], [AUDIO_START]]
    config = delay_config(2)
    state = initial_delay_state(prompts_of(texts, 2), config, [1, 5])
    assert [forced for forced, _, _ in step_view(state, config)] == [DELAY, None]


# --------------------------------------------------------------------------------------------------- frames


@given(st.integers(1, 20), st.integers(1, 12))
def test_frame_t_is_complete_with_row_t_plus_q_minus_1(n_frames, n_vq):
    codes = np.arange(n_frames * n_vq, dtype=np.int32).reshape(n_frames, n_vq)
    rows = apply_delay_pattern(codes, -1)
    for seen in range(len(rows) + 1):
        complete = extract_complete_delay_rows(rows[:seen])
        np.testing.assert_array_equal(complete, codes[: max(0, seen - n_vq + 1)])
