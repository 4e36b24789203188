"""The generation loops: prompts in, one row of 1 + Q channels per request and step out.

A batch of requests in lockstep is one object per architecture: a step issues a row for each and keeps what the
next step needs. Between steps, requests may leave and others join. A loop sees ids only, no text, waveform or
file. Draws, masks, penalties and budgets are per request, so a request's rows do not depend on its neighbours.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import mlx.core as mx
import numpy as np

from moss_tts.adapters.low_rank import Adaptable, Wanted
from moss_tts.backbone import batched
from moss_tts.config import DelayConfig, LocalConfig, TiedHeadsConfig
from moss_tts.context.batch_cache import Cache
from moss_tts.context.kept import KeptContext
from moss_tts.context.prefixes import PrefixCache, read_prompts
from moss_tts.context.reading import Reading
from moss_tts.context.text_column import TextColumn
from moss_tts.delay_model import MossTTSDelayModel
from moss_tts.device.kernels import issue, on_cpu
from moss_tts.inference_utils import (
    DelaySchedulerState,
    build_delay_forced_text_tokens,
    delay_audio_mask,
    delay_text_mask,
    initial_delay_state,
    joined_states,
    pooled_seen,
    update_delay_scheduler_state,
)
from moss_tts.local_model import MossTTSLocalModel
from moss_tts.local_v1_5_model import TiedHeadsModel
from moss_tts.sampling import RowSampling, Sampling, joined_seen, mark_seen, sample, step_uniforms


@dataclass(frozen=True)
class Prompts:
    """Packed, left-padded prompts of a batch.

    Attributes:
        input_ids: int32 (B, T, 1 + Q).
        mask: bool (B, T), False on padding.
    """

    input_ids: np.ndarray
    mask: np.ndarray

    @classmethod
    def of(cls, prompt: np.ndarray, count: int = 1) -> Prompts:
        """The same prompt (T, 1 + Q) for `count` requests, which needs no padding."""
        return cls(np.repeat(prompt[None], count, axis=0), np.ones((count, len(prompt)), dtype=bool))

    @property
    def padding(self) -> list[int]:
        """Rows of padding before each prompt."""
        return [int(count) for count in (~self.mask).sum(axis=1)]


@dataclass(frozen=True)
class RowRequest:
    """What a loop needs of a request besides its prompt.

    Attributes:
        sampling: settings of its channels.
        seed: the seed of its draws, below 2**32.
        max_frames: audio frames it may begin.
        adapters: its adapters with their weights; none of these is 0.
        column: its text behind the prompt, for networks that read text while they speak; None: there is no more.
        context: the conversation that it is a turn of; None for a request of its own.
    """

    sampling: Sampling
    seed: int
    max_frames: int
    adapters: Wanted = ()
    column: TextColumn | None = None
    context: KeptContext | None = None


class RowBatch(ABC):
    """Requests generated in lockstep.

    Args:
        requests: one per row of the batch.
        cache: caches of the backbone's layers, which hold the prompts.
        hidden: (B, D) the backbone's last hidden states.
        seen: (B, ?, V) bool, tokens that penalties weaken; None while no request has a penalty.
    """

    # Whether candidates as good as the last of top_k stay beside it: upstream's code of Nano keeps them.
    keeps_ties: bool = False
    _model: Adaptable

    def __init__(
        self, requests: Sequence[RowRequest], cache: list[Cache], hidden: mx.array, seen: mx.array | None
    ) -> None:
        self.requests = list(requests)
        self._cache = cache
        self._hidden = hidden
        self._seen = seen
        self._steps = mx.zeros(len(requests), dtype=mx.int32)
        self._settle_sampling()

    def _settle_sampling(self) -> None:
        text, audio = ([getattr(request.sampling, kind) for request in self.requests] for kind in ("text", "audio"))
        self._text = RowSampling.of(text, keeps_ties=self.keeps_ties)
        self._audio = RowSampling.of(audio, keeps_ties=self.keeps_ties)
        self._seeds = mx.array([request.seed for request in self.requests], dtype=mx.uint32)
        self._weights = self._model.adapters.weights(self.requests)

    def step(self) -> mx.array:
        """Issue the next row (B, 1 + Q) of every request; it is evaluated in the background."""
        with self._model.adapters.using(self._weights):
            return self._step()

    @abstractmethod
    def _step(self) -> mx.array: ...

    @property
    def at_once(self) -> bool:
        """Whether a row is there when `step` returns, so that nothing is gained by issuing the next one first."""
        return False

    @abstractmethod
    def ended(self, rows: np.ndarray) -> np.ndarray:
        """Which requests of a step's rows (B, 1 + Q) are over: bool (B,)."""

    def waiting(self) -> list[int]:
        """The requests with text that is not there yet; only as batches of their own may they take a step."""
        return []

    @property
    def is_stuck(self) -> bool:
        """Whether the one request of a batch cannot take a step until there is more text."""
        return False

    def part(self, row: int) -> RowBatch:
        """A request as a batch of its own; `select` removes it from this one."""
        raise NotImplementedError

    @property
    def caches(self) -> list[Cache]:
        """The keys and values of its requests, one cache for each layer."""
        return self._cache

    def select(self, rows: Sequence[int]) -> None:
        """Keep these requests, in this order; those that keep their places are not copied."""
        self._cache = batched(self._cache)
        moving = [cache.moving(rows) for cache in self._cache]
        if on_cpu():
            # Until the rows are computed, other arrays hold the buffers, and writing would copy them. GPUs do not wait.
            mx.eval(moving)
        for cache, contexts in zip(self._cache, moving, strict=True):
            cache.keep(rows, contexts)
        kept = mx.array(list(rows))
        self.requests = [self.requests[row] for row in rows]
        self._hidden, self._steps = self._hidden[kept], self._steps[kept]
        self._seen = None if self._seen is None else self._seen[kept]
        self._settle_sampling()

    def extend(self, other: Any) -> None:
        """Add the requests of another batch of the same kind after the present ones."""
        self._cache = batched(self._cache)
        for cache, joining in zip(self._cache, batched(other._cache), strict=True):
            cache.extend(joining)
        self._seen = joined_seen([(part._seen, len(part.requests)) for part in (self, other)])
        self.requests += other.requests
        self._hidden = mx.concatenate([self._hidden, other._hidden])
        self._steps = mx.concatenate([self._steps, other._steps])
        self._settle_sampling()


