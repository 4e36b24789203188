"""Sliding-window attention over a stream: the state from call to call, and the plan of one call.

A query sees itself and the `window - 1` steps before it. Each call appends its keys and values to those that
are carried and attends in blocks of queries, so that any split of a stream into calls gives the same result
and memory grows with the length of a call, never with its square.

Rows of a batch may stand at different positions, and a call may bring each row a different number of steps.
Letters: B rows, H heads, T steps of a call, P carried steps, K slots of a buffer, D width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, log
from typing import NamedTuple

import mlx.core as mx

from moss_tts.device.kernels import attend, for_both

Mask = mx.array | str | None

# Fewer queries per block than this leave the hardware idle.
LEAST_BLOCK = 64


@dataclass(frozen=True)
class WindowState:
    """The state that a transformer stage needs of the past. It is a value: calls return a new one.

    Attributes:
        keys: per layer, rotated, (B, H, K, D). Slots from `used` on are free.
        values: per layer (B, H, K, D).
        used: the newest step of every row is in slot used - 1; older slots precede it.
        positions: steps that each row has seen. Slots older than that are empty and never attended to.
    """

    keys: tuple[mx.array, ...]
    values: tuple[mx.array, ...]
    used: int
    positions: tuple[int, ...]

    @property
    def arrays(self) -> list[mx.array]:
        """All arrays of the state, which may not be computed yet."""
        return [*self.keys, *self.values]

    def rows(self, rows: Sequence[int | None]) -> WindowState:
        """The state with these rows in this order; None is a row at the start of its stream."""
        positions = tuple(0 if row is None else self.positions[row] for row in rows)
        if all(row in (None, place) for place, row in enumerate(rows)) and len(rows) == len(self.positions):
            return replace(self, positions=positions)
        taken = mx.array([row or 0 for row in rows], dtype=mx.int32)
        return replace(
            self,
            keys=tuple(keys[taken] for keys in self.keys),
            values=tuple(values[taken] for values in self.values),
            positions=positions,
        )


@dataclass(frozen=True)
class Block:
    """Queries first..stop of a call and the slots slots.start..slots.stop they attend to."""

    first: int
    stop: int
    slots: slice
    mask: Mask


@dataclass(frozen=True)
class CallPlan:
    """Everything the layers of a stage share in one call.

    Attributes:
        rotor: turns queries and keys to their positions.
        base: slot of the buffer handed in where the carried steps begin.
        carried: P.
        moves: whether the buffer is full, so that carried steps move to the front of a new one.
        room: free slots of that new buffer.
        blocks: how queries are grouped.
        kept: slots (B, K) that remain per row if rows advanced by different amounts, else None.
    """

    rotor: Rotor
    base: int
    carried: int
    moves: bool
    room: int
    blocks: tuple[Block, ...]
    kept: mx.array | None

    def append(self, buffer: mx.array, new: mx.array) -> mx.array:
        """Put T steps (B, H, T, D) after the carried ones.

        slice_update works in place unless an older state still holds the buffer, as a fork does.
        """
        end = self.base + self.carried
        if not self.moves:
            return mx.slice_update(buffer, new, mx.array([end]), axes=[2])
        batch, heads, _, width = new.shape
        parts = [buffer[:, :, self.base : end], new, mx.zeros((batch, heads, self.room, width), new.dtype)]
        return mx.concatenate(parts, axis=2)

    def attend(self, queries: mx.array, keys: mx.array, values: mx.array) -> mx.array:
        """Queries (B, H, T, D) over buffers (B, H, K, D) -> (B, H, T, D)."""
        scale = queries.shape[-1] ** -0.5
        outputs = [
            attend(
                queries[:, :, block.first : block.stop],
                keys[:, :, block.slots],
                values[:, :, block.slots],
                scale=scale,
                mask=block.mask,
            )
            for block in self.blocks
        ]
        return outputs[0] if len(outputs) == 1 else mx.concatenate(outputs, axis=2)

    def settle(self, buffer: mx.array) -> mx.array:
        """The buffer as it is carried on: with every row's newest step in the same slot."""
        if self.kept is None:
            return buffer
        batch, heads, slots, width = buffer.shape
        # Whole slots are moved: take_along_axis goes element by element.
        starts = mx.arange(0, batch * heads * slots, slots).reshape(batch, heads, 1)
        return buffer.reshape(-1, width)[starts + self.kept[:, None]]


