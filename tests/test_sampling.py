"""Sampling against a slow plain reference, and the laws of its draws.

The reference is float64 Python, one distribution at a time, written from upstream's rules: penalty, temperature,
top-k, then top-p on what is left, then one draw.
"""

from __future__ import annotations

import math
from unittest.mock import patch

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from moss_tts.sampling import (
    MAX_SEED,
    ChannelSampling,
    RowSampling,
    mark_seen,
    penalise,
    sample,
    seen_in,
    step_uniforms,
)

GRID = 512
EVEN = (np.arange(GRID, dtype=np.float32) + 0.5) / GRID


def reference_law(logits, settings: ChannelSampling, seen=()) -> dict[int, float]:
    """Probability of each token that can be drawn."""
    scores = {token: float(logit) for token, logit in enumerate(logits) if logit > -math.inf}
    for token in set(seen) & set(scores):
        factor = settings.repetition_penalty
        scores[token] = scores[token] / factor if scores[token] > 0 else scores[token] * factor
    ranked = sorted(scores, key=lambda token: (-scores[token], token))
    if settings.temperature == 0:
        return {ranked[0]: 1.0}
    law = softmax({token: scores[token] / settings.temperature for token in ranked[: settings.top_k or None]})
    return softmax({token: math.log(law[token]) for token in nucleus(law, settings.top_p)})


def nucleus(law: dict[int, float], top_p: float) -> list[int]:
    """The smallest set, best first, whose mass exceeds top_p."""
    kept, mass = [], 0.0
    for token, probability in law.items():
        if mass > top_p:
            break
        kept.append(token)
        mass += probability
    return kept


def softmax(scores: dict[int, float]) -> dict[int, float]:
    best = max(scores.values())
    weights = {token: math.exp(score - best) for token, score in scores.items()}
    return {token: weight / sum(weights.values()) for token, weight in weights.items()}


def measured_law(logits, settings: ChannelSampling, seen=None) -> dict[int, float]:
    """How often each token comes when the draws are spread evenly over [0, 1)."""
    row = mx.broadcast_to(mx.array(np.asarray(logits, np.float32)), (1, GRID, len(logits)))
    mask = None if seen is None else mx.array(np.isin(np.arange(len(logits)), list(seen)))[None, None]
    drawn = np.array(sample(row, mx.array(EVEN[None]), RowSampling.of([settings]), mask))[0]
    tokens, counts = np.unique(drawn, return_counts=True)
    return {int(token): count / GRID for token, count in zip(tokens, counts, strict=True)}


def assert_same_law(measured: dict[int, float], expected: dict[int, float]) -> None:
    assert set(measured) <= set(expected)
    for token, probability in expected.items():
        # A token's share of the grid is off by less than one point at each of its two ends.
        assert measured.get(token, 0.0) == pytest.approx(probability, abs=2 / GRID)


LOGITS = st.lists(st.integers(-40, 40), min_size=1, max_size=12, unique=True).map(
    lambda values: [v / 8 for v in values]
)
CHANNELS = st.builds(
    ChannelSampling,
    temperature=st.sampled_from([0.0, 0.5, 1.0, 1.7]),
    top_p=st.sampled_from([0.05, 0.37, 0.61, 0.83, 1.0]),
    top_k=st.integers(0, 14),
    repetition_penalty=st.sampled_from([1.0, 1.1, 1.9]),
)


def is_on_the_edge(logits, channel: ChannelSampling, seen) -> bool:
    """Whether float32 may decide otherwise than float64: a mass that almost equals top_p, scores that almost tie."""
    scores = [logit for logit in logits if logit > -math.inf]
    penalised = np.array(sorted(reference_scores(scores, channel, seen)))
    open_law = ChannelSampling(channel.temperature or 1.0, 1.0, channel.top_k, channel.repetition_penalty)
    masses = np.cumsum(list(reference_law(logits, open_law, seen).values()))
    ties = len(penalised) > 1 and np.diff(penalised).min() < 1e-5
    return bool(ties or (channel.top_p < 1 and np.abs(masses - channel.top_p).min() < 1e-5))


def reference_scores(scores, channel: ChannelSampling, seen) -> list[float]:
    penalty = channel.repetition_penalty
    return [
        (score / penalty if score > 0 else score * penalty) if token in seen else score
        for token, score in enumerate(scores)
    ]


