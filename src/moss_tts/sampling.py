"""Sampling of text and audio channels, vectorised over the rows of a batch and their codebooks.

Order, as upstream: repetition penalty and temperature (both only scale a logit, so they commute), then top-k,
then top-p, then one draw. Draws are counter-based: a request's draw at a step depends on its own seed and
step alone, not on what else is in the batch.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf

import mlx.core as mx

MAX_SEED = 2**32 - 1
# Candidates behind the last of top_k that may be as good as it; C knows no limit, and to sort all would take long here.
TIES = 64


def draw_seed() -> int:
    """A random seed in 0..MAX_SEED. Every seed that a caller leaves open comes from here."""
    return secrets.randbelow(MAX_SEED + 1)


def mixed_seed(*parts: object) -> int:
    """A seed of the parts of a request; neighbouring parts share nothing."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest) % (MAX_SEED + 1)


@dataclass(frozen=True)
class ChannelSampling:
    """How one kind of channel is sampled.

    Attributes:
        temperature: 0 is greedy.
        top_p: the smallest set of candidates with a greater mass than this; 1 is off.
        top_k: number of candidates; 0 is off.
        repetition_penalty: divides the positive logits of tokens seen, multiplies the others; 1 is off.
    """

    temperature: float
    top_p: float
    top_k: int
    repetition_penalty: float = 1.0


@dataclass(frozen=True)
class Sampling:
    """Sampling of one request.

    Attributes:
        text: its text channel.
        audio: its audio channels.
        window: the last frames that their penalty looks at, for networks that look at some; 0 is all.
    """

    text: ChannelSampling
    audio: ChannelSampling
    window: int = 0

    def without_greedy_penalty(self) -> Sampling:
        """The same, with no penalty on audio channels that are greedy."""
        if self.audio.temperature > 0:
            return self
        return replace(self, audio=replace(self.audio, repetition_penalty=1.0))


@dataclass(frozen=True)
class RowSampling:
    """One kind of channel for all rows of a batch: arrays (B, 1, 1), and steps that no row needs.

    Attributes:
        rows: the settings of each row.
        sampled: bool, False where the row is greedy.
        negative_temperature: the negative temperature; -1 if the row is greedy.
        top_p: infinite if it is off, because a long sum can round to more than 1.
        top_k: a huge number if it is off.
        penalty: the repetition penalty.
        any_greedy: whether any row is greedy.
        all_greedy: whether all rows are greedy.
        penalised: whether any row has a penalty.
        widest_k: the largest top_k of all rows; 0 if a row considers all candidates.
        keeps_ties: whether candidates as good as the last of top_k stay beside it.
    """

    rows: tuple[ChannelSampling, ...]
    sampled: mx.array
    negative_temperature: mx.array
    top_p: mx.array
    top_k: mx.array
    penalty: mx.array
    any_greedy: bool
    all_greedy: bool
    penalised: bool
    widest_k: int
    keeps_ties: bool

    @classmethod
    def of(cls, rows: Sequence[ChannelSampling], *, keeps_ties: bool = False) -> RowSampling:
        """Stack the settings of B rows."""

        def column(values: list[float], dtype: mx.Dtype) -> mx.array:
            return mx.array(values, dtype=dtype).reshape(-1, 1, 1)

        unlimited = any(row.top_k == 0 for row in rows)
        return cls(
            rows=tuple(rows),
            sampled=column([row.temperature > 0 for row in rows], mx.bool_),
            negative_temperature=column([-row.temperature or -1.0 for row in rows], mx.float32),
            top_p=column([row.top_p if row.top_p < 1 else inf for row in rows], mx.float32),
            top_k=column([row.top_k or 2**30 for row in rows], mx.int32),
            penalty=column([row.repetition_penalty for row in rows], mx.float32),
            any_greedy=any(row.temperature == 0 for row in rows),
            all_greedy=all(row.temperature == 0 for row in rows),
            penalised=any(row.repetition_penalty != 1 for row in rows),
            widest_k=0 if unlimited else max(row.top_k for row in rows),
            keeps_ties=keeps_ties,
        )


def step_uniforms(seeds: mx.array, steps: mx.array, channels: int) -> mx.array:
    """One draw in [0, 1) per row and channel, keyed by (seed, step).

    Args:
        seeds: (B,) uint32.
        steps: (B,) integers, the row's own count of steps.
        channels: draws per row.

    Returns:
        (B, channels) float32.
    """
    keys = mx.stack([seeds, steps.astype(mx.uint32)], axis=-1)
    return mx.vmap(lambda key: mx.random.uniform(shape=(channels,), key=key))(keys)


