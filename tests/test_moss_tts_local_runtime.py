"""Local at run time, v1.0 and v1.5: the laws of every architecture, and what only Local has."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

import moss_tts
from moss_tts.errors import CheckpointError, RequestError
from moss_tts.processor import build_user_message
from moss_tts.rows import Prompts, RowRequest
from moss_tts.sampling import ChannelSampling, Sampling
from support.runtime_laws import LAWS, TEXT, close, reference, slow_audio, slow_frames, speak, talkative

BOTH = pytest.mark.parametrize("name", ["local", "local_v1_5"])


@BOTH
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_law(models, name, law):
    law(models[name])


def codes_of(model: Any, **options: Any) -> np.ndarray:
    """Codes (F, n_vq) of a request."""
    return np.concatenate([part.codes for part in slow_frames(model, **options) if not part.context])


@BOTH
def test_a_shorter_budget_cuts_and_changes_nothing(models, name):
    """Every row is a frame, so a budget of n gives the first n frames of a longer one, bit for bit."""
    model = models[name]
    seed = talkative(model)
    long, short = (codes_of(model, seed=seed, max_tokens=budget) for budget in (16, 6))
    np.testing.assert_array_equal(short, long[:6])


@BOTH
def test_the_text_channel_chooses_between_a_frame_and_the_end(models, name):
    """However hot, no other text token is ever sampled."""
    model = models[name]
    hot = RowRequest(Sampling(ChannelSampling(1e6, 1.0, 0), ChannelSampling(1.0, 1.0, 0)), seed=0, max_frames=99)
    ids, mask = map(np.array, model.processor.prepare_generation_inputs([[build_user_message(text=TEXT)]] * 8))
    hot_requests = [replace(hot, seed=seed) for seed in range(8)]
    batch = model.architecture.batch(Prompts(ids, mask), hot_requests, model.config.n_vq)
    seen = {int(token) for _ in range(4) for token in np.array(batch.step())[:, 0]}
    assert seen == {model.config.audio_assistant_gen_slot_token_id, model.config.audio_end_token_id}


# ------------------------------------------------------------------------------------------- fewer codebooks


@pytest.mark.parametrize("n_vq", [1, 3])
def test_v1_0_can_do_with_a_prefix_of_its_codebooks(local_model, n_vq):
    options = {"n_vq_for_inference": n_vq, "reference": reference(local_model, 5), "seed": 3}
    codes = codes_of(local_model, **options)
    assert codes.shape[1] == n_vq
    close(speak(local_model, **options).audio, slow_audio(local_model, **options))


def test_all_codebooks_is_the_default(local_model):
    everything = speak(local_model, n_vq_for_inference=local_model.config.n_vq)
    np.testing.assert_array_equal(everything.audio, speak(local_model).audio)


def test_a_continuation_of_fewer_codebooks_hears_its_prompt_so(local_model):
    options = {"n_vq_for_inference": 2, "mode": "continuation", "reference": reference(local_model, 6)}
    close(speak(local_model, **options).audio, slow_audio(local_model, **options))


def test_requests_of_different_depth_wait_for_one_another(local_model):
    asked = [{"text": TEXT, "seed": seed, "max_tokens": 5, "n_vq_for_inference": 1 + seed % 2} for seed in range(4)]
    made = dict(local_model.generate_batch(asked))
    for index, options in enumerate(asked):
        (alone,) = local_model.generate(**options)
        close(made[index].audio, alone.audio)


@pytest.mark.parametrize("n_vq", [5, 32])
def test_v1_0_refuses_more_codebooks_than_it_has(local_model, n_vq):
    with pytest.raises(RequestError, match=rf"n_vq_for_inference must be 1 to 4 here, got {n_vq}"):
        local_model.generate(TEXT, n_vq_for_inference=n_vq)


def test_v1_5_has_a_fixed_depth(models):
    model = models["local_v1_5"]
    assert model.generate(TEXT, n_vq_for_inference=4)
    with pytest.raises(RequestError, match=r"n_vq_for_inference must be 4 for MOSS-TTS Local v1\.5, got 3"):
        model.generate(TEXT, n_vq_for_inference=3)


# -------------------------------------------------------------------------------------------------- presets


def test_each_checkpoint_has_its_own_sampling(models):
    v1_0 = models["local"].request({"text": TEXT}).sampling
    v1_5 = models["local_v1_5"].request({"text": TEXT}).sampling
    assert (v1_0.text.temperature, v1_5.text.temperature) == (1.5, 1.0)
    audio = (v1_5.audio.temperature, v1_5.audio.top_p, v1_5.audio.top_k, v1_5.audio.repetition_penalty)
    assert audio == (1.7, 0.8, 25, 1.0)
    assert v1_0.audio.repetition_penalty == 1.1


def test_the_penalty_reaches_the_codes(local_model):
    """A strong penalty on greedy-like sampling forbids a codebook to repeat itself; v1.0 counts the prompt in."""
    hot = {"audio_repetition_penalty": 1e4, "top_k": 0, "top_p": 1.0, "max_tokens": 12, "seed": talkative(local_model)}
    codes = codes_of(local_model, **hot)
    assert all(len(set(column)) == len(column) for column in codes.T)
    prompt = reference(local_model, 60)
    heard = codes_of(local_model, **hot, reference=prompt)
    for column, before in zip(heard.T, prompt.T, strict=True):
        assert not set(column) & set(before)


def test_v1_5_counts_generated_frames_only(models):
    """A penalty changes nothing in the first frame, whatever the prompt held, and much in those after it."""
    options = {"reference": reference(models["local_v1_5"], 30), "seed": 1}
    free, penalised = (codes_of(models["local_v1_5"], audio_repetition_penalty=p, **options) for p in (1.0, 1e4))
    np.testing.assert_array_equal(free[0], penalised[0])
    assert not np.array_equal(free[1:4], penalised[1:4])


def test_a_penalty_on_greedy_codes_is_v1_5s_alone(models):
    """Upstream's v1.0 skips all processing of greedy channels."""
    for name, heeds in (("local", False), ("local_v1_5", True)):
        options = {"temperature": 0.0, "text_temperature": 0.0, "max_tokens": 8}
        free, penalised = (codes_of(models[name], audio_repetition_penalty=p, **options) for p in (1.0, 50.0))
        assert np.array_equal(free, penalised) != heeds, name


