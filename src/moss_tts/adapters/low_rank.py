"""Low-rank products beside linear layers: y = W x + the sum over adapters of weight * scale * B (A x).

Nothing is merged. The adapters of a layer that some request of a batch wants are one stacked pair of thin products,
with a factor per request and rank between the two, so that requests with different adapters share a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from math import gcd
from typing import Any, Protocol, TypeAlias, TypeVar, cast

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from moss_tts.device.kernels import turned
from moss_tts.errors import RequestError, shown

T = TypeVar("T")
# Choices among the adapters of a model that are kept ready, besides that of all: those of the rows, of the prompts that
# are read beside them, and of those before.
MOST_STACKS = 3
# Parts of different sizes, such as queries, keys and values, are computed in up to this many pieces each.
MOST_PIECES = 4
# (name, weight) of the adapters that a request wants.
Wanted: TypeAlias = tuple[tuple[str, float], ...]


class Asking(Protocol):
    """A request with the adapters that it wants."""

    @property
    def adapters(self) -> Wanted:
        """(name, weight) of each."""
        ...


class Weights:
    """The weights of adapters for the requests of a batch.

    Args:
        rows: one list per request, with one weight per adapter.

    Attributes:
        active: the numbers of the adapters that some request wants; the others are not computed.
    """

    def __init__(self, rows: Sequence[Sequence[float]]) -> None:
        self.active = tuple(number for number, column in enumerate(zip(*rows, strict=True)) if any(column))
        self._rows = mx.array([list(row) for row in rows], dtype=mx.float32)
        self._ones = {number for number, column in enumerate(zip(*rows, strict=True)) if set(column) == {1.0}}
        self._spread: dict[tuple[tuple[int, ...], mx.Dtype], mx.array] = {}

    def by_rank(self, owners: tuple[int, ...], dtype: mx.Dtype) -> mx.array | None:
        """(B, R): for each request and rank the weight of the adapter that the rank belongs to; None if all are 1.

        Args:
            owners: R numbers of adapters.
            dtype: the type of the result.
        """
        if self._ones.issuperset(owners):
            return None
        if (owners, dtype) not in self._spread:
            self._spread[owners, dtype] = self._rows[:, mx.array(owners)].astype(dtype)
        return self._spread[owners, dtype]


class Adapters:
    """The adapters of a network, and the weights for the requests that it computes at the moment.

    Args:
        names: the names of the adapters, in the order of their weights.

    Attributes:
        heads: products beside the heads that are embeddings, by upstream's names of these heads.
    """

    def __init__(self, names: Sequence[str] = ()) -> None:
        self.names = tuple(names)
        self.heads: dict[str, LowRank] = {}
        self._current: Weights | None = None

    @property
    def current(self) -> Weights | None:
        """The weights for the requests that are computed; None while none of them wants an adapter."""
        return self._current

    def check(self, wanted: Wanted) -> None:
        """Refuse names of adapters that are not loaded.

        Raises:
            RequestError: there is such a name.
        """
        for name, _ in wanted:
            if name not in self.names:
                known = f"it has {', '.join(map(repr, self.names))}" if self.names else "it was loaded without any"
                raise RequestError(
                    f"this model has no adapter {shown(name)}, which the request or its voice wants; {known}. Adapters "
                    f"are named when the model is loaded: "
                    f'moss_tts.load(..., adapters={{"NAME": "DIRECTORY"}}), or --lora NAME=DIRECTORY.'
                )

    def weights(self, requests: Sequence[Asking]) -> Weights | None:
        """The weights for a batch of requests; None if none of them wants an adapter."""
        if not any(weight for request in requests for _, weight in request.adapters):
            return None
        return Weights([[dict(request.adapters).get(name, 0.0) for name in self.names] for request in requests])

    def head(self, name: str, x: mx.array, y: mx.array, ids: mx.array | slice | None = None) -> mx.array:
        """What a head that is an embedding makes of x, with the adapters added to y; see LowRank."""
        return self.heads[name](x, y, ids) if name in self.heads else y

    @contextmanager
    def using(self, weights: Weights | None) -> Iterator[None]:
        """Compute with such weights inside this context."""
        before, self._current = self._current, weights
        try:
            yield
        finally:
            self._current = before

    def bound(self, requests: Sequence[Asking], forward: Callable[..., T]) -> Callable[..., T]:
        """A function that computes with the adapters of such requests."""
        weights = self.weights(requests)

        def bound(*arguments: Any) -> T:
            with self.using(weights):
                return forward(*arguments)

        return bound


@dataclass(frozen=True)
class Factors:
    """One adapter's pair of matrices for one linear layer, or for some outputs of a joined one.

    Attributes:
        owner: the number of the adapter.
        start: the first output that it changes.
        down: A, (r, in).
        up: B times the adapter's scale, (out, r).
    """

    owner: int
    start: int
    down: mx.array
    up: mx.array


class Stack(nn.Module):
    """Some adapters of a product as one pair of thin products.

    Args:
        factors: their pairs, of one input width.
        outputs: the number of outputs of the product.
    """

    def __init__(self, factors: Sequence[Factors], outputs: int) -> None:
        super().__init__()
        in_order = sorted(factors, key=lambda one: one.start)
        by_start = {start: list(group) for start, group in groupby(in_order, key=lambda one: one.start)}
        self.owners = tuple(one.owner for one in in_order for _ in range(len(one.down)))
        self.down = turned(mx.concatenate([one.down for one in in_order]))
        ups = [mx.concatenate([one.up for one in group], axis=1).T for group in by_start.values()]
        self._starts = tuple(by_start)
        self._outputs = outputs
        self._known: tuple[Weights, mx.array | None] | None = None
        # The part that each of several equal pieces of the outputs belongs to; none if there are no such pieces.
        self._pieces = _pieces(self._starts, [up.shape for up in ups], outputs)
        if self._pieces:
            unit = outputs // len(self._pieces)
            pieces = [piece for up in ups for piece in mx.split(up, up.shape[1] // unit, axis=1)]
            self.ups: Any = mx.stack(pieces)
            self._order = mx.array(self._pieces)
        else:
            self.ups = [mx.contiguous(up) for up in ups]

    def __call__(self, x: mx.array, y: mx.array, weights: Weights, ids: mx.array | slice | None) -> mx.array:
        """See LowRank; the adapters of the stack with such weights."""
        hidden = x @ self.down
        scaled = _scaled(hidden, self._factors(weights, hidden.dtype))
        if ids is not None:  # only heads are asked for some outputs, and each head is one part
            return y + scaled @ self.ups[0][:, ids]
        if self._pieces:
            return self._by_pieces(scaled, y)
        if len(self.ups) == 1 and self.ups[0].shape[1] == self._outputs:
            return mx.addmm(y, scaled, self.ups[0])
        return y + self._parts(scaled)

    def _factors(self, weights: Weights, dtype: mx.Dtype) -> mx.array | None:
        """See Weights.by_rank; a frame asks for the same ones hundreds of times."""
        if self._known is None or self._known[0] is not weights:
            self._known = weights, weights.by_rank(self.owners, dtype)
        return self._known[1]

    def parts(self) -> Iterator[Factors]:
        """The pairs of matrices again, as views where nothing was cut."""
        at = 0
        for start, up in zip(self._starts, self._whole_ups(), strict=True):
            owners = self.owners[at : at + len(up)]
            for owner in dict.fromkeys(owners):
                first, rank = owners.index(owner), owners.count(owner)
                down = self.down.T[at + first : at + first + rank]
                yield Factors(owner, start, down, up[first : first + rank].T)
            at += len(up)

    def _whole_ups(self) -> list[mx.array]:
        if not self._pieces:
            return list(self.ups)
        by_part = [
            [piece for piece, part in zip(self.ups, self._pieces, strict=True) if part == number]
            for number in range(len(self._starts))
        ]
        return [pieces[0] if len(pieces) == 1 else mx.concatenate(pieces, axis=1) for pieces in by_part]

    def _by_pieces(self, hidden: mx.array, y: mx.array) -> mx.array:
        """(..., R) and (..., out) -> (..., out): one product for all pieces."""
        count, rank = self.ups.shape[:2]
        by_part = hidden.reshape(-1, len(self._starts), rank)
        if count > len(self._starts):
            by_part = by_part[:, self._order]
        if len(by_part) == 1:
            return y + (by_part.reshape(count, 1, rank) @ self.ups).reshape(y.shape)
        added = by_part.transpose(1, 0, 2) @ self.ups
        return y + added.transpose(1, 0, 2).reshape(y.shape)

    def _parts(self, hidden: mx.array) -> mx.array:
        """(..., R) -> (..., out), zero where no adapter changes an output."""
        pieces, rank, end = [], 0, 0
        for start, up in zip(self._starts, self.ups, strict=True):
            if start > end:
                pieces.append(mx.zeros((*hidden.shape[:-1], start - end), hidden.dtype))
            pieces.append(hidden[..., rank : rank + len(up)] @ up)
            rank, end = rank + len(up), start + up.shape[1]
        if end < self._outputs:
            pieces.append(mx.zeros((*hidden.shape[:-1], self._outputs - end), hidden.dtype))
        return pieces[0] if len(pieces) == 1 else mx.concatenate(pieces, axis=-1)


def _pieces(starts: Sequence[int], shapes: Sequence[tuple[int, ...]], outputs: int) -> tuple[int, ...]:
    """The number of the part that each of several equal pieces of the outputs belongs to, or nothing.

    Args:
        starts: the first output of each part.
        shapes: (rank, outputs) of each part.
        outputs: the number of outputs together.
    """
    sizes = [columns for _, columns in shapes]
    gapless = list(starts) == [sum(sizes[:index]) for index in range(len(sizes))] and sum(sizes) == outputs
    unit = gcd(*sizes)
    if (
        len(starts) == 1
        or len({rank for rank, _ in shapes}) > 1
        or not gapless
        or outputs > MOST_PIECES * len(sizes) * unit
    ):
        return ()
    return tuple(part for part, size in enumerate(sizes) for _ in range(size // unit))


def _scaled(hidden: mx.array, factors: mx.array | None) -> mx.array:
    """(..., R) times the factors (B, R) of the requests that the rows belong to; None are ones."""
    if factors is None:
        return hidden
    if len(factors) == 1 or hidden.shape == factors.shape:
        return hidden * factors
    by_request = hidden.reshape(len(factors), -1, hidden.shape[-1])
    return (by_request * factors[:, None]).reshape(hidden.shape)


class LowRank(nn.Module):
    """All adapters of one product; those that the requests of the moment want are computed as one stack.

    Args:
        adapters: the network's adapters, which know the weights at the moment of a call.
        factors: the pairs, of one input width.
        outputs: the number of outputs of the product.
    """

    def __init__(self, adapters: Adapters, factors: Sequence[Factors], outputs: int) -> None:
        super().__init__()
        self._adapters = adapters
        self._outputs = outputs
        self._owners = tuple(sorted({one.owner for one in factors}))
        self._recent: dict[tuple[int, ...], Stack] = {}
        self.all = Stack(factors, outputs)

    def __call__(self, x: mx.array, y: mx.array, ids: mx.array | slice | None = None) -> mx.array:
        """What the layer makes of x (..., in), y (..., out), with the adapters added.

        Args:
            x: rows of the requests, those of one request side by side.
            y: the product without adapters; it is returned as it is while no request wants an adapter of this layer.
            ids: the outputs that y has; None are all.
        """
        weights = self._adapters.current
        if weights is None:
            return y
        owners = tuple(number for number in self._owners if number in weights.active)
        return self._stack(owners)(x, y, weights, ids) if owners else y

    def _stack(self, owners: tuple[int, ...]) -> Stack:
        """The stack of some adapters; those of the last few choices are kept."""
        if owners == self._owners:
            return self.all
        if owners not in self._recent:
            if len(self._recent) == MOST_STACKS:
                self._recent.pop(next(iter(self._recent)))
            self._recent[owners] = Stack([one for one in self.all.parts() if one.owner in owners], self._outputs)
        return self._recent[owners]


class Adapted(nn.Module):
    """A linear layer of any kind with adapters beside it.

    Args:
        base: the layer.
        low_rank: the adapters.
    """

    def __init__(self, base: nn.Module, low_rank: LowRank) -> None:
        super().__init__()
        self.base = base
        self.low_rank = low_rank

    def __call__(self, x: mx.array) -> mx.array:
        """(..., in) -> (..., out)."""
        return self.low_rank(x, cast(mx.array, self.base(x)))


def base_weights(network: nn.Module) -> dict[str, mx.array]:
    """The weights of a network by the names that they have without adapters."""
    flat: list[tuple[str, mx.array]] = tree_flatten(network.parameters())  # type: ignore[assignment]
    return {name.replace(".base.", "."): weight for name, weight in flat if ".low_rank." not in name}


class Adaptable(nn.Module):
    """A network that can have adapters."""

    adapters = Adapters()
