"""What holds for every architecture that generates: one runner, called with each architecture's tiny model.

The slow path beside it makes rows, frames and sound one after the other, with nothing overlapped, chunked or
streamed, and so says what `Model.generate` has to return.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from moss_tts.errors import AudioError, RequestError, UnknownOptionError
from moss_tts.evidence.laws import MODEL_LAWS, TEXT, reference, speak, talkative
from moss_tts.model import Model
from moss_tts.processor import build_user_message
from moss_tts.request import resolve_generation_request
from moss_tts.rows import Prompts, RowRequest, run
from moss_tts.sampling import ChannelSampling, Sampling

TOLERANCE = 1e-4


def followed(model: Model, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options without those that the model's prompt has no place for."""
    return {name: value for name, value in options.items() if name not in model.preset.no_place_for}


def slow_frames(model: Model, **options: Any) -> list[Any]:
    """Frames of a request, straight from the row loop."""
    asked = {"text": TEXT, "seed": 1, "max_tokens": 12} | options
    request = resolve_generation_request(asked, model.preset)
    ids, mask = model.processor.prepare_generation_inputs(list(request.messages), request.mode, request.preset.template)
    n_vq = model.architecture.resolve_n_vq(request.n_vq_for_inference)
    row_request = RowRequest(request.sampling, asked["seed"], request.effective_max_tokens)
    reader = model.architecture.reader(np.array(ids)[0], row_request.max_frames, n_vq)
    frames = reader.start()
    for row in run(model.architecture.batch(Prompts(np.array(ids), np.array(mask)), [row_request], n_vq)):
        frames += reader.push(row[0])
        if reader.finish_reason is not None:
            break
    return frames


def slow_audio(model: Model, **options: Any) -> np.ndarray:
    """The same request's sound: each audio segment decoded whole, the prompt's part cut off its front."""
    frames, codec = slow_frames(model, **options), model.codec()
    pieces = []
    for segment in sorted({part.segment for part in frames}):
        parts = [part for part in frames if part.segment == segment]
        skipped = sum(len(part.codes) for part in parts if part.context)
        audio = codec.decode(np.concatenate([part.codes for part in parts]).T).audio[0]
        pieces.append(np.array(audio)[:, skipped * codec.config.downsample_rate :])
    audio = np.concatenate(pieces, axis=1)
    return audio[0] if len(audio) == 1 else audio.T


def close(made: np.ndarray, wanted: np.ndarray) -> None:
    assert made.shape == wanted.shape
    np.testing.assert_allclose(made, wanted, atol=TOLERANCE, rtol=0)


# ---------------------------------------------------------------------------------------------------- laws


def check_fields(model: Model) -> None:
    """Every field has its type, and figures that follow from others do."""
    result = speak(model)
    codec = model.codec().config
    assert result.audio.dtype == np.float32
    assert result.audio.shape[0] == result.samples == result.token_count * codec.downsample_rate
    assert result.audio.shape[1:] == (() if codec.channels == 1 else (codec.channels,))
    assert np.isfinite(result.audio).all()
    assert result.sample_rate == model.sample_rate == model.config.sampling_rate
    assert (result.segment_idx, result.is_streaming_chunk, result.is_final_chunk) == (0, False, True)
    assert result.finish_reason in ("stop", "length")
    hours, minutes, seconds = re.fullmatch(r"(\d\d):(\d\d):(\d\d\.\d{3})", result.audio_duration).groups()
    duration = result.samples / result.sample_rate
    assert int(hours) * 3600 + int(minutes) * 60 + float(seconds) == pytest.approx(duration, abs=6e-4)
    assert result.processing_time_seconds > 0
    assert result.real_time_factor == pytest.approx(duration / result.processing_time_seconds)
    assert result.audio_samples == {
        "samples": result.samples,
        "samples-per-sec": pytest.approx(result.samples / result.processing_time_seconds),
    }
    assert result.prompt["tokens-per-sec"] == pytest.approx(result.token_count / result.processing_time_seconds)
    assert 0 < result.peak_memory_usage < 100
    assert dataclasses.is_dataclass(result)


def check_prompt_length(model: Model) -> None:
    """prompt["tokens"] is the prompt's length, references and all."""
    for options in ({}, {"reference": reference(model, 9)}, {"language": "French"}):
        request = resolve_generation_request({"text": TEXT} | options, model.preset)
        ids, _ = model.processor.prepare_generation_inputs(
            list(request.messages), request.mode, request.preset.template
        )
        assert speak(model, max_tokens=1, **options).prompt["tokens"] == ids.shape[1]


