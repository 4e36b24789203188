"""Delay at run time: the laws of every architecture, segments, codecs and the files of a checkpoint."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlx.utils import tree_flatten

import moss_tts
from moss_tts import frames as frame_readers
from moss_tts.checkpoints import loading
from moss_tts.checkpoints.loading import CheckpointSource, LazyCodec
from moss_tts.config import ID_DEFAULTS, DelayConfig
from moss_tts.errors import CheckpointError, CodecNotFoundError, ConfigError, RequestError
from moss_tts.model import Model
from moss_tts.processor import build_user_message
from moss_tts.rows import Prompts, RowRequest, run
from moss_tts.sampling import ChannelSampling, Sampling
from moss_tts.subtitles.formats import clock
from support.runtime_laws import LAWS, TEXT, close, reference, slow_audio, slow_frames, speak, talkative
from support.tokenizer import write_tokenizer as write_real_tokenizer

Weights = dict[str, mx.array]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_law(delay_model, law):
    law(delay_model)


def codes_of(model: Model, segment: int = 0, **options: Any) -> np.ndarray:
    """Codes (F, Q) of one audio segment of a request."""
    parts = [part for part in slow_frames(model, **options) if part.segment == segment and not part.context]
    return np.concatenate([part.codes for part in parts])


@given(st.integers(0, 360_000_000))
def test_durations_are_rounded_once(milliseconds):
    """No 60.000 seconds, and nothing lost on the way to hours."""
    hours, minutes, seconds = clock(milliseconds / 1000).split(":")
    assert (int(hours) * 60 + int(minutes)) * 60_000 + round(float(seconds) * 1000) == milliseconds
    assert int(minutes) < 60
    assert float(seconds) < 60
    assert len(seconds) == 6


def test_a_duration_just_below_an_hour_is_an_hour():
    assert clock(3599.9996) == "01:00:00.000"


# ------------------------------------------------------------------------------------------------- budgets


def test_a_budget_cuts_no_frame_short(delay_model):
    """The rows up to the budget are those of a longer run; the forced tail then completes what they began."""
    seed, n_vq = talkative(delay_model), delay_model.config.n_vq
    long, short = (codes_of(delay_model, seed=seed, max_tokens=budget) for budget in (30, 12))
    assert len(short) == 12
    np.testing.assert_array_equal(short[: 12 - n_vq + 1], long[: 12 - n_vq + 1])
    for q in range(n_vq):
        np.testing.assert_array_equal(short[: 12 - q, q], long[: 12 - q, q])
    assert (short < delay_model.config.audio_vocab_size).all()


def test_delay_refuses_fewer_codebooks(delay_model):
    with pytest.raises(RequestError, match=r"n_vq_for_inference is for Local v1.0 and Nano; .* all 4 codebooks"):
        delay_model.generate(TEXT, n_vq_for_inference=2)


def test_a_rows_tail_is_n_vq_delay_slots(delay_model):
    """Gen slots, then n_vq delay slots, then audio_end, then im_end: not a slot more."""
    config = delay_model.config
    ids, mask = map(np.array, delay_model.processor.prepare_generation_inputs([build_user_message(text=TEXT)]))
    request = RowRequest(Sampling(ChannelSampling(1.5, 1.0, 50), ChannelSampling(1.0, 1.0, 0)), 0, 6)
    text = [int(row[0, 0]) for row in run(delay_model.architecture.batch(Prompts(ids, mask), [request], config.n_vq))]
    gen, delay = config.audio_assistant_gen_slot_token_id, config.audio_assistant_delay_slot_token_id
    slots = text.count(gen)
    assert slots <= 5
    tail = [delay] * config.n_vq + [config.audio_end_token_id]
    assert text[: slots + len(tail)] == [gen] * slots + tail
    assert text[-1] == config.im_end_token_id


# ------------------------------------------------------------------------------------------------- segments


def rewritten(directory: Path, change: Callable[[Weights, dict[str, Any]], None]) -> Path:
    """The checkpoint with changed weights; `change` is told the config, too."""
    weights = dict(mx.load(str(directory / "model.safetensors")))
    change(weights, json.loads((directory / "config.json").read_text()))
    mx.eval(weights)
    mx.save_safetensors(str(directory / "model.safetensors"), weights)
    return directory


def text_logit(weights: Weights, token: int, logit: float) -> None:
    """Make a token's logit that multiple of the steady coordinate."""
    head = weights["lm_heads.0.weight"]
    rows = mx.arange(head.shape[0])[:, None] == token
    steady = mx.where(mx.arange(head.shape[1]) == 0, logit, 0.0)
    weights["lm_heads.0.weight"] = mx.where(rows, steady, head)


