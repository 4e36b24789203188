"""The loop: frames out, while the text goes in beside them.

A frame is read together with the next id of the text. While that id is not there, a request is a batch of its own: its
frame is drawn all the same, and read once the id is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from functools import partial

import mlx.core as mx
import numpy as np

from moss_tts.backbone import batched
from moss_tts.config import RealtimeConfig
from moss_tts.context.batch_cache import Cache
from moss_tts.context.prefixes import PrefixCache, read_prompts
from moss_tts.context.reading import Reading
from moss_tts.context.text_column import TextColumn
from moss_tts.realtime.network import MossTTSRealtimeNetwork
from moss_tts.rows import Prompts, RowBatch, RowRequest
from moss_tts.sampling import step_uniforms

# The step at which a code was drawn that never was; far enough from all windows.
NEVER = -(2**30)


class RealtimeBatch(RowBatch):
    """Realtime: a depth transformer draws a frame, and the backbone reads it with the next id of the text."""

    # Upstream's code keeps them here, too.
    keeps_ties = True
    _model: MossTTSRealtimeNetwork

    def __init__(
        self,
        network: MossTTSRealtimeNetwork,
        config: RealtimeConfig,
        requests: Sequence[RowRequest],
        cache: list[Cache],
        hidden: mx.array,
    ) -> None:
        self._model, self._config = network, config
        # The step at which each id of each codebook was drawn last, (B, Q, table).
        last_drawn = mx.full((len(requests), config.n_vq, config.table_size), NEVER, dtype=mx.int32)
        # Frames that were drawn of each request, and the last ones (B, Q) if they were not read.
        self._drawn = [0] * len(requests)
        self._unread: mx.array | None = None
        super().__init__(requests, cache, hidden, last_drawn)

    @classmethod
    def reading(
        cls,
        network: MossTTSRealtimeNetwork,
        config: RealtimeConfig,
        prompts: Prompts,
        requests: Sequence[RowRequest],
        prefixes: PrefixCache | None = None,
    ) -> Reading[RealtimeBatch]:
        """Read prompts part by part; the result is a batch that is ready for its first frame."""
        rows, context = prompts.input_ids, requests[0].context
        make = partial(network.backbone.make_cache, prompts.padding)
        if context is None:
            cache = make()
        else:
            cache, missing = context.take(make)
            rows = np.concatenate([missing, rows[0]])[None]
        forward = network.adapters.bound(requests, partial(network, cache=cache, last_only=True))
        kept = prefixes if cache[0].size() == 0 else None
        try:
            hidden = yield from read_prompts(forward, rows, config.n_vq, cache, kept, requests[0].adapters)
        except GeneratorExit:
            if context is not None:
                context.give_back(cache)
            raise
        return cls(network, config, requests, cache, hidden)

    def waiting(self) -> list[int]:
        """The requests that have no id for the frame that is drawn next."""
        known = zip(self.requests, self._drawn, strict=True)
        return [row for row, (request, drawn) in enumerate(known) if not _column(request).has(drawn)]

    @property
    def is_stuck(self) -> bool:
        """Whether a frame was drawn that has no id yet."""
        return self._unread is not None and not _column(self.requests[0]).has(self._drawn[0] - 1)

    def part(self, row: int) -> RealtimeBatch:
        """A request as a batch of its own."""
        if len(self.requests) == 1:
            return self
        assert self._seen is not None
        assert self._unread is None
        part = copy(self)
        part.requests, part._drawn = [self.requests[row]], [self._drawn[row]]
        part._cache = [cache.part(row) for cache in batched(self._cache)]
        part._hidden, part._steps, part._seen = (
            values[row : row + 1] for values in (self._hidden, self._steps, self._seen)
        )
        part._settle_sampling()
        return part

    def select(self, rows: Sequence[int]) -> None:
        """Keep these requests."""
        super().select(rows)
        self._drawn = [self._drawn[row] for row in rows]

    def extend(self, other: RealtimeBatch) -> None:
        """Add the requests of another batch."""
        for batch in (self, other):
            with self._model.adapters.using(batch._weights):
                batch._catch_up()
        super().extend(other)
        self._drawn += other._drawn

    def ended(self, rows: np.ndarray) -> np.ndarray:
        """Which requests have the mark of the end in codebook 0."""
        return np.asarray(rows[:, 1] == self._config.end_code)

    def _settle_sampling(self) -> None:
        super()._settle_sampling()
        most = -NEVER - 1
        windows = [min(request.sampling.window or most, most) for request in self.requests]
        self._windows = mx.array(windows, dtype=mx.int32)

    def _step(self) -> mx.array:
        self._catch_up()
        assert self._seen is not None
        steps = self._steps[:, None, None]
        seen = self._seen >= steps - self._windows[:, None, None] if self._audio.penalised else None
        uniforms = step_uniforms(self._seeds, self._steps, self._config.n_vq)
        frame = self._model.draw_frame(self._hidden, uniforms, self._audio, seen)
        if self._audio.penalised:
            drawn = frame[..., None] == mx.arange(self._config.table_size)
            self._seen = mx.where(drawn, steps, self._seen)
        self._steps = self._steps + 1
        self._unread, self._drawn = frame, [drawn + 1 for drawn in self._drawn]
        row = self._unread_row()
        if not self.is_stuck:
            self._catch_up()
        mx.async_eval(row, self._hidden)
        return row

    def _unread_row(self) -> mx.array:
        """The frame that was drawn last, with the ids beside it; padding stands for one that is not there."""
        assert self._unread is not None
        pad = self._config.text_pad_token_id
        text = [_column(request).at(drawn - 1, pad) for request, drawn in zip(self.requests, self._drawn, strict=True)]
        return mx.concatenate([mx.array(text, dtype=mx.int32)[:, None], self._unread], axis=1)

    def _catch_up(self) -> None:
        """Read the frame that was drawn last."""
        if self._unread is not None:
            self._hidden = self._model(self._unread_row()[:, None], self._cache)[:, -1]
            self._unread = None


def _column(request: RowRequest) -> TextColumn:
    """A request's text behind the prompt."""
    return TextColumn() if request.column is None else request.column
