"""Voices that speak again: keys and values of a prompt up to the end of its references, kept for the next request.

References stand at the head of every prompt, before all that differs between two requests in the same voice. A few
are kept, those used last; what a request gets of them is what reading them again would give.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import mlx.core as mx
import numpy as np

from moss_tts.backbone import Cache
from moss_tts.quantised_cache import held_parts

# A reference of ten seconds takes 16 to 22 MB in the released models.
MOST_PREFIXES = 4


class PrefixCache:
    """Keys and values of references.

    Args:
        slot: text id of the rows that carry a reference.
        most: how many are kept; 0 keeps none.
    """

    def __init__(self, slot: int, most: int = MOST_PREFIXES) -> None:
        self._slot, self._most = slot, most
        self._known: OrderedDict[bytes, list[tuple[mx.array, mx.array]]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def clear(self) -> None:
        """Forget them all."""
        self._known.clear()

    def read(
        self, prompt: np.ndarray, n_vq: int, caches: Sequence[Cache], read: Callable[[int, int], mx.array]
    ) -> mx.array:
        """Read a prompt, but for what is known of it.

        A reference is read by itself whether it is known or not: products of other shapes differ in their last
        bits, and what a request says must not depend on what was said before it.

        Args:
            prompt: rows (T, 1 + Q), without padding.
            n_vq: codebooks that are read of it.
            caches: empty ones, one per layer; they hold the prompt afterwards.
            read: reads the prompt from a row up to another; the result of the last one is this one's.
        """
        end = self._end_of_references(prompt)
        parts = held_parts(caches)
        if not end or parts is None:
            return read(0, len(prompt))
        key = bytes([n_vq]) + prompt[:end].tobytes()
        known = self._known.pop(key, None)
        if known is None:
            read(0, end)
            # Copies: a view would keep the room that a cache holds for what follows.
            known = [(mx.contiguous(c.keys[:, :, :end]), mx.contiguous(c.values[:, :, :end])) for c in parts]
            mx.eval(known)
        self._known[key] = known
        if len(self._known) > self._most:
            self._known.popitem(last=False)
        # They are full, so that what follows goes to new room and never into what is shared.
        for cache, (keys, values) in zip(parts, known, strict=True):
            cache.keys, cache.values, cache.offset = keys, values, end
        return read(end, len(prompt))

    def _end_of_references(self, prompt: np.ndarray) -> int:
        """Rows up to the last one of a reference; something always follows it."""
        slots = np.flatnonzero(prompt[:-1, 0] == self._slot)
        return int(slots[-1]) + 1 if len(slots) else 0