def restless(weights: Weights, config: dict[str, Any]) -> None:
    """Short segments, and as often another one as the end of the turn."""
    text_logit(weights, config["audio_start_token_id"], 10.0)
    text_logit(weights, config["audio_assistant_delay_slot_token_id"], 1.9)


@pytest.fixture(scope="module")
def several(checkpoints, tmp_path_factory):
    """A model that speaks in several segments."""
    directory = shutil.copytree(checkpoints["delay"], tmp_path_factory.mktemp("several") / "model")
    return moss_tts.load(rewritten(directory, restless))


def test_all_segments_are_returned_in_order(several):
    """Each from a fresh codec state, joined; slow_audio decodes them one by one."""
    seeds = ({"seed": seed, "max_tokens": 60} for seed in range(32))
    options = next(each for each in seeds if len({part.segment for part in slow_frames(several, **each)}) > 2)
    close(speak(several, **options).audio, slow_audio(several, **options))


def test_a_budget_counts_the_frames_of_all_segments(several):
    for seed in range(3):
        result = speak(several, seed=seed, max_tokens=9)
        assert result.token_count <= 9
        assert (result.finish_reason == "length") == (result.token_count == 9)


def test_a_continuation_cuts_the_prompt_from_the_first_segment_only(several):
    options = {"mode": "continuation", "reference": reference(several, 7), "max_tokens": 40}
    made = {seed: slow_frames(several, seed=seed, **options) for seed in range(6)}
    options["seed"] = next(seed for seed, frames in made.items() if frames[-1].segment > 0)
    frames = made[options["seed"]]
    assert sum(len(part.codes) for part in frames if part.context) == 7
    assert {part.segment for part in frames if part.context} == {0}
    close(speak(several, **options).audio, slow_audio(several, **options))


def test_a_short_continuation_of_less_than_the_delay(delay_model):
    """A prompt of one frame leaves all but its first code to be written again."""
    options = {"mode": "continuation", "reference": reference(delay_model, 1)}
    close(speak(delay_model, **options).audio, slow_audio(delay_model, **options))


def test_a_free_start_that_never_speaks_ends(copied, monkeypatch):
    """Ids packed elsewhere may leave audio_start to the model; one that never says it must end as well."""

    def silent(weights: Weights, config: dict[str, Any]) -> None:
        text_logit(weights, config["im_end_token_id"], -50.0)
        text_logit(weights, config["audio_start_token_id"], -50.0)

    monkeypatch.setattr(frame_readers, "MAX_IDLE_ROWS", 40)
    model = moss_tts.load(rewritten(copied("delay"), silent))
    ids, _ = model.processor.prepare_generation_inputs([build_user_message(text="Hi.")])
    prompt = np.array(ids)[:, :-1]
    request = RowRequest(model.preset.sampling, seed=0, max_frames=50)
    reader = model.architecture.reader(prompt[0], 50, 4)
    batch = model.architecture.batch(Prompts(prompt, np.ones(prompt.shape[:2], bool)), [request], 4)
    count = 0
    for row in run(batch):
        assert reader.push(row[0]) == []
        count += 1
        if reader.finish_reason is not None:
            break
    assert (reader.finish_reason, count) == ("length", 40)


# --------------------------------------------------------------------------------------------------- codec


def test_fused_and_separate_codecs_sound_alike(copied, delay_model, fuse):
    fused = moss_tts.load(fuse(copied("delay")))
    options = {"reference": 0.1 * np.sin(np.arange(24000, dtype=np.float32))}
    np.testing.assert_array_equal(speak(fused, **options).audio, speak(delay_model, **options).audio)