@settings(max_examples=150, deadline=None)
@given(LOGITS, CHANNELS, st.sets(st.integers(0, 11)))
def test_draws_follow_the_reference(logits, channel, seen):
    assume(not is_on_the_edge(logits, channel, seen))
    assert_same_law(measured_law(logits, channel, seen), reference_law(logits, channel, seen))


@settings(max_examples=40, deadline=None)
@given(LOGITS, CHANNELS, st.data())
def test_barred_tokens_are_never_drawn(logits, channel, data):
    barred = data.draw(st.sets(st.integers(0, len(logits) - 1), max_size=len(logits) - 1))
    masked = [-math.inf if token in barred else logit for token, logit in enumerate(logits)]
    assert not set(measured_law(masked, channel)) & barred


@settings(max_examples=40, deadline=None)
@given(LOGITS, CHANNELS, st.integers(0, 99))
def test_sums_that_are_rounded_out_of_order_draw_nothing_else(logits, channel, seed):
    """GPUs add in parallel, so that a later sum can be a little less than an earlier one."""
    assume(not is_on_the_edge(logits, channel, ()))
    exact, random = mx.cumsum, np.random.default_rng(seed)

    def rounded(x: mx.array, axis: int) -> mx.array:
        noise = mx.array(random.uniform(-4e-7, 4e-7, x.shape).astype(np.float32))
        return exact(x, axis=axis) + mx.where(mx.arange(x.shape[axis]) > 0, noise, 0.0)

    row = mx.broadcast_to(mx.array(logits), (1, 2, len(logits)))
    highest = 1 - 2**-24
    with patch.object(mx, "cumsum", rounded):
        drawn = sample(row, mx.array([[0.0, highest]]), RowSampling.of([channel]))
    assert set(drawn.tolist()[0]) <= set(reference_law(logits, channel))


def test_temperature_comes_before_top_p():
    """At 1.7 the first of .9/.06/.03/.01 has less than .8 left, so a second one stays; at 1 it would be alone."""
    law = measured_law(np.log([0.9, 0.06, 0.03, 0.01]), ChannelSampling(1.7, 0.8, 0))
    ratio = (0.9 / 0.06) ** (1 / 1.7)
    assert_same_law(law, {0: ratio / (1 + ratio), 1: 1 / (1 + ratio)})
    # What upstream was seen to draw.
    assert law[0] == pytest.approx(0.825, abs=0.01)


def test_top_p_looks_at_probabilities_not_at_logits():
    """Raw logits of 30, 29, ... would all lie above any p, and keep everything or nothing."""
    law = measured_law([30.0, 29.0, 28.0, 20.0], ChannelSampling(1.0, 0.8, 0))
    assert_same_law(law, {0: 1 / (1 + math.exp(-1)), 1: 1 / (1 + math.exp(1))})


def test_top_k_comes_before_top_p():
    """The mass of top-p is that of the k best: .4 of .7 is more than .5, so one candidate is enough."""
    law = np.log([0.4, 0.3, 0.3])
    assert set(measured_law(law, ChannelSampling(1.0, 0.5, 2))) == {0}
    assert set(measured_law(law, ChannelSampling(1.0, 0.5, 0))) == {0, 1}


def test_one_candidate_always_stays():
    assert measured_law([2.0, 1.0, 0.0], ChannelSampling(1.0, 1e-6, 0)) == {0: 1.0}


@pytest.mark.parametrize("size", [5000, 155_648])
def test_a_top_p_of_one_is_off(size):
    """A sum over a whole vocabulary rounds to more than one; that must not cut off its tail."""
    uniforms = mx.array(np.nextafter(np.ones((1, 1), np.float32), np.float32(0)))
    descending = mx.array(np.linspace(1e-3, 0.0, size, dtype=np.float32))
    drawn = sample(descending[None, None], uniforms, RowSampling.of([ChannelSampling(1.0, 1.0, 0)]))
    assert drawn.item() == size - 1


@pytest.mark.parametrize(("top_k", "kept"), [(1, 1), (3, 3), (0, 6), (9, 6)])
def test_ties_do_not_widen_top_k(top_k, kept):
    law = measured_law([1.0] * 6, ChannelSampling(1.0, 1.0, top_k))
    assert len(law) == kept
    assert all(share == pytest.approx(1 / kept, abs=2 / GRID) for share in law.values())