def run(batch: RowBatch) -> Iterator[np.ndarray]:
    """Rows (B, 1 + Q), one array per step, until every request is over."""
    over = np.zeros(len(batch.requests), dtype=bool)
    for rows in endless(batch):
        yield rows
        over |= batch.ended(rows)
        if over.all():
            return


def endless(batch: RowBatch) -> Iterator[np.ndarray]:
    """Rows (B, 1 + Q), one array per step, without an end: rows that end speech are rows like others.

    Step t + 1 is issued before row t is read, so the device never waits for the consumer.
    """
    pending = batch.step()
    while True:
        following = batch.step()
        yield np.array(pending)
        pending = following


class DelayBatch(RowBatch):
    """Delay: the scheduler's state is on the device, and the host knows it one step late."""

    def __init__(
        self,
        model: MossTTSDelayModel,
        config: DelayConfig,
        prompts: Prompts,
        requests: Sequence[RowRequest],
        cache: list[Cache],
        hidden: mx.array,
    ) -> None:
        self._model, self._config = model, config
        input_ids = mx.array(prompts.input_ids)
        penalised = any(request.sampling.audio.repetition_penalty != 1 for request in requests)
        seen = pooled_seen(input_ids[..., 1:], config) if penalised else None
        super().__init__(requests, cache, hidden, seen)
        budgets = [request.max_frames for request in requests]
        self._state = self._known = initial_delay_state(prompts.input_ids, config, budgets)

    @classmethod
    def reading(
        cls,
        model: MossTTSDelayModel,
        config: DelayConfig,
        prompts: Prompts,
        requests: Sequence[RowRequest],
        prefixes: PrefixCache | None = None,
    ) -> Reading[DelayBatch]:
        """Read prompts part by part; the result is a batch that is ready for its first row."""
        cache = model.backbone.make_cache(prompts.padding)
        forward = model.adapters.bound(requests, partial(model, cache=cache, last_only=True))
        hidden = yield from read_prompts(forward, prompts.input_ids, config.n_vq, cache, prefixes, requests[0].adapters)
        return cls(model, config, prompts, requests, cache, hidden)

    def _step(self) -> mx.array:
        row, self._known = self._sample(self._text_candidates()), self._state
        issue(row)
        self._state = update_delay_scheduler_state(self._state, row[:, 0], self._config)
        self._steps = self._steps + 1
        if self._seen is not None:
            self._seen = self._seen | pooled_seen(row[:, None, 1:], self._config)
        self._hidden = self._model(row[:, None], self._cache)[:, -1]
        mx.async_eval(row, self._hidden, *self._state)
        return row

    def ended(self, rows: np.ndarray) -> np.ndarray:
        """Which requests emitted im_end."""
        return np.asarray(rows[:, 0] == self._config.im_end_token_id)

    def select(self, rows: Sequence[int]) -> None:
        """Keep these requests."""
        super().select(rows)
        kept = mx.array(list(rows))
        self._state = DelaySchedulerState(*(value[kept] for value in self._state))
        self._known = DelaySchedulerState(*(value[kept] for value in self._known))

    def extend(self, other: DelayBatch) -> None:
        """Add the requests of another batch."""
        super().extend(other)
        self._state = joined_states(self._state, other._state)
        self._known = joined_states(self._known, other._known)

    def _text_candidates(self) -> mx.array | None:
        """The text ids that this step can sample; None is the whole vocabulary.

        What is known is one step older than the state the step starts from. A row that was inside a segment,
        and not at its audio_end, cannot be outside one step later, and inside only the two slots are sampled.
        """
        config, known = self._config, self._known
        inside = np.array(known.is_audio) & (np.array(known.delayed_lengths) < config.n_vq)
        if (inside | np.array(known.is_stopping)).all():
            return mx.array([config.audio_assistant_gen_slot_token_id, config.audio_assistant_delay_slot_token_id])
        return None

    def _sample(self, text_ids: mx.array | None) -> mx.array:
        """One row (B, 1 + Q) from the last hidden states."""
        model, config, state = self._model, self._config, self._state
        uniforms = step_uniforms(self._seeds, self._steps, 1 + config.n_vq)
        ids = mx.arange(config.vocab_size) if text_ids is None else text_ids
        logits = model.text_logits(self._hidden, text_ids)
        logits = mx.where(delay_text_mask(state, ids, config), logits, -mx.inf)
        chosen = ids[sample(logits[:, None], uniforms[:, :1], self._text)[:, 0]]
        forced = build_delay_forced_text_tokens(state, config)
        text = mx.where(forced >= 0, forced, chosen)
        # Codebook 0 has its own history; the others share one.
        seen = None if self._seen is None else self._seen[:, mx.minimum(mx.arange(config.n_vq), 1)]
        codes = sample(model.audio_logits(self._hidden), uniforms[:, 1:], self._audio, seen)
        codes = mx.where(delay_audio_mask(state, config.n_vq), codes, config.audio_pad_code)
        return mx.concatenate([text[:, None], codes], axis=1).astype(mx.int32)