def test_a_codec_of_the_callers_beats_a_fused_one(copied, checkpoints, fuse):
    directory = fuse(copied("delay"))
    model = moss_tts.load(directory, codec=checkpoints["local"] / "audio_tokenizer")
    other = moss_tts.load(checkpoints["delay"], codec=checkpoints["local"] / "audio_tokenizer")
    np.testing.assert_array_equal(speak(model).audio, speak(other).audio)


def lazy_codec(directory: Path, model: Model, from_hub: bool = False, **named: Any) -> LazyCodec:
    return LazyCodec(CheckpointSource(str(directory), directory, from_hub), model.config, **named)


def test_a_codec_beside_the_weights_is_taken_in_this_order(tmp_path, delay_model, checkpoints):
    for name in ("codec", "moss_audio_tokenizer", "audio_tokenizer"):
        shutil.copytree(checkpoints["delay"] / "audio_tokenizer", tmp_path / name)
        assert lazy_codec(tmp_path, delay_model).directory() == tmp_path / name


@pytest.mark.parametrize("from_hub", [False, True])
@pytest.mark.parametrize("named", [None, "Someone/Their-Codec"])
@pytest.mark.parametrize("kind", ["delay", "local", "local_v1_5", "nano", "realtime"])
def test_then_the_configs_codec_then_openmosss(tmp_path, copied, monkeypatch, kind, named, from_hub):
    """Fetched only if the checkpoint itself was named by its hub id."""
    directory = copied(kind)
    raw = json.loads((directory / "config.json").read_text()) | {"audio_tokenizer_name_or_path": named}
    (directory / "config.json").write_text(json.dumps(raw))
    asked = []

    def find_checkpoint(name: str, cached_only: bool) -> CheckpointSource:
        asked.append((name, cached_only))
        return CheckpointSource(name, tmp_path, from_hub=True)

    monkeypatch.setattr(loading, "find_checkpoint", find_checkpoint)
    config = loading.load_config(directory)
    LazyCodec(CheckpointSource("x", tmp_path, from_hub), config).directory()
    default = "OpenMOSS-Team/MOSS-Audio-Tokenizer" + {"local_v1_5": "-v2", "nano": "-Nano"}.get(kind, "")
    assert asked == [(named or default, not from_hub)]


def test_a_codec_that_cannot_be_had_says_where_it_was_looked_for(copied):
    directory = copied("delay")
    shutil.rmtree(directory / "audio_tokenizer")
    model = moss_tts.load(directory)
    with pytest.raises(CodecNotFoundError) as caught:
        speak(model)
    message = str(caught.value)
    for place in (
        str(directory),
        "audio_tokenizer",
        "moss_audio_tokenizer",
        "codec",
        model.config.default_codec,
        "--codec",
    ):
        assert place in message
    assert "\n" not in message


def test_a_codec_the_caller_names_must_be_there(checkpoints, tmp_path):
    model = moss_tts.load(checkpoints["delay"], codec=tmp_path / "nowhere" / "at" / "all")
    with pytest.raises(CodecNotFoundError, match="at/all"):
        speak(model)


def test_a_speech_model_is_no_codec(checkpoints):
    model = moss_tts.load(checkpoints["delay"], codec=checkpoints["local"])
    with pytest.raises(ConfigError, match="codec config"):
        speak(model)


@pytest.mark.parametrize(("key", "value"), [("sampling_rate", 48000), ("num_quantizers", 3), ("codebook_size", 128)])
def test_the_codec_of_another_model_is_refused(copied, key, value):
    """Codes of one codec are noise to another, and a wrong rate is a wrong pitch."""
    directory = copied("delay")
    path = directory / "audio_tokenizer" / "config.json"
    raw = json.loads(path.read_text())
    (raw if key in raw else raw["quantizer_kwargs"])[key] = value
    weights = dict(mx.load(str(path.parent / "model.safetensors")))
    if key == "num_quantizers":
        weights = {name: weight for name, weight in weights.items() if ".quantizers.3." not in name}
    if key == "codebook_size":
        weights = {name: w[:128] if name.endswith("codebook.weight") else w for name, w in weights.items()}
    mx.eval(weights)
    mx.save_safetensors(str(path.parent / "model.safetensors"), weights)
    path.write_text(json.dumps(raw))
    with pytest.raises(CheckpointError, match=r"codec does not fit the model.*4 of 256 at 24000 Hz"):
        speak(moss_tts.load(directory))


