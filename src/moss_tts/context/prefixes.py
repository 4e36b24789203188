"""Keys and values of what many prompts begin with: references, and the template up to the text.

A prompt begins with its references; then come the fields that say how to speak, then the text. The beginnings that
were used last are kept. A request gets from them exactly what reading them again would give.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import TypeAlias

import mlx.core as mx
import numpy as np

from moss_tts.context.batch_cache import Cache
from moss_tts.context.quantised_cache import held_parts
from moss_tts.context.reading import Reading, parts
from moss_tts.device.mlx_lm import KVCache

# A reference of ten seconds takes 16 to 22 MB in the released models: 125 rows, and the fields are fewer.
MOST_PREFIXES = 4
# Rows of a beginning; longer ones are not kept.
MOST_ROWS = 2048

# Keys and values of a stretch of rows, for each layer.
Held: TypeAlias = list[tuple[mx.array, mx.array]]
# References, and fields after them.
KeptPrefixes: TypeAlias = tuple[OrderedDict[Hashable, Held], OrderedDict[Hashable, Held]]


class PrefixCache:
    """Keys and values of the beginnings of prompts.

    Args:
        slot: text id of the rows that carry a reference.
        most: how many references are kept, and how many versions of the fields after one; 0 keeps none.

    Attributes:
        heading: text ids right before the text of a prompt; without any, only references are kept.
    """

    def __init__(self, slot: int, most: int = MOST_PREFIXES) -> None:
        self._slot, self._most = slot, most
        self._references: OrderedDict[Hashable, Held] = OrderedDict()
        self._fields: OrderedDict[Hashable, Held] = OrderedDict()
        self.heading: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self._references)

    def clear(self) -> None:
        """Remove all kept beginnings."""
        self._references.clear()
        self._fields.clear()

    def kept(self, most: int) -> KeptPrefixes:
        """The beginnings that were used last, as many as have `most` bytes together, for another cache."""
        kept, left = (OrderedDict[Hashable, Held](), OrderedDict[Hashable, Held]()), most
        for known, chosen in zip((self._references, self._fields), kept, strict=True):
            for key, held in reversed(known.items()):
                left -= sum(array.nbytes for pair in held for array in pair)
                if left < 0:
                    break
                chosen[key] = held
                chosen.move_to_end(key, last=False)
        return kept

    def restore(self, kept: KeptPrefixes) -> None:
        """Take the beginnings that a cache of the same network has kept."""
        self._references, self._fields = (OrderedDict(known) for known in kept)

    def read(
        self,
        prompt: np.ndarray,
        n_vq: int,
        caches: Sequence[Cache],
        read: Callable[[int, int], Reading[mx.array]],
        adapters: Hashable = (),
    ) -> Reading[mx.array]:
        """Read a prompt, except for parts that are kept.

        Each part is read by itself whether it is kept or not: products of other shapes differ in their last bits,
        and a request must not depend on earlier ones.

        Args:
            prompt: rows (T, 1 + Q), without padding.
            n_vq: the number of codebooks that are read.
            caches: empty ones, one per layer; they hold the prompt afterwards.
            read: reads the prompt from a row up to another; the result of the last one is this one's.
            adapters: the adapters that the prompt is read with; others make other keys and values.
        """
        parts, start = held_parts(caches), 0
        if parts is None:
            return (yield from read(0, len(prompt)))
        references = self._end_of_references(prompt)
        ends = references, self._end_of_heading(prompt, references)
        for known, end in zip((self._references, self._fields), ends, strict=True):
            if end > start:
                key = adapters, n_vq, prompt[:end].tobytes()
                held = known.pop(key, None)
                if held is None:
                    yield from read(start, end)
                    held = _held(parts, start, end)
                if end <= MOST_ROWS:
                    self._keep(known, key, held)
                _pass_part(parts, start, end, held)
                start = end
        return (yield from read(start, len(prompt)))

    def _keep(self, known: OrderedDict[Hashable, Held], key: Hashable, held: Held) -> None:
        known[key] = held
        if len(known) > self._most:
            known.popitem(last=False)

    def _end_of_references(self, prompt: np.ndarray) -> int:
        """The number of rows up to the end of the last reference; other rows always follow."""
        slots = np.flatnonzero(prompt[:-1, 0] == self._slot)
        return int(slots[-1]) + 1 if len(slots) else 0

    def _end_of_heading(self, prompt: np.ndarray, start: int) -> int:
        """The number of rows up to the end of the heading; 0 if there is none, or nothing after it."""
        size, text = len(self.heading), prompt[start:-1, 0]
        if not size or len(text) < size:
            return 0
        found = (np.lib.stride_tricks.sliding_window_view(text, size) == self.heading).all(axis=1)
        return start + int(found.argmax()) + size if found.any() else 0


def read_prompts(
    forward: Callable[[mx.array], mx.array],
    prompts: np.ndarray,
    n_vq: int,
    cache: list[Cache],
    prefixes: PrefixCache | None,
    adapters: Hashable = (),
) -> Reading[mx.array]:
    """Read prompts part by part; the parts depend on the prompts alone.

    Args:
        forward: gives the hidden state (B, 1, D) of the last row; rows before are in the cache.
        prompts: their rows (B, T, 1 + Q).
        n_vq: the number of codebooks that are read.
        cache: empty caches of the layers.
        prefixes: keys and values of references that were read before; used for a single prompt.
        adapters: the adapters of a single prompt, with their weights.

    Returns:
        The hidden state (B, D) behind them.
    """

    def read(start: int, end: int) -> Reading[mx.array]:
        for first, last in parts(start, end, len(prompts)):
            hidden = forward(mx.array(prompts[:, first:last]))
            if last < end:
                mx.eval(hidden)
            yield last
        return hidden[:, 0]

    if prefixes is None or len(prompts) > 1:
        return (yield from read(0, prompts.shape[1]))
    return (yield from prefixes.read(prompts[0], n_vq, cache, read, adapters))


def _held(parts: Sequence[KVCache], start: int, end: int) -> Held:
    """Copies of what the caches hold of rows start..end."""
    # A view would keep the cache's room for later rows in memory.
    held = [(mx.contiguous(part.keys[:, :, start:end]), mx.contiguous(part.values[:, :, start:end])) for part in parts]
    mx.eval(held)
    return held


def _pass_part(parts: Sequence[KVCache], start: int, end: int, held: Held) -> None:
    """Let the caches hold the rows up to `end` and no room beyond, so that shared arrays are never written."""
    for part, (keys, values) in zip(parts, held, strict=True):
        if start:
            keys = mx.concatenate([part.keys[:, :, :start], keys], axis=2)
            values = mx.concatenate([part.values[:, :, :start], values], axis=2)
        part.keys, part.values, part.offset = keys, values, end