# ------------------------------------------------------------------------------------------------- checkpoints


def test_stereo_comes_out_as_two_columns(models):
    result = speak(models["local_v1_5"])
    assert result.audio.shape == (result.samples, 2)
    assert not np.array_equal(result.audio[:, 0], result.audio[:, 1])


def test_model_sanitize_takes_upstreams_names(models, checkpoints):
    for name in ("local", "local_v1_5"):
        stored = mx.load(str(checkpoints[name] / "model.safetensors"))
        ours = models[name].sanitize(stored | {"x.num_batches_tracked": mx.zeros(1)})
        assert "text_embedding.weight" in ours
        assert models[name].sanitize(ours).keys() == ours.keys()


def test_a_fused_checkpoint_speaks_like_its_parts(copied, local_model, fuse):
    fused = moss_tts.load(fuse(copied("local")))
    np.testing.assert_array_equal(speak(fused).audio, speak(local_model).audio)


def test_a_missing_codebook_names_the_checkpoint_and_the_weight(copied):
    directory = copied("local")
    weights = mx.load(str(directory / "model.safetensors"))
    del weights["model.embedding_list.2.weight"]
    mx.save_safetensors(str(directory / "model.safetensors"), weights)
    with pytest.raises(CheckpointError, match=rf"{directory}.*lacks model\.embedding_list\.2\.weight"):
        moss_tts.load(directory)