@pytest.mark.parametrize(("top_k", "kept"), [(1, 1), (2, 5), (4, 5), (6, 6), (0, 7)])
def test_ties_with_the_last_of_top_k_stay_where_upstream_keeps_them(top_k, kept):
    """One best, four equals and two others."""
    logits = [3.0, 1.0, 0.0, 1.0, 1.0, -1.0, 1.0]
    row = mx.broadcast_to(mx.array(logits), (1, GRID, len(logits)))
    rows = RowSampling.of([ChannelSampling(1.0, 1.0, top_k)], keeps_ties=True)
    drawn = np.array(sample(row, mx.array(EVEN[None]), rows))[0]
    law = softmax({token: logits[token] for token in np.argsort(-np.array(logits), kind="stable")[:kept].tolist()})
    shares = {token: float((drawn == token).mean()) for token in law}
    assert sum(shares.values()) == pytest.approx(1)
    assert shares == pytest.approx(law, abs=2 / GRID)


def test_a_code_has_many_equals_that_all_stay():
    """Scores in steps of a whole number, as goldens have them."""
    rows = RowSampling.of([ChannelSampling(1.0, 1.0, 2)], keeps_ties=True)
    row = mx.broadcast_to(mx.array([3.0] + [1.0] * 40 + [-50.0] * 60), (1, GRID, 101))
    drawn = np.array(sample(row, mx.array(EVEN[None]), rows))[0]
    assert set(drawn.tolist()) == set(range(41))


def test_ties_do_not_widen_top_p():
    """Of eight equals, three exceed a third: two do not."""
    assert len(measured_law([0.0] * 8, ChannelSampling(1.0, 0.34, 0))) == 3


# ------------------------------------------------------------------------------------------------- penalty


@given(
    st.lists(st.floats(-9, 9, width=32), min_size=1, max_size=8),
    st.floats(0.5, 3, width=32),
    st.sets(st.integers(0, 7)),
)
def test_penalty_divides_positive_logits_and_multiplies_others(logits, penalty, seen):
    mask = mx.array([token in seen for token in range(len(logits))])
    made = np.array(penalise(mx.array(logits), mask, mx.array(penalty)))
    wanted = reference_scores(logits, ChannelSampling(1.0, 1.0, 0, penalty), seen)
    np.testing.assert_allclose(made, wanted, rtol=1e-6, atol=1e-30)


def test_the_penalty_holds_in_greedy_mode_too():
    channel = ChannelSampling(0.0, 1.0, 0, 2.0)
    assert measured_law([1.0, 0.8, -3.0], channel, seen=[0]) == {1: 1.0}
    assert measured_law([-1.0, -1.5, -3.0], channel, seen=[0]) == {1: 1.0}


def test_every_codebook_has_its_own_history():
    logits = mx.broadcast_to(mx.array([1.0, 0.9]), (1, 2, 2))
    seen = mx.array([[[True, False], [False, False]]])
    drawn = sample(logits, mx.zeros((1, 2)), RowSampling.of([ChannelSampling(0.0, 1.0, 0, 2.0)]), seen)
    assert drawn.tolist() == [[1, 0]]


@given(st.integers(1, 3), st.integers(1, 6), st.integers(1, 4), st.integers(2, 9), st.randoms(use_true_random=False))
def test_seen_tokens_are_those_of_the_history(batch, rows, channels, vocabulary, random):
    history = np.array(
        [[[random.randrange(vocabulary) for _ in range(channels)] for _ in range(rows)] for _ in range(batch)]
    )
    wanted = np.zeros((batch, channels, vocabulary), dtype=bool)
    for b, t, c in np.ndindex(history.shape):
        wanted[b, c, history[b, t, c]] = True
    np.testing.assert_array_equal(np.array(seen_in(mx.array(history), vocabulary)), wanted)
    empty = mx.zeros((batch, channels, vocabulary), dtype=mx.bool_)
    for t in range(rows):
        empty = mark_seen(empty, mx.array(history[:, t]))
    np.testing.assert_array_equal(np.array(empty), wanted)


# --------------------------------------------------------------------------------------------------- draws