def test_more_codebooks_than_the_model_needs_are_fine(copied, delay_model):
    """The released codec has 32 codebooks, and models use 32, 16 or 12 of them."""
    directory = copied("delay")
    raw = json.loads((directory / "config.json").read_text())
    config = raw | {"n_vq": 3}
    weights = dict(mx.load(str(directory / "model.safetensors")))
    for name in ("emb_ext.3.weight", "lm_heads.4.weight"):
        del weights[name]
    mx.eval(weights)
    mx.save_safetensors(str(directory / "model.safetensors"), weights)
    (directory / "config.json").write_text(json.dumps(config))
    model = moss_tts.load(directory)
    recording = 0.1 * np.sin(np.arange(9600, dtype=np.float32))
    codes = model.processor.encode_audio([recording])[0]
    assert codes.shape == (5, 3)
    np.testing.assert_array_equal(codes, delay_model.processor.encode_audio([recording])[0][:, :3])
    close(speak(model).audio, slow_audio(model))


# ------------------------------------------------------------------------------------- files of a checkpoint


@pytest.mark.parametrize(
    ("name", "preset"),
    [
        ("MOSS-TTS", "moss_tts"),
        ("MOSS-TTS-v1.5", "moss_tts"),
        ("MOSS-TTSD-v1.0", "ttsd"),
        ("moss_ttsd_v1.0-8bit", "ttsd"),
        ("MOSS-VoiceGenerator", "voice_generator"),
        ("MOSS-SoundEffect", "soundeffect"),
        ("something", "moss_tts"),
    ],
)
def test_a_checkpoints_name_tells_its_variant(checkpoints, tmp_path, name, preset):
    (tmp_path / name).symlink_to(checkpoints["delay"])
    assert moss_tts.load(tmp_path / name).preset.name == preset


def test_generation_config_stands_between_preset_and_caller(copied):
    directory = copied("delay")
    (directory / "generation_config.json").write_text(
        json.dumps({"temperature": 0.9, "top_k": 7, "audio_top_p": 0.5, "do_sample": True, "max_new_tokens": 9})
    )
    model = moss_tts.load(directory)
    sampling = model.request({"text": TEXT, "top_k": 3}).sampling
    assert sampling.audio == ChannelSampling(0.9, 0.5, 3, 1.0)
    # One temperature for all is never the text channel's.
    assert sampling.text == model.preset.text


@pytest.mark.parametrize("content", ["{", "[]", '{"temperature": "hot"}', '{"top_p": 7}'])
def test_a_broken_generation_config_is_refused(copied, content):
    directory = copied("delay")
    (directory / "generation_config.json").write_text(content)
    with pytest.raises((CheckpointError, ConfigError), match=r"generation_config\.json"):
        moss_tts.load(directory).generate(TEXT)


def test_model_sanitize_takes_upstreams_names(delay_model, checkpoints):
    stored = dict(mx.load(str(checkpoints["delay"] / "model.safetensors")))
    ours = delay_model.sanitize(stored | {"x.num_batches_tracked": mx.zeros(1), "local_transformer.x": mx.zeros(1)})
    assert {"text_embedding.weight", "audio_embedding.weight", "text_head.weight", "audio_head.weight"} < ours.keys()
    assert not [name for name in ours if "local" in name or "batches" in name]
    wrapped = delay_model.sanitize({f"model.{name}": weight for name, weight in stored.items()})
    assert wrapped.keys() == ours.keys()


