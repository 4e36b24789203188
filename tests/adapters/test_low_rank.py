"""Stacked thin products: against each adapter by itself, whichever adapters the requests of a batch want."""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
import numpy as np
import pytest

from moss_tts.adapters.low_rank import MOST_STACKS, Adapters, Factors, LowRank, Weights

INPUTS, RANKS = 24, (3, 2, 5)
# (start, outputs) of the parts of a joined layer, and which of them each adapter changes.
LAYOUTS = {
    "plain": ([(0, 16)], [(0,), (0,), (0,)]),
    "joined": ([(0, 16), (16, 8), (24, 8)], [(0, 1, 2), (0, 2), (1,)]),
    "even": ([(0, 8), (8, 8), (16, 8)], [(0, 1, 2), (0, 1, 2), (0, 1, 2)]),
    "pieces": ([(0, 16), (16, 8), (24, 8)], [(0, 1, 2), (0, 1, 2), (0, 1, 2)]),
    "gaps": ([(0, 8), (8, 8), (16, 8)], [(1,), (1,), ()]),
}


def made(layout: str) -> tuple[Adapters, LowRank, list[Factors], int]:
    parts, changed = LAYOUTS[layout]
    mx.random.seed(1)
    factors = [
        Factors(owner, parts[part][0], mx.random.normal((rank, INPUTS)), mx.random.normal((parts[part][1], rank)))
        for owner, (rank, numbers) in enumerate(zip(RANKS, changed, strict=True))
        for part in numbers
    ]
    adapters, outputs = Adapters("abc"), sum(parts[-1])
    return adapters, LowRank(adapters, factors, outputs), factors, outputs


def expected(factors: Sequence[Factors], x: mx.array, y: mx.array, rows: Sequence[Sequence[float]]) -> np.ndarray:
    out, each = np.array(y, dtype=np.float64), len(x) // len(rows)
    for index, row in enumerate(rows):
        here = slice(index * each, (index + 1) * each)
        for one in factors:
            added = np.array(x[here]) @ np.array(one.down).T @ np.array(one.up).T
            out[here, one.start : one.start + len(one.up)] += row[one.owner] * added
    return out


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "rows",
    [
        [[1, 0.5, -2]],
        [[1, 1, 1]],
        [[1, 1, 1], [1, 0, 1]],
        [[0, 0, 1]],
        [[0, 1, 0], [0, 0, 0]],
        [[1, 0, 0], [0, 2, 0], [0, 0, 0]],
    ],
    ids=str,
)
@pytest.mark.parametrize("each", [1, 3])
def test_it_adds_what_each_adapter_adds(layout: str, rows: list[list[float]], each: int) -> None:
    adapters, low_rank, factors, outputs = made(layout)
    x, y = mx.random.normal((len(rows) * each, INPUTS)), mx.random.normal((len(rows) * each, outputs))
    with adapters.using(Weights(rows)):
        np.testing.assert_allclose(low_rank(x, y), expected(factors, x, y, rows), atol=1e-4)


def test_only_the_adapters_that_are_wanted_are_computed() -> None:
    _, low_rank, *_ = made("joined")
    assert low_rank._stack((0, 1, 2)) is low_rank.all
    assert low_rank.all.down.shape == (INPUTS, 3 * 3 + 2 * 2 + 5)
    alone = low_rank._stack((1,))
    assert alone.down.shape == (INPUTS, 2 * 2)
    assert low_rank._stack((1,)) is alone
    for owners in ((0,), (2,), (0, 1), (0, 2)):
        low_rank._stack(owners)
    assert len(low_rank._recent) == MOST_STACKS
    assert low_rank._stack((1,)) is not alone


def test_adapters_of_other_layers_leave_an_output_as_it_is() -> None:
    adapters, low_rank, _, outputs = made("gaps")
    y = mx.random.normal((1, outputs))
    with adapters.using(Weights([[0, 0, 1]])):
        assert low_rank(mx.ones((1, INPUTS)), y) is y
    assert low_rank(mx.ones((1, INPUTS)), y) is y


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_stack_gives_its_matrices_again(layout: str) -> None:
    _, low_rank, factors, _ = made(layout)
    by_place = {(one.owner, one.start): one for one in low_rank.all.parts()}
    assert len(by_place) == len(factors)
    for one in factors:
        again = by_place[one.owner, one.start]
        assert mx.array_equal(again.down, one.down)
        assert mx.array_equal(again.up, one.up)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_request_gets_the_same_bits_whatever_others_want(layout: str) -> None:
    adapters, low_rank, _, outputs = made(layout)
    x, y = mx.random.normal((4, INPUTS)), mx.random.normal((4, outputs))
    rows = [[0, 1.5, 0], [1, 0, 2], [0, 0, 0], [1, 1, 1]]
    with adapters.using(Weights(rows)):
        together = low_rank(x, y)
    for index, row in enumerate(rows):
        with adapters.using(Weights([row]) if any(row) else None):
            alone = low_rank(x[index : index + 1], y[index : index + 1])
        np.testing.assert_array_equal(together[index : index + 1], alone)
