"""What `generate` and `say` return: audio, and figures of how it was made."""

from __future__ import annotations

import base64
import html
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from moss_tts.atomic import expanded
from moss_tts.audio.files import AudioFormat, encode_audio, write_audio
from moss_tts.audio.marking import mark_of
from moss_tts.device.memory import size
from moss_tts.frames import FinishReason
from moss_tts.long_form import SegmentMetrics
from moss_tts.subtitles.cues import Cue
from moss_tts.subtitles.formats import clock, write_subtitles
from moss_tts.text.harmless import one_line


@dataclass(frozen=True)
class GenerationResult:
    """One chunk of audio, or all of it. Field names are mlx-audio's, plus `finish_reason`.

    Attributes:
        audio: float32 (S,), or (S, 2) from a stereo codec.
        samples: S.
        sample_rate: the sample rate, in Hz.
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
        seed: the seed of the request; the same seed gives the same audio.
        cues: the segments that are complete with this result, with their times in the whole audio. In a stream, that is
            known of a segment when the next one begins.
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
    cues: tuple[Cue, ...] = ()

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
        cues: tuple[Cue, ...] = (),
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
            cues=cues,
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


@dataclass(frozen=True)
class Timings:
    """What it took to make a speech.

    Attributes:
        seconds: seconds of computing, from the request to the last sample.
        real_time_factor: seconds of audio per second of computing.
        frames: frames of codes that were generated.
        prompt_rows: rows of the prompt.
        peak_memory: bytes that MLX held at most.
    """

    seconds: float
    real_time_factor: float
    frames: int
    prompt_rows: int
    peak_memory: int


@dataclass(frozen=True, eq=False)
class Speech:
    """A text that was spoken, whole. NumPy takes it as its audio, a notebook shows it as a player.

    Attributes:
        audio: float32 (S,), or (S, 2) from a stereo codec.
        sample_rate: the sample rate, in Hz.
        text: what was spoken; None where another field carried the prompt.
        seed: the same seed gives the same audio.
        finish_reason: "stop", or what cut the speech short: "length", "silence" or "cancelled".
        timings: what it took.
        segments: the metrics of a long text, one entry per segment; else empty.
        cues: each segment with its times, as subtitles need them.
        model: the name of the model that spoke; files say it.
    """

    audio: np.ndarray = field(repr=False)
    sample_rate: int
    text: str | None
    seed: int
    finish_reason: FinishReason
    timings: Timings
    segments: tuple[SegmentMetrics, ...] = field(default=(), repr=False)
    cues: tuple[Cue, ...] = field(default=(), repr=False)
    model: str = field(default="", repr=False)

    @classmethod
    def of(
        cls,
        result: GenerationResult,
        text: str | None = None,
        segments: tuple[SegmentMetrics, ...] = (),
        model: str = "",
    ) -> Speech:
        """A speech from the one result of a request without `stream`."""
        assert result.finish_reason is not None
        timings = Timings(
            result.processing_time_seconds,
            result.real_time_factor,
            result.token_count,
            int(result.prompt["tokens"]),
            round(1e9 * result.peak_memory_usage),
        )
        told = result.seed, result.finish_reason, timings, segments, result.cues
        return cls(result.audio, result.sample_rate, text, *told, model)

    @property
    def seconds(self) -> float:
        """Length of the audio."""
        return len(self.audio) / self.sample_rate

    def save(self, path: str | os.PathLike[str], *, mark: bool = True) -> Path:
        """Write the audio as .wav, .flac, .mp3 or .ogg: all of the file, or none of it.

        Args:
            path: the file.
            mark: whether the file says that it is synthetic, and what made it.

        Raises:
            AudioError: another suffix, or a place that cannot be written to.
        """
        return write_audio(path, self, mark=mark and mark_of(self.model))

    def write_subtitles(self, path: str | os.PathLike[str]) -> Path:
        """Write the times of its segments as .srt, .vtt, .lrc or .json: all of the file, or none of it.

        Raises:
            RequestError: another suffix, or a place that cannot be written to.
        """
        file = expanded(path)
        write_subtitles(file, self.cues)
        return file

    def encode(self, format: AudioFormat = "wav", *, mark: bool = True) -> bytes:
        """The content of an audio file, for programs that send it on; `mark` as in `save`."""
        return encode_audio(self.audio, self.sample_rate, f".{format}", mark_of(self.model) if mark else None)

    def play(self) -> None:
        """Play the audio with a player of this machine, to its end.

        Raises:
            AudioError: there is no player, or it fails.
        """
        from moss_tts.audio.live_output import send_on  # what plays is not needed for speech
        from moss_tts.audio.players import find_player

        for _ in send_on([self], [find_player()]):
            pass

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.audio, dtype=dtype, copy=copy)

    def __len__(self) -> int:
        return len(self.audio)

    def __repr__(self) -> str:
        text = "" if self.text is None else f" {one_line(self.text)!r}"
        return f"<Speech{text}: {self.seconds:.2f} s at {self.sample_rate} Hz, {self.finish_reason}, seed {self.seed}>"

    def _repr_html_(self) -> str:
        data = base64.b64encode(self.encode("flac")).decode()
        return (
            f'<audio controls src="data:audio/flac;base64,{data}"></audio><br><small>{html.escape(repr(self))}</small>'
        )
