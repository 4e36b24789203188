"""What generate hands out: audio with what it took to make it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moss_tts.device.memory import size
from moss_tts.frames import FinishReason


@dataclass(frozen=True)
class GenerationResult:
    """One chunk of audio, or all of it. Field names are mlx-audio's, plus `finish_reason`.

    Attributes:
        audio: float32 (S,), or (S, 2) from a stereo codec.
        samples: S.
        sample_rate: in Hz.
        segment_idx: number of the text segment in long form, else 0.
        token_count: audio frames in this result.
        audio_duration: "HH:MM:SS.mmm" of this result.
        real_time_factor: audio seconds per second of compute.
        prompt: {"tokens": rows of the prompt, "tokens-per-sec": frames made per second}.
        audio_samples: {"samples": S, "samples-per-sec": samples made per second}.
        processing_time_seconds: since the previous chunk, or since the start.
        peak_memory_usage: GB.
        is_streaming_chunk: made with stream=True.
        is_final_chunk: nothing follows.
        finish_reason: "stop", "length" (a budget), "silence" (the runaway guard) or "cancelled" on the final
            chunk; None before it.
        seed: of the request; the same seed gives the same audio.
    """

    audio: np.ndarray
    samples: int
    sample_rate: int
    segment_idx: int
    token_count: int
    audio_duration: str
    real_time_factor: float
    prompt: dict[str, float]
    audio_samples: dict[str, float]
    processing_time_seconds: float
    peak_memory_usage: float
    is_streaming_chunk: bool
    is_final_chunk: bool
    finish_reason: FinishReason | None
    seed: int

    @classmethod
    def of(
        cls,
        audio: np.ndarray,
        *,
        sample_rate: int,
        frames: int,
        prompt_rows: int,
        seconds: float,
        peak_memory: int,
        streaming: bool,
        finish_reason: FinishReason | None,
        seed: int,
        segment_idx: int = 0,
    ) -> GenerationResult:
        """Derive the figures from a chunk (S,) or (S, C), its frames and the seconds it took."""
        samples = len(audio)
        duration = samples / sample_rate
        seconds = max(seconds, 1e-9)
        return cls(
            audio=audio,
            samples=samples,
            sample_rate=sample_rate,
            segment_idx=segment_idx,
            token_count=frames,
            audio_duration=clock(duration),
            real_time_factor=duration / seconds,
            prompt={"tokens": prompt_rows, "tokens-per-sec": frames / seconds},
            audio_samples={"samples": samples, "samples-per-sec": samples / seconds},
            processing_time_seconds=seconds,
            peak_memory_usage=peak_memory / 1e9,
            is_streaming_chunk=streaming,
            is_final_chunk=finish_reason is not None,
            finish_reason=finish_reason,
            seed=seed,
        )

    @property
    def figures(self) -> str:
        """One line for people: how much audio this is, how fast it was made, and with which seed."""
        return (
            f"segment {self.segment_idx}: {self.token_count} frames, "
            f"{self.samples / self.sample_rate:.2f} s of audio in {self.processing_time_seconds:.2f} s "
            f"({self.real_time_factor:.1f} x real time), prompt {self.prompt['tokens']} rows, "
            f"peak memory {size(1e9 * self.peak_memory_usage)}, seed {self.seed}"
        )


def clock(seconds: float) -> str:
    """Seconds as HH:MM:SS.mmm."""
    milliseconds = round(seconds * 1000)
    hours, rest = divmod(milliseconds, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return f"{hours:02d}:{minutes:02d}:{rest // 1000:02d}.{rest % 1000:03d}"