def test_the_quant_predicate_spares_what_is_heard(delay_model):
    network = delay_model.architecture.network
    leaves = dict(tree_flatten(network.leaf_modules(), is_leaf=nn.Module.is_module))
    kept = {path for path, module in leaves.items() if not delay_model.model_quant_predicate(path, module)}
    assert {"audio_head", "audio_embedding", "text_embedding", "backbone.norm"} <= kept
    assert delay_model.model_quant_predicate("text_head", leaves["text_head"])


def test_a_quantised_checkpoint_speaks(copied, delay_model):
    """Made by hand as a converter would: our names, a quantization block, one layer at other bits."""
    directory = copied("delay")
    weights = delay_model.sanitize(dict(mx.load(str(directory / "model.safetensors"))))
    layers = "backbone.layers.{}.mlp.down_proj"
    for layer, bits in ((0, 8), (1, 4)):
        name = layers.format(layer)
        packed, scales, biases = mx.quantize(weights.pop(f"{name}.weight"), group_size=32, bits=bits)
        weights |= {f"{name}.weight": packed, f"{name}.scales": scales, f"{name}.biases": biases}
    mx.eval(weights)
    mx.save_safetensors(str(directory / "model.safetensors"), weights)
    raw = json.loads((directory / "config.json").read_text())
    raw["quantization"] = {"group_size": 32, "bits": 8, layers.format(1): {"group_size": 32, "bits": 4}}
    (directory / "config.json").write_text(json.dumps(raw))
    result = speak(moss_tts.load(directory))
    assert result.samples > 0
    assert np.isfinite(result.audio).all()


def test_a_checkpoint_in_bfloat16_speaks(copied):
    def halved(weights: Weights, _: dict[str, Any]) -> None:
        weights |= {name: weight.astype(mx.bfloat16) for name, weight in weights.items()}

    directory = rewritten(copied("delay"), halved)
    for dtype in (None, "bfloat16", "float32"):
        result = speak(moss_tts.load(directory, dtype=dtype), max_tokens=4)
        assert result.audio.dtype == np.float32
        assert np.isfinite(result.audio).all()


# ------------------------------------------------------------------------------------------ the real tokenizer


def with_real_tokenizer(directory: Path) -> Path:
    """The demo checkpoint under the released vocabulary: Qwen3's tokenizer, MOSS's ids, a row for every token."""
    raw = json.loads((directory / "config.json").read_text())
    ids = {raw.pop(name): default for name, default in (ID_DEFAULTS | DelayConfig.id_defaults).items()}
    vocabulary = raw["language_config"]["vocab_size"] = 155_648

    def spread(weights: Weights, _: dict[str, Any]) -> None:
        sources = np.arange(vocabulary) % min(ids)
        sources[list(ids.values())] = list(ids)
        head = np.zeros((vocabulary, weights["lm_heads.0.weight"].shape[1]), np.float32)
        head[list(ids.values())] = np.array(weights["lm_heads.0.weight"])[list(ids)]
        weights["lm_heads.0.weight"] = mx.array(head)
        embedding = "language_model.embed_tokens.weight"
        weights[embedding] = weights[embedding][mx.array(sources)]

    (directory / "config.json").write_text(json.dumps(raw))
    write_real_tokenizer(directory)
    return rewritten(directory, spread)


def test_the_real_tokenizer_drives_a_request(copied):
    """Directory in, audio out, with Qwen3's 151 669 tokens and upstream's control ids."""
    model = moss_tts.load(with_real_tokenizer(copied("delay")))
    assert model.config.audio_start_token_id == 151652
    options = {
        "text": "早上好. <|im_end|> Bonjour [pause 0.5s] à tous !",
        "reference": reference(model, 6),
        "max_tokens": 6,
    }
    close(speak(model, **options).audio, slow_audio(model, **options))
    ids, _ = model.processor.prepare_generation_inputs([build_user_message(text="Hello, world! <|im_end|>")])
    text = np.array(ids)[0, :, 0].tolist()
    assert text[:3] == [151644, 872, 198]
    assert text[-5:] == [198, 151644, 77091, 198, 151652]
    assert " ".join(map(str, [9707, 11, 1879, 0])) in " ".join(map(str, text))
    assert text.count(151645) == 1
