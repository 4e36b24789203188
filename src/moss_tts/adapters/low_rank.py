"""Low-rank products beside linear layers: y = W x + the sum over adapters of weight * scale * B (A x).

Nothing is merged. The adapters of a layer that some request of a batch wants are one stacked pair of thin products,
with a factor per request and rank between the two, so that requests with different adapters share a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
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
        self._spread: dict[tuple[tuple[int, ...], mx.Dtype], mx.array] = {}

    def by_rank(self, owners: tuple[int, ...], dtype: mx.Dtype) -> mx.array:
        """(B, R): for each request and rank the weight of the adapter that the rank belongs to.

        Args:
            owners: R numbers of adapters.
            dtype: the type of the result.
        """
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
        # Parts of one size side by side, such as the heads of all codebooks, are one product.
        same = len(ups) > 1 and len({up.shape for up in ups}) == 1
        self._even = same and list(by_start) == list(range(0, outputs, ups[0].shape[1]))
        self.ups: Any = mx.stack(ups) if self._even else [mx.contiguous(up) for up in ups]
        self._starts = tuple(by_start)
        self._outputs = outputs

    def __call__(self, x: mx.array, y: mx.array, weights: Weights, ids: mx.array | slice | None) -> mx.array:
        """See LowRank; the adapters of the stack with such weights."""
        hidden = x @ self.down
        factors = weights.by_rank(self.owners, hidden.dtype)
        if len(factors) > 1 and hidden.shape != factors.shape:
            by_request = hidden.reshape(len(factors), -1, hidden.shape[-1])
            scaled = (by_request * factors[:, None]).reshape(hidden.shape)
        else:
            scaled = hidden * factors
        if ids is not None:  # only heads are asked for some outputs, and each head is one part
            return y + scaled @ self.ups[0][:, ids]
        if len(self.ups) == 1 and self.ups[0].shape[1] == self._outputs:
            return mx.addmm(y, scaled, self.ups[0])
        return y + (self._even_parts(scaled) if self._even else self._parts(scaled))

    def parts(self) -> Iterator[Factors]:
        """The pairs of matrices again, as views."""
        at = 0
        for start, up in zip(self._starts, self.ups, strict=True):
            owners = self.owners[at : at + len(up)]
            for owner in dict.fromkeys(owners):
                first, rank = owners.index(owner), owners.count(owner)
                down = self.down.T[at + first : at + first + rank]
                yield Factors(owner, start, down, up[first : first + rank].T)
            at += len(up)

    def _even_parts(self, hidden: mx.array) -> mx.array:
        """(..., R) -> (..., out) of parts of one size."""
        by_part = hidden.reshape(-1, *self.ups.shape[:2]).transpose(1, 0, 2) @ self.ups
        return by_part.transpose(1, 0, 2).reshape(*hidden.shape[:-1], self._outputs)

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