def sample(logits: mx.array, uniforms: mx.array, rows: RowSampling, seen: mx.array | None = None) -> mx.array:
    """Draw one token per row and channel.

    Args:
        logits: (B, C, V) float32; -inf bars a token.
        uniforms: (B, C) in [0, 1).
        rows: settings of the B rows.
        seen: (B, C or 1, V) bool, the tokens that the penalty weakens.

    Returns:
        (B, C) int32.
    """
    if seen is not None and rows.penalised:
        logits = penalise(logits, seen, rows.penalty)
    if rows.all_greedy:
        return mx.argmax(logits, axis=-1).astype(mx.int32)
    drawn = _draw(logits / rows.negative_temperature, uniforms, rows)
    if rows.any_greedy:
        return mx.where(rows.sampled[..., 0], drawn, mx.argmax(logits, axis=-1).astype(mx.int32))
    return drawn


def penalise(logits: mx.array, seen: mx.array, penalty: mx.array) -> mx.array:
    """Weaken the tokens in `seen`: positive logits are divided by the penalty, the others multiplied."""
    return mx.where(seen, mx.where(logits > 0, logits / penalty, logits * penalty), logits)


def _draw(costs: mx.array, uniforms: mx.array, rows: RowSampling) -> mx.array:
    """Inverse-CDF draw from the candidates that top-k and top-p leave, best first.

    Args:
        costs: (B, C, V) logits over minus the temperature: the best come first in sorting order.
        uniforms: (B, C).
        rows: settings.

    Returns:
        (B, C) int32.
    """
    spare = TIES if rows.keeps_ties and rows.widest_k else 0
    candidates = _best(costs, rows.widest_k + spare)
    ranked = mx.take_along_axis(costs, candidates, axis=-1)
    top_k = _with_ties(ranked, rows.top_k) if spare else rows.top_k
    rank = _drawn_rank(ranked, uniforms[..., None], top_k, rows.top_p)
    return mx.take_along_axis(candidates, rank, axis=-1)[..., 0].astype(mx.int32)


@mx.compile
def _with_ties(costs: mx.array, top_k: mx.array) -> mx.array:
    """How many of the candidates (B, C, K), cheapest first, cost no more than the last of top_k: (B, C, 1)."""
    last = mx.where(mx.arange(costs.shape[-1]) < top_k, costs, -mx.inf).max(axis=-1, keepdims=True)
    return (costs <= last).sum(axis=-1, keepdims=True)


@mx.compile
def _drawn_rank(costs: mx.array, uniforms: mx.array, top_k: mx.array, top_p: mx.array) -> mx.array:
    """Which of the candidates (B, C, K), cheapest first, is drawn: (B, C, 1)."""
    rank = mx.arange(costs.shape[-1])
    probabilities = mx.softmax(mx.where(rank < top_k, -costs, -mx.inf), axis=-1)
    before = mx.cumsum(probabilities, axis=-1) - probabilities
    # A candidate stays while the mass before it has not passed p; before the first one it is exactly zero. Sums are
    # rounded, on GPUs not even in order: counting those that stay makes them the first ones, and the draw one of them.
    kept = ((before <= top_p) & (probabilities > 0)).sum(axis=-1, keepdims=True)
    mass = mx.cumsum(mx.where(rank < kept, probabilities, 0), axis=-1)
    drawn = (mass <= uniforms * mass[..., -1:]).sum(axis=-1, keepdims=True)
    return mx.minimum(drawn, kept - 1)


def _best(costs: mx.array, count: int) -> mx.array:
    """Indices (B, C, K) of the `count` cheapest tokens (0: all), cheapest first."""
    if not 0 < count < costs.shape[-1]:
        return mx.argsort(costs, axis=-1)
    best = mx.argpartition(costs, kth=count - 1, axis=-1)[..., :count]
    order = mx.argsort(mx.take_along_axis(costs, best, axis=-1), axis=-1)
    return mx.take_along_axis(best, order, axis=-1)


def mark_seen(seen: mx.array, tokens: mx.array) -> mx.array:
    """Add tokens (B, C) to the seen mask (B, C, V)."""
    return seen | (tokens[..., None] == mx.arange(seen.shape[-1]))


def seen_in(tokens: mx.array, vocabulary: int) -> mx.array:
    """The mask (B, C, V) of the tokens that occur in the history (B, T, C)."""
    batch, _, channels = tokens.shape
    counts = mx.zeros((batch, channels, vocabulary), dtype=mx.bool_)
    return mx.put_along_axis(counts, tokens.transpose(0, 2, 1), mx.array(True), axis=-1)


def joined_seen(parts: Sequence[tuple[mx.array | None, int]]) -> mx.array | None:
    """The masks (B, C, V) of batches as one; None, which is a batch of so many rows without penalties, as zeros."""
    shape = next((seen.shape[1:] for seen, _ in parts if seen is not None), None)
    if shape is None:
        return None
    return mx.concatenate([mx.zeros((rows, *shape), mx.bool_) if seen is None else seen for seen, rows in parts])