def check_sound_is_the_frames(model: Model) -> None:
    """Audio is what the codec makes of the frames that the loop made."""
    for options in ({}, {"seed": 2, "temperature": 0.3, "reference": reference(model, 7)}):
        close(speak(model, **options).audio, slow_audio(model, **options))


def check_sampling_options_reach_the_model(model: Model) -> None:
    """Each of these changes the sound of a fixed seed."""
    plain = speak(model).audio
    for options in ({"temperature": 0.4}, {"top_k": 1}, {"top_p": 0.05}, {"audio_repetition_penalty": 3.0}):
        assert not np.array_equal(speak(model, **options).audio, plain), options


def check_prompt_options_reach_the_model(model: Model) -> None:
    """Each of these makes the prompt longer or shorter."""
    plain = speak(model, max_tokens=1).prompt["tokens"]
    for options in (
        {"language": "French"},
        {"instruction": "Whisper."},
        {"instruct": "Whisper."},
        {"quality": "studio"},
        {"sound_event": "rain."},
        {"ambient_sound": "street"},
        {"tokens": 9},
        {"reference": reference(model, 5)},
        {"ref_text": "What was said."},
    ):
        assert speak(model, max_tokens=1, **options).prompt["tokens"] != plain, options


def check_budget(model: Model) -> None:
    """max_tokens counts frames: that many are returned, all of them complete, and the result says so."""
    seed = talkative(model)
    for budget in (1, 5):
        result = speak(model, seed=seed, max_tokens=budget)
        assert (result.token_count, result.finish_reason) == (budget, "length")
    ended = speak(model, seed=seed, max_tokens=400)
    assert ended.finish_reason == "stop"
    assert 31 < ended.token_count < 400


def check_length_asked_for(model: Model) -> None:
    """Duration control: a budget of half as much again and two seconds, unless max_tokens is smaller."""
    seed = talkative(model)
    assert speak(model, seed=seed, max_tokens=None, tokens=2).token_count <= 28
    assert speak(model, seed=seed, max_tokens=None, seconds=0.1).token_count <= 28
    assert speak(model, seed=seed, max_tokens=3, tokens=2).token_count <= 3


def check_references(model: Model) -> None:
    """Codes stand for the recording they were encoded from, whichever way they lie and however they are given."""
    codec = model.codec()
    noise = np.random.default_rng(3).standard_normal((codec.config.channels, 12 * codec.config.downsample_rate))
    recording = (0.1 * noise).astype(np.float32)
    codes = model.processor.encode_audio([recording])[0]
    assert codes.shape == (12, model.config.n_vq)
    heard = speak(model, reference=recording, max_tokens=6)
    for given in (codes.T, [mx.array(codes)]):
        close(speak(model, reference=given, max_tokens=6).audio, heard.audio)
    close(speak(model, ref_audio=codes, max_tokens=6).audio, heard.audio)
    twice = speak(model, reference=[codes, None, recording], max_tokens=1)
    assert twice.prompt["tokens"] > heard.prompt["tokens"] + len(codes)


def check_continuation(model: Model) -> None:
    """Only what is new is returned, and it is the sound that follows the prompt's, not a fresh start."""
    prompt = reference(model, 9)
    options = {"mode": "continuation", "reference": prompt, "ref_text": "Before that."}
    result = speak(model, **options)
    close(result.audio, slow_audio(model, **options))
    frames = slow_frames(model, **options)
    context = np.concatenate([part.codes for part in frames if part.context])
    assert len(context) == len(prompt)
    # Delay's last frames of the prompt are written again, all but their first codebooks.
    np.testing.assert_array_equal(context[: len(prompt) - model.config.n_vq + 1], prompt[: -model.config.n_vq + 1])
    assert result.token_count == sum(len(part.codes) for part in frames if not part.context) <= 12
    assert result.token_count * model.codec().config.downsample_rate == result.samples


def check_continuation_budget(model: Model) -> None:
    """The prompt's frames are not the budget's."""
    prompt = reference(model, 9)
    for seed in range(3):
        result = speak(model, mode="continuation", reference=prompt, seed=seed, max_tokens=2)
        assert result.token_count <= 2
        assert result.finish_reason == "length" or result.token_count < 2


