"""The generation loops: prompts in, one row of 1 + Q channels per request and step out.

One loop per architecture. A loop sees ids only, no text, waveform or file. It issues step t + 1 before it hands
on row t, so the device never waits for the consumer, and reads one small array per step.
A consumer may stop at any time; caches belong to the loop and go with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import mlx.core as mx
import numpy as np

from moss_tts.config import DelayConfig, LocalConfig, LocalV15Config
from moss_tts.delay_model import MossTTSDelayModel
from moss_tts.inference_utils import (
    DelaySchedulerState,
    build_delay_forced_text_tokens,
    delay_audio_mask,
    delay_text_mask,
    initial_delay_state,
    update_delay_scheduler_state,
)
from moss_tts.local_model import MossTTSLocalModel
from moss_tts.local_v1_5_model import MossTTSLocalV15Model
from moss_tts.sampling import RowSampling, Sampling, mark_seen, sample, seen_in, step_uniforms


@dataclass(frozen=True)
class Prompts:
    """Packed, left-padded prompts of a batch.

    Attributes:
        input_ids: int32 (B, T, 1 + Q).
        mask: bool (B, T), False on padding.
    """

    input_ids: np.ndarray
    mask: np.ndarray

    @property
    def padding(self) -> list[int]:
        """Rows of padding before each prompt."""
        return [int(count) for count in (~self.mask).sum(axis=1)]


@dataclass(frozen=True)
class RowRequest:
    """What a loop needs to know of a request beside its prompt.

    Attributes:
        sampling: settings of its channels.
        seed: of its draws, below 2**32.
        max_frames: audio frames it may begin.
    """

    sampling: Sampling
    seed: int
    max_frames: int


@dataclass(frozen=True)
class _BatchSampling:
    """Sampling of a batch: settings per row, the history that penalties look at, and the draws."""

    text: RowSampling
    audio: RowSampling
    seeds: mx.array

    @classmethod
    def of(cls, requests: Sequence[RowRequest]) -> _BatchSampling:
        return cls(
            text=RowSampling.of([request.sampling.text for request in requests]),
            audio=RowSampling.of([request.sampling.audio for request in requests]),
            seeds=mx.array([request.seed for request in requests], dtype=mx.uint32),
        )


def delay_rows(
    model: MossTTSDelayModel, config: DelayConfig, prompts: Prompts, requests: Sequence[RowRequest]
) -> Iterator[np.ndarray]:
    """Rows (B, 1 + Q) of Delay, until every request has emitted im_end."""
    sampling = _BatchSampling.of(requests)
    cache = model.backbone.make_cache(prompts.padding)
    input_ids = mx.array(prompts.input_ids)
    seen = _pooled_seen(input_ids[..., 1:], config) if sampling.audio.penalised else None
    state = initial_delay_state(prompts.input_ids, config, [request.max_frames for request in requests])
    hidden = model(input_ids, cache)[:, -1]
    known, pending = state, None
    while True:
        text_ids = _text_candidates(known, config)
        row = _delay_row(model, config, hidden, state, sampling, text_ids, seen)
        state = update_delay_scheduler_state(state, row[:, 0], config)
        if seen is not None:
            seen = seen | _pooled_seen(row[:, None, 1:], config)
        hidden = model(row[:, None], cache)[:, -1]
        mx.async_eval(row, hidden, *state)
        if pending is not None:
            yield np.array(pending[0])
            known = pending[1]
            if np.array(known.is_stopping).all():
                return
        pending = row, state


def _text_candidates(known: DelaySchedulerState, config: DelayConfig) -> mx.array | None:
    """The text ids that the next step can sample; None is the whole vocabulary.

    `known` is one step older than the state the step starts from. A row that was inside a segment, and not at
    its audio_end, cannot be outside one step later, and inside only the two slots can be sampled.
    """
    inside = np.array(known.is_audio) & (np.array(known.delayed_lengths) < config.n_vq)
    if (inside | np.array(known.is_stopping)).all():
        return mx.array([config.audio_assistant_gen_slot_token_id, config.audio_assistant_delay_slot_token_id])
    return None


def _delay_row(
    model: MossTTSDelayModel,
    config: DelayConfig,
    hidden: mx.array,
    state: DelaySchedulerState,
    sampling: _BatchSampling,
    text_ids: mx.array | None,
    seen: mx.array | None,
) -> mx.array:
    """Sample one row (B, 1 + Q) from the last hidden states (B, D)."""
    uniforms = step_uniforms(sampling.seeds, state.steps, 1 + config.n_vq)
    logits = model.text_logits(hidden, text_ids)
    ids = mx.arange(config.vocab_size) if text_ids is None else text_ids
    logits = mx.where(delay_text_mask(state, ids, config), logits, -mx.inf)
    chosen = ids[sample(logits[:, None], uniforms[:, :1], sampling.text)[:, 0]]
    forced = build_delay_forced_text_tokens(state, config)
    text = mx.where(forced >= 0, forced, chosen)
    codes = sample(model.audio_logits(hidden), uniforms[:, 1:], sampling.audio, _per_channel(seen, config))
    codes = mx.where(delay_audio_mask(state, config.n_vq), codes, config.audio_pad_code)
    return mx.concatenate([text[:, None], codes], axis=1).astype(mx.int32)


def _pooled_seen(codes: mx.array, config: DelayConfig) -> mx.array:
    """Codes of a history (B, T, Q) as masks (B, 2, V): codebook 0, and all the others together.

    Upstream pools codebooks 1.. (and the batch; we keep rows apart), pad codes included.
    """
    seen = seen_in(codes, config.audio_pad_code + 1)
    return mx.stack([seen[:, 0], seen[:, 1:].any(axis=1)], axis=1)


def _per_channel(seen: mx.array | None, config: DelayConfig) -> mx.array | None:
    """Pooled masks (B, 2, V) spread to the codebooks (B, Q, V)."""
    if seen is None:
        return None
    return seen[:, mx.minimum(mx.arange(config.n_vq), 1)]


def local_rows(
    model: MossTTSLocalModel | MossTTSLocalV15Model,
    config: LocalConfig | LocalV15Config,
    prompts: Prompts,
    requests: Sequence[RowRequest],
    *,
    n_vq: int,
    any_text: bool = False,
) -> Iterator[np.ndarray]:
    """Rows (B, 1 + Q) of Local, until every request has emitted audio_end.

    Args:
        model: the model.
        config: its config.
        prompts: the packed batch.
        requests: one per prompt; the budget is the consumer's business, since every row is one frame.
        n_vq: codebooks to sample; the others are fed back as 0.
        any_text: sample v1.0's text channel from the whole vocabulary as upstream does, instead of between the
            gen slot and audio_end, the only tokens that mean anything there.
    """
    sampling = _BatchSampling.of([_as_penalised(request, model) for request in requests])
    slots = mx.array([config.audio_assistant_gen_slot_token_id, config.audio_end_token_id])
    cache = model.backbone.make_cache(prompts.padding)
    input_ids = mx.array(prompts.input_ids)
    seen = model.seen_in_prompt(input_ids) if sampling.audio.penalised else None
    hidden = model(input_ids, cache, n_vq)[:, -1]
    steps = mx.zeros(len(requests), dtype=mx.int32)
    ended = np.zeros(len(requests), dtype=bool)
    pending = None
    while True:
        uniforms = step_uniforms(sampling.seeds, steps, 1 + config.n_vq)
        choices = None if any_text else slots
        row = model.sample_next_channels(
            hidden, uniforms, sampling.text, sampling.audio, n_vq=n_vq, text_choices=choices, seen=seen
        )
        if seen is not None:
            seen = mark_seen(seen, row[:, 1:])
        steps = steps + 1
        hidden = model(row[:, None], cache, n_vq)[:, -1]
        mx.async_eval(row, hidden)
        if pending is not None:
            host = np.array(pending)
            yield host
            ended |= host[:, 0] == config.audio_end_token_id
            if ended.all():
                return
        pending = row


def _as_penalised(request: RowRequest, model: MossTTSLocalModel | MossTTSLocalV15Model) -> RowRequest:
    """Upstream's v1.0 skips the penalty on greedy channels, v1.5 does not."""
    audio = request.sampling.audio
    if audio.temperature > 0 or model.greedy_is_penalised:
        return request
    return replace(request, sampling=replace(request.sampling, audio=replace(audio, repetition_penalty=1.0)))