class LocalBatch(RowBatch):
    """Local: a depth model samples the channels of a row one after the other.

    Args:
        model: the model.
        config: its config.
        prompts: the packed batch.
        requests: one per prompt. Every row is one frame, so the reader alone counts them.
        n_vq: codebooks to sample; v1.0 feeds the others back as 0, Nano as the pad code.
        any_text: sample v1.0's text channel from the whole vocabulary as upstream does, instead of between the
            gen slot and audio_end, the only tokens that mean anything there.
    """

    def __init__(
        self,
        model: MossTTSLocalModel | TiedHeadsModel,
        config: LocalConfig | TiedHeadsConfig,
        prompts: Prompts,
        requests: Sequence[RowRequest],
        cache: list[Cache],
        hidden: mx.array,
        *,
        n_vq: int,
        any_text: bool = False,
    ) -> None:
        self._model, self._config, self._n_vq = model, config, n_vq
        self.keeps_ties = model.keeps_ties
        slots = mx.array([config.audio_assistant_gen_slot_token_id, config.audio_end_token_id])
        self._text_choices = None if any_text else slots
        self._unread: mx.array | None = None
        # Upstream's v1.0 skips the penalty on greedy channels, the others do not.
        if not model.greedy_is_penalised:
            requests = [replace(request, sampling=request.sampling.without_greedy_penalty()) for request in requests]
        penalised = any(request.sampling.audio.repetition_penalty != 1 for request in requests)
        seen = model.seen_in_prompt(mx.array(prompts.input_ids)) if penalised else None
        if isinstance(model, TiedHeadsModel) and model.settle(slots):
            cache = batched(cache)
        super().__init__(requests, cache, hidden, seen)

    @classmethod
    def reading(
        cls,
        model: MossTTSLocalModel | TiedHeadsModel,
        config: LocalConfig | TiedHeadsConfig,
        prompts: Prompts,
        requests: Sequence[RowRequest],
        *,
        n_vq: int,
        any_text: bool = False,
        prefixes: PrefixCache | None = None,
    ) -> Reading[LocalBatch]:
        """Read prompts part by part; the result is a batch that is ready for its first row."""
        cache = model.backbone.make_cache(prompts.padding)
        forward = model.adapters.bound(requests, partial(model, cache=cache, n_vq=n_vq, last_only=True))
        hidden = yield from read_prompts(forward, prompts.input_ids, n_vq, cache, prefixes, requests[0].adapters)
        return cls(model, config, prompts, requests, cache, hidden, n_vq=n_vq, any_text=any_text)

    def select(self, rows: Sequence[int]) -> None:
        """Keep these requests."""
        self._catch_up()
        super().select(rows)

    def extend(self, other: LocalBatch) -> None:
        """Add the requests of another batch."""
        self._catch_up()
        other._catch_up()
        super().extend(other)

    def _step(self) -> mx.array:
        self._catch_up()
        row = self._model.sample_next_channels(
            self._hidden,
            step_uniforms(self._seeds, self._steps, 1 + self._config.n_vq),
            self._text,
            self._audio,
            n_vq=self._n_vq,
            text_choices=self._text_choices,
            seen=self._seen,
        )
        if self._seen is not None:
            self._seen = mark_seen(self._seen, row[:, 1:])
        self._steps = self._steps + 1
        self._unread = row
        if not self.at_once:
            self._catch_up()
            mx.async_eval(row, self._hidden)
        return row

    def _catch_up(self) -> None:
        """Read the row that was drawn last. One that C drew is spoken before that, for reading takes as long again."""
        if self._unread is not None:
            self._hidden = self._model(self._unread[:, None], self._cache, self._n_vq)[:, -1]
            self._unread = None

    @property
    def at_once(self) -> bool:
        """True where C draws the codes, which it does for requests without adapters."""
        return self._weights is None and isinstance(self._model, TiedHeadsModel) and self._model.draws_in_c

    def ended(self, rows: np.ndarray) -> np.ndarray:
        """Which requests emitted audio_end."""
        return np.asarray(rows[:, 0] == self._config.audio_end_token_id)