def check_conversation(model: Model) -> None:
    """A request and its conversation are the same thing."""
    message = build_user_message(text=TEXT, reference=[reference(model, 4)], language="English")
    by_hand = speak(model, None, conversation=[message])
    close(by_hand.audio, speak(model, reference=reference(model, 4), language="English", normalize_text=False).audio)


def check_rows_of_a_batch(model: Model) -> None:
    """Left-padded prompts of different lengths, settings and seeds: each row as it is alone."""
    texts = ["Hi.", TEXT, "A longer sentence, so that the others have to be padded to its length."]
    settings = [
        ChannelSampling(1.0, 0.9, 20, 1.2),
        ChannelSampling(0.0, 1.0, 0, 1.0),
        ChannelSampling(1.7, 0.8, 25, 1.0),
    ]
    requests = [
        RowRequest(Sampling(ChannelSampling(1.5, 1.0, 50), audio), seed, budget)
        for seed, (audio, budget) in enumerate(zip(settings, (6, 30, 9), strict=True))
    ]
    conversations = [[build_user_message(text=text)] for text in texts]
    together = rows_of(model, conversations, requests)
    for index, (conversation, request) in enumerate(zip(conversations, requests, strict=True)):
        alone = [rows[0] for rows in rows_of(model, [conversation], [request])]
        assert len(alone) > 2
        np.testing.assert_array_equal([rows[index] for rows in together[: len(alone)]], alone[: len(together)])


def rows_of(model: Model, conversations: list[Any], requests: list[RowRequest], most: int = 40) -> list[np.ndarray]:
    ids, mask = model.processor.prepare_generation_inputs(conversations)
    assert len(set(np.array(mask).sum(axis=1))) == len(conversations)
    prompts = Prompts(np.array(ids), np.array(mask))
    batch = model.architecture.batch(prompts, requests, model.config.n_vq)
    return [rows for rows, _ in zip(run(batch), range(most), strict=False)]


def check_requests_are_checked_when_called(model: Model) -> None:
    """Before the first next(), and before anything is computed."""
    with pytest.raises(UnknownOptionError, match=r"'temprature'.*'temperature'"):
        model.generate(TEXT, temprature=1.0)
    for bad in BAD_REQUESTS:
        with pytest.raises(RequestError):
            model.generate(**{"text": TEXT} | bad)
    for missing in ({"reference": "nowhere.wav"}, {"reference": [None, "nowhere.npy"]}, {"ref_audio": "."}):
        with pytest.raises(AudioError, match=r"(nowhere\.\w+|\.): cannot be read"):
            model.generate(TEXT, **missing)
    with pytest.raises(UnknownOptionError):
        model.generate_batch([{"text": TEXT}, {"txet": TEXT}])
    with pytest.raises(RequestError, match="long_form"):
        model.generate_batch([{"text": TEXT, "long_form": True}])


BAD_REQUESTS: list[dict[str, Any]] = [
    {"text": None},
    {"text": " \n"},
    {"text": 7},
    {"tokens": 0},
    {"seconds": -1.0},
    {"max_tokens": 0},
    {"temperature": -0.1},
    {"temperature": float("nan")},
    {"top_p": 0},
    {"top_k": 2.5},
    {"repetition_penalty": 0},
    {"seed": -1},
    {"seed": 2**32},
    {"mode": "chat"},
    {"mode": "continuation"},
    {"preset": "tss"},
    {"stream": 1},
    {"streaming_interval": 0},
    {"reference": {"a": 1}},
    {"instruction": "a", "instruct": "b"},
    {"reference": "a.wav", "ref_audio": "b.wav"},
    {"n_vq_for_inference": 0},
    {"n_vq_for_inference": 99},
    {"long_form_max_chars": 10},
    {"conversation": []},
]

LAWS: list[Callable[[Model], None]] = [
    *MODEL_LAWS,
    check_fields,
    check_prompt_length,
    check_sound_is_the_frames,
    check_sampling_options_reach_the_model,
    check_prompt_options_reach_the_model,
    check_budget,
    check_length_asked_for,
    check_references,
    check_continuation,
    check_continuation_budget,
    check_conversation,
    check_rows_of_a_batch,
    check_requests_are_checked_when_called,
]