def plan_call(
    state: WindowState, steps: int, counts: Sequence[int] | None, window: int, rotor: Rotor
) -> tuple[CallPlan, int, tuple[int, ...]]:
    """Plan a call of T steps, of which the first counts[b] are row b's (None: all of them).

    Returns:
        the plan, and `used` and `positions` of the state after it.
    """
    carried = min(state.used, window - 1, max(state.positions))
    base = state.used - carried
    capacity = state.keys[0].shape[2]
    moves = state.used + steps > capacity
    base_after = 0 if moves else base
    # A first call may be the only one; a stream then moves its buffer once in a quarter of a window.
    room = window // 4 if state.used else 0
    end = base_after + carried + steps
    positions = tuple(
        position + (steps if counts is None else counts[row]) for row, position in enumerate(state.positions)
    )
    kept = None
    if counts is not None and any(count != steps for count in counts):
        kept = _kept_slots(base_after + carried, counts, min(window - 1, max(positions)))
        end = kept.shape[1]
    empty = [max(0, carried - position) for position in state.positions]
    blocks = tuple(_blocks(base_after, carried, steps, window, empty))
    return CallPlan(rotor, base, carried, moves, room, blocks, kept), end, positions


def _kept_slots(end: int, counts: Sequence[int], keep: int) -> mx.array:
    """Slots of the last `keep` steps of every row; the newest is in slot end + counts[b] - 1.

    A row shorter than that gets arbitrary slots in front, which its position marks as empty.
    """
    newest = mx.array([end + count for count in counts], dtype=mx.int32)
    return mx.maximum(newest[:, None] - keep + mx.arange(keep, dtype=mx.int32), 0)


def _blocks(base: int, carried: int, steps: int, window: int, empty: Sequence[int]) -> list[Block]:
    """Queries in equal blocks of at most a quarter of a window: at most a fifth of what is read is masked."""
    count = ceil(steps / max(LEAST_BLOCK, window // 4))
    size = ceil(steps / count)
    bands: dict[tuple[int, int, int], mx.array] = {}
    blocks = []
    for first in range(0, steps, size):
        stop = min(steps, first + size)
        oldest = max(0, carried + first - (window - 1))
        slots = slice(base + oldest, base + carried + stop)
        mask = _mask(carried + first - oldest, stop - first, window, [n - oldest for n in empty], bands)
        blocks.append(Block(first, stop, slots, mask))
    return blocks


def _mask(
    past: int, queries: int, window: int, empty: Sequence[int], bands: dict[tuple[int, int, int], mx.array]
) -> Mask:
    """What `queries` queries see of `past` slots before the first of them and of each other.

    Args:
        empty: per row, how many of the oldest slots hold nothing.
        bands: masks already made in this call; most blocks share one.
    """
    narrow = past + queries > window
    ragged = any(count > 0 for count in empty)
    if not narrow and not ragged:
        return None if queries == 1 else "causal"
    key = (past, queries, window)
    if key not in bands:
        slot = mx.arange(past + queries)
        own = past + mx.arange(queries)[:, None]
        bands[key] = (slot <= own) & (slot > own - window)
    if not ragged:
        return bands[key]
    filled = mx.arange(past + queries) >= mx.array(list(empty))[:, None]
    return bands[key] & filled[:, None, None, :]


class Rotor(NamedTuple):
    """Angles for both neighbours: (B, T, 1, 1, D), or (1, T, 1, 1, D) if all rows stand at one position."""

    cos: mx.array
    sin: mx.array


def make_rotor(positions: Sequence[int], steps: int, head_dim: int, max_period: float) -> Rotor:
    """The turn of T steps of rows at these positions.

    Pair i of a head (entries 2i and 2i + 1) turns by position * max_period^(-2i / D), in float32 as upstream.
    """
    starts = positions[:1] if len(set(positions)) == 1 else positions
    half = head_dim // 2
    rates = mx.exp(mx.arange(half, dtype=mx.float32) * (-2 * log(max_period) / head_dim))
    steps_of_rows = mx.array(list(starts))[:, None] + mx.arange(steps)
    angles = steps_of_rows.astype(mx.float32)[..., None] * rates
    rotor = for_both(mx.cos(angles), mx.sin(angles))
    return Rotor(*(part[:, :, None, None] for part in rotor))
