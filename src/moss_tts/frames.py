"""Frames of audio codes, made from rows: what the loops emit, read as complete frames in the order of speech.

One reader per architecture and request. It knows the prompt's own frames (a continuation), where audio segments
begin, and when and why the request is over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from moss_tts.config import DelayConfig, LocalConfig, RealtimeConfig, TiedHeadsConfig
from moss_tts.inference_utils import extract_complete_delay_rows

FinishReason = Literal["stop", "length", "silence", "cancelled"]


@dataclass(frozen=True)
class Frames:
    """Complete frames of one audio segment.

    Attributes:
        codes: int32 (F, Q).
        segment: number of the audio segment; the codec starts afresh with each.
        context: whether the frames are the prompt's; only the codec needs those.
    """

    codes: np.ndarray
    segment: int = 0
    context: bool = False


class FrameReader(Protocol):
    """Reads one request's rows."""

    finish_reason: FinishReason | None

    def start(self) -> list[Frames]:
        """Frames that the prompt holds already."""
        ...

    def push(self, row: np.ndarray) -> list[Frames]:
        """Frames that the row (1 + Q,) completes; sets `finish_reason` with the last one."""
        ...


# Rows outside audio that a Delay request may take: a model that never speaks has to end as well.
MAX_IDLE_ROWS = 512


class DelayFrameReader:
    """Undoes the delay pattern as rows arrive.

    Args:
        prompt: rows (T, 1 + Q) of the prompt, without padding.
        config: the config of the model.
        max_frames: the budget of the request.
    """

    def __init__(self, prompt: np.ndarray, config: DelayConfig, max_frames: int) -> None:
        self.finish_reason: FinishReason | None = None
        self._config = config
        self._frames_left = max_frames
        self._idle_left = MAX_IDLE_ROWS
        self._segment = 0
        # Rows of the open segment that have no complete frame yet.
        self._rows = _open_segment(prompt, config)
        self._context_left = len(self._rows)

    def start(self) -> list[Frames]:
        """The prompt's frames complete only together with the rows that follow."""
        return []

    def push(self, row: np.ndarray) -> list[Frames]:
        """Frames that the row completes."""
        text, codes = int(row[0]), row[1:]
        sampled = codes != self._config.audio_pad_code
        self._frames_left -= int(sampled[0])
        frames = self._take(codes) if sampled.any() else []
        self._idle_left -= int(not sampled.any())
        if text == self._config.audio_end_token_id:
            self._segment += 1
            self._rows = self._rows[:0]
            self._context_left = 0
        if text == self._config.im_end_token_id or self._idle_left <= 0:
            self.finish_reason = "length" if min(self._frames_left, self._idle_left) <= 0 else "stop"
        return frames

    def _take(self, codes: np.ndarray) -> list[Frames]:
        self._rows = np.concatenate([self._rows, codes[None]])
        complete = extract_complete_delay_rows(self._rows)
        self._rows = self._rows[len(complete) :]
        split = min(self._context_left, len(complete))
        self._context_left -= split
        parts = [Frames(complete[:split], self._segment, context=True), Frames(complete[split:], self._segment)]
        return [part for part in parts if len(part.codes)]


def _open_segment(prompt: np.ndarray, config: DelayConfig) -> np.ndarray:
    """Delayed codes (N, Q) of the audio segment that the prompt leaves open, none where it has no rows."""
    gen = config.audio_assistant_gen_slot_token_id
    if prompt[-1, 0] != gen:
        return prompt[:0, 1:]
    start = np.flatnonzero(prompt[:, 0] == config.audio_start_token_id)[-1]
    return prompt[start + 1 :, 1:]


class LocalFrameReader:
    """Every row with a gen slot is a frame.

    Args:
        prompt: rows (T, 1 + Q) of the prompt, without padding.
        config: the config of the model.
        max_frames: frames after which the request ends.
        n_vq: codebooks in use.
    """

    def __init__(self, prompt: np.ndarray, config: LocalConfig | TiedHeadsConfig, max_frames: int, n_vq: int) -> None:
        self.finish_reason: FinishReason | None = None
        self._config = config
        self._left = max_frames
        self._n_vq = n_vq
        starts = np.flatnonzero(prompt[:, 0] == config.audio_start_token_id)
        self._context = prompt[starts[-1] + 1 :, 1 : 1 + n_vq] if len(starts) else prompt[:0, 1 : 1 + n_vq]

    def start(self) -> list[Frames]:
        """The frames that a continuation's prompt ends with."""
        return [Frames(self._context, context=True)] if len(self._context) else []

    def push(self, row: np.ndarray) -> list[Frames]:
        """The row's frame; the row that carries audio_end has codes too, but they are not audio."""
        if row[0] != self._config.audio_assistant_gen_slot_token_id:
            self.finish_reason = "stop"
            return []
        self._left -= 1
        if self._left <= 0:
            self.finish_reason = "length"
        return [Frames(row[None, 1 : 1 + self._n_vq])]


class RealtimeFrameReader:
    """Every row is a frame, up to the mark of the end.

    Args:
        config: the config of the model.
        max_frames: frames after which the request ends.
    """

    def __init__(self, config: RealtimeConfig, max_frames: int) -> None:
        self.finish_reason: FinishReason | None = None
        self._end, self._left = config.end_code, max_frames

    def start(self) -> list[Frames]:
        """The codec starts afresh with each turn."""
        return []

    def push(self, row: np.ndarray) -> list[Frames]:
        """The row's frame; the one with the mark is none."""
        if row[1] == self._end:
            self.finish_reason = "stop"
            return []
        self._left -= 1
        if self._left <= 0:
            self.finish_reason = "length"
        return [Frames(row[None, 1:])]
