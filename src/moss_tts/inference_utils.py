"""The scheduler of the delay pattern: which text tokens are forced, which channels are sampled.

A frozen state per row of the batch and one pure transition. States are device arrays, so that a step can be
issued before the previous one has been looked at. Rules are those of upstream's `generate`; the frame
budget is ours.
"""

from __future__ import annotations

from typing import NamedTuple

import mlx.core as mx
import numpy as np

from moss_tts.config import DelayConfig
from moss_tts.sampling import seen_in

INACTIVE = -1
SAMPLE = -1


class DelaySchedulerState(NamedTuple):
    """Where each of B rows stands.

    Attributes:
        is_stopping: bool (B,), im_end has been emitted.
        is_audio: bool (B,), inside an audio segment.
        audio_lengths: int32 (B,), rows of the segment so far: channel c is open once it exceeds c.
        delayed_lengths: int32 (B,), delay slots so far; -1 while the segment is not being closed.
        steps: int32 (B,), steps taken.
        frames_left: int32 (B,), frames that the budget still allows to begin.
    """

    is_stopping: mx.array
    is_audio: mx.array
    audio_lengths: mx.array
    delayed_lengths: mx.array
    steps: mx.array
    frames_left: mx.array


def initial_delay_state(input_ids: np.ndarray, config: DelayConfig, frame_budgets: list[int]) -> DelaySchedulerState:
    """State after prompts (B, T, 1 + Q): inside a segment iff they end on audio_start or on a gen slot."""
    text = input_ids[..., 0]
    starts = text == config.audio_start_token_id
    last_start = text.shape[1] - 1 - np.argmax(starts[:, ::-1], axis=1)
    resumes = np.isin(text[:, -1], (config.audio_start_token_id, config.audio_assistant_gen_slot_token_id))
    is_audio = resumes & starts.any(axis=1)
    lengths = np.where(is_audio, text.shape[1] - last_start, 0)
    batch = text.shape[0]
    return DelaySchedulerState(
        is_stopping=mx.zeros(batch, dtype=mx.bool_),
        is_audio=mx.array(is_audio),
        audio_lengths=mx.array(lengths.astype(np.int32)),
        delayed_lengths=mx.full(batch, INACTIVE, dtype=mx.int32),
        steps=mx.zeros(batch, dtype=mx.int32),
        frames_left=mx.array(frame_budgets, dtype=mx.int32),
    )


def build_delay_forced_text_tokens(state: DelaySchedulerState, config: DelayConfig) -> mx.array:
    """Text tokens (B,) that are not for the model to choose; -1 where it chooses.

    A segment being closed runs through its delay slots to audio_end; a stopped row emits pad. The budget
    closes a segment with its last frame, and ends the row once there is no segment left to close.
    """
    delayed, n_vq = state.delayed_lengths, config.n_vq
    closing = delayed >= 0
    last_frame = state.is_audio & ~closing & (state.frames_left <= 1)
    spent = ~state.is_audio & (state.frames_left <= 0)
    forced = mx.where(last_frame, config.audio_assistant_delay_slot_token_id, SAMPLE)
    forced = mx.where(spent, config.im_end_token_id, forced)
    forced = mx.where(closing, config.audio_assistant_delay_slot_token_id, forced)
    forced = mx.where(delayed == n_vq, config.audio_end_token_id, forced)
    return mx.where(state.is_stopping, config.pad_token_id, forced)


def delay_text_mask(state: DelaySchedulerState, tokens: mx.array, config: DelayConfig) -> mx.array:
    """Which of the text ids `tokens` (K,) each row may sample: bool (B, K)."""
    gen, delay = config.audio_assistant_gen_slot_token_id, config.audio_assistant_delay_slot_token_id
    slot = (tokens == gen) | (tokens == delay)
    outside = ~slot & (tokens != config.pad_token_id) & (tokens != config.audio_end_token_id)
    allowed = mx.where(state.is_audio[:, None], slot, outside)
    first = state.steps[:, None] == 0
    early = state.steps[:, None] <= config.n_vq
    return allowed & ~(first & (tokens == delay)) & ~(early & (tokens == config.im_end_token_id))


def delay_audio_mask(state: DelaySchedulerState, n_vq: int) -> mx.array:
    """Which codebooks each row samples at this step: bool (B, Q)."""
    channel = mx.arange(n_vq)
    opened = state.audio_lengths[:, None] > channel
    # channel > delayed - 1 holds for every channel while the delay is inactive (-1).
    still_open = channel > state.delayed_lengths[:, None] - 1
    return opened & still_open & ~state.is_stopping[:, None]


def update_delay_scheduler_state(
    state: DelaySchedulerState, text: mx.array, config: DelayConfig
) -> DelaySchedulerState:
    """The state after the text tokens (B,) of a step."""
    gen, delay = config.audio_assistant_gen_slot_token_id, config.audio_assistant_delay_slot_token_id
    starts, ends = text == config.audio_start_token_id, text == config.audio_end_token_id
    grows = starts | (text == gen) | (text == delay)
    began_frame = delay_audio_mask(state, 1)[:, 0]
    active = state.delayed_lengths >= 0
    delayed = mx.where(active | (text == delay), mx.maximum(state.delayed_lengths, 0) + 1, INACTIVE)
    return DelaySchedulerState(
        is_stopping=state.is_stopping | (text == config.im_end_token_id),
        is_audio=(state.is_audio & ~ends) | starts,
        audio_lengths=mx.where(ends, 0, state.audio_lengths + grows),
        delayed_lengths=mx.where(delayed > config.n_vq, INACTIVE, delayed),
        steps=state.steps + 1,
        frames_left=state.frames_left - began_frame,
    )


def extract_complete_delay_rows(rows: np.ndarray) -> np.ndarray:
    """Frames that are complete: frame t is once row t + Q - 1 exists.

    Args:
        rows: (N, Q) delayed codes of one segment.

    Returns:
        (max(0, N - Q + 1), Q) codes.
    """
    n_vq = rows.shape[1]
    complete = max(0, rows.shape[0] - n_vq + 1)
    return np.stack([rows[channel : channel + complete, channel] for channel in range(n_vq)], axis=1)


def joined_states(state: DelaySchedulerState, other: DelaySchedulerState) -> DelaySchedulerState:
    """The states of two batches as one."""
    return DelaySchedulerState(*(mx.concatenate(list(pair)) for pair in zip(state, other, strict=True)))


def pooled_seen(codes: mx.array, config: DelayConfig) -> mx.array:
    """Codes of a history (B, T, Q) as masks (B, 2, V): codebook 0, and all the others together.

    Upstream pools codebooks 1.. (and the batch; we keep rows apart), pad codes included.
    """
    seen = seen_in(codes, config.audio_pad_code + 1)
    return mx.stack([seen[:, 0], seen[:, 1:].any(axis=1)], axis=1)
