"""The options of `Model.generate`, as a type checker sees them. Their checks are options.py's."""

from __future__ import annotations

from typing import Any, TypedDict


class GenerateOptions(TypedDict, total=False):
    """The named options of `Model.generate`; None is the same as not given.

    What to speak: text, language, tokens | duration_s | seconds (length), quality, sound_event, ambient_sound,
    scene, conversation, normalize_text. Voice: voice (a registered one) | ref_audio | reference, ref_text,
    instruct | instruction, dialogue_speakers, mode ("generation" | "continuation"), preset. Sampling: temperature,
    top_p, top_k and repetition_penalty (audio channels; also as audio_*), text_* for the text channel, seed,
    n_vq_for_inference, max_tokens (frames of 80 ms), runaway_guard. Output: stream, streaming_interval (seconds),
    verbose. Long texts: long_form and its long_form_* options.
    """

    voice: Any
    ref_audio: Any
    reference: Any
    ref_text: str | None
    instruct: str | None
    instruction: str | None
    language: str | None
    tokens: int | None
    duration_s: float | None
    seconds: float | None
    quality: str | None
    sound_event: str | None
    ambient_sound: str | None
    scene: str | None
    preset: str | None
    mode: str | None
    conversation: Any
    dialogue_speakers: Any
    normalize_text: bool | None
    n_vq_for_inference: int | None
    temperature: float | None
    top_p: float | None
    top_k: int | None
    repetition_penalty: float | None
    audio_temperature: float | None
    audio_top_p: float | None
    audio_top_k: int | None
    audio_repetition_penalty: float | None
    text_temperature: float | None
    text_top_p: float | None
    text_top_k: int | None
    text_repetition_penalty: float | None
    seed: int | None
    max_tokens: int | None
    stream: bool | None
    streaming_interval: float | None
    runaway_guard: bool | None
    verbose: bool | None
    long_form: bool | None
    long_form_min_chars: int | None
    long_form_target_chars: int | None
    long_form_max_chars: int | None
    long_form_prefix_audio_seconds: float | None
    long_form_prefix_audio_max_tokens: int | None
    long_form_prefix_text_chars: int | None
    long_form_retry_attempts: int | None
    long_form_continuity: str | None
    long_form_crossfade_ms: float | None
    long_form_trim_silence: bool | None
    long_form_parallel: int | None