def test_frequencies_of_seeded_draws():
    """Chi-square of 4000 draws at consecutive steps, and of 4000 at consecutive seeds."""
    channel = ChannelSampling(1.3, 0.9, 5)
    logits = [1.0, 0.4, 0.0, -0.3, -1.0, -5.0]
    law = reference_law(logits, channel)
    count = 4000
    rows = RowSampling.of([channel])
    same, running = mx.full(count, 7, dtype=mx.uint32), mx.arange(count)
    for seeds, steps in [(same, running), (running.astype(mx.uint32), mx.zeros(count, dtype=mx.int32))]:
        uniforms = step_uniforms(seeds, steps, 2)
        for draws in (uniforms[:, 0], uniforms[:, 1]):
            drawn = sample(mx.broadcast_to(mx.array(logits), (1, count, 6)), draws[None], rows)
            observed = np.bincount(np.array(drawn)[0], minlength=6)
            assert set(np.flatnonzero(observed)) == set(law)
            chi_square = sum((observed[t] - count * p) ** 2 / (count * p) for t, p in law.items())
            assert chi_square < 18.5  # 0.1 % at four degrees of freedom


def test_channels_of_a_row_draw_independently():
    uniforms = np.array(step_uniforms(mx.full(4000, 3, dtype=mx.uint32), mx.arange(4000), 4))
    correlations = np.corrcoef(uniforms.T) - np.eye(4)
    assert np.abs(correlations).max() < 0.06


@given(
    st.lists(st.tuples(st.integers(0, MAX_SEED), st.integers(0, 10_000)), min_size=1, max_size=5),
    st.integers(1, 33),
)
def test_a_rows_draws_are_its_own(rows, channels):
    """Keyed by seed and step: whatever else is in the batch does not matter."""
    seeds, steps = zip(*rows, strict=True)
    together = np.array(step_uniforms(mx.array(seeds, dtype=mx.uint32), mx.array(steps), channels))
    assert together.shape == (len(rows), channels)
    assert (together >= 0).all()
    assert (together < 1).all()
    for index, (seed, step) in enumerate(rows):
        alone = step_uniforms(mx.array([seed], dtype=mx.uint32), mx.array([step]), channels)
        np.testing.assert_array_equal(np.array(alone)[0], together[index])


def test_seeds_and_steps_are_not_interchangeable():
    pairs = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 1), (MAX_SEED, 0), (0, MAX_SEED // 2)]
    draws = {tuple(np.array(step_uniforms(mx.array([s], dtype=mx.uint32), mx.array([t]), 3))[0]) for s, t in pairs}
    assert len(draws) == len(pairs)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(CHANNELS, st.integers(0, 99)), min_size=1, max_size=4), st.integers(1, 5), st.integers(2, 9))
def test_a_row_does_not_depend_on_its_batch(rows, channels, vocabulary):
    """Settings differ from row to row, greedy and penalised ones among them."""
    random = np.random.default_rng(0)
    shape = (len(rows), channels, vocabulary)
    logits, seen = mx.array(random.normal(size=shape).astype(np.float32)), mx.array(random.random(shape) < 0.3)
    uniforms = step_uniforms(mx.array([seed for _, seed in rows], dtype=mx.uint32), mx.zeros(len(rows)), channels)
    together = np.array(sample(logits, uniforms, RowSampling.of([channel for channel, _ in rows]), seen))
    assert together.shape == (len(rows), channels)
    assert together.dtype == np.int32
    for i, (channel, _) in enumerate(rows):
        one = slice(i, i + 1)
        alone = sample(logits[one], uniforms[one], RowSampling.of([channel]), seen[one])
        np.testing.assert_array_equal(np.array(alone)[0], together[i])


def test_a_greedy_row_stays_greedy_among_sampled_ones():
    logits = mx.broadcast_to(mx.array([0.0, 0.1, 0.05]), (2, GRID // 2, 3))
    uniforms = mx.array(np.tile(EVEN[::2], (2, 1)))
    rows = RowSampling.of([ChannelSampling(0.0, 1.0, 0), ChannelSampling(5.0, 1.0, 0)])
    drawn = np.array(sample(logits, uniforms, rows))
    assert set(drawn[0]) == {1}
    assert set(drawn[1]) == {0, 1, 2}
