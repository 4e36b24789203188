"""Adapters beside loaded checkpoints of all architectures: against merged weights, in batches, in voices, off."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from huggingface_hub import constants

import moss_tts
from moss_tts.adapters.peft import read_adapter
from moss_tts.checkpoints.adapters import find_adapters, put_adapters, read_adapters
from moss_tts.checkpoints.loading import load_architecture, load_config
from moss_tts.device import compiled
from moss_tts.device.compiled_decoder import CompiledDepth
from moss_tts.device.kernels import on_cpu
from moss_tts.errors import CheckpointError, ConfigError, RequestError
from moss_tts.weights.layout import read_weights
from support.adapters import linears_of, write_adapter
from support.hub import cache_entry

ARCHITECTURES = ("delay", "local", "local_v1_5", "nano", "realtime")
OPTIONS = {"seed": 1, "max_tokens": 4}


def codes(model: Any, **options: Any) -> np.ndarray:
    return next(model.generate("Hello, 2 of you.", **OPTIONS, **options)).audio


@pytest.fixture(scope="module")
def adapters(checkpoints, tmp_path_factory) -> dict[str, dict[str, Path]]:
    """Two adapters for each architecture: one of all linear layers, one of some of them with another rank."""
    root = tmp_path_factory.mktemp("adapters")
    made = {}
    for name in ARCHITECTURES:
        layers = linears_of(read_weights(checkpoints[name]))
        some = {layer: shape for layer, shape in layers.items() if layer.endswith(("q_proj", "v_proj", "c_proj"))}
        ada = write_adapter(root / name / "ada", layers, seed=1)
        made[name] = {"ada": ada, "mood": write_adapter(root / name / "mood", some, seed=2, rank=3, use_rslora=True)}
    return made


@pytest.fixture(scope="module")
def adapted(checkpoints, adapters) -> dict[str, Any]:
    return {name: moss_tts.load(checkpoints[name], adapters=adapters[name]) for name in ARCHITECTURES}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_it_speaks_as_the_merged_checkpoint_does(checkpoints, adapters, adapted, tmp_path, name):
    """None of these adapters changes a head that is an embedding."""
    directory = shutil.copytree(checkpoints[name], tmp_path / "merged")
    weights, wanted = read_weights(directory), {"ada": 0.5, "mood": -1.5}
    for adapter, weight in wanted.items():
        for layer, pair in read_adapter(adapter, adapters[name][adapter]).pairs.items():
            weights[f"{layer}.weight"] = weights[f"{layer}.weight"] + weight * pair.scale * (pair.up @ pair.down)
    mx.eval(weights)
    mx.save_safetensors(str(directory / "model.safetensors"), weights)
    spoken, base = codes(adapted[name], adapters=wanted), codes(adapted[name])
    np.testing.assert_allclose(spoken, codes(moss_tts.load(directory)), atol=1e-4)
    assert spoken.shape != base.shape or not np.allclose(spoken, base)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_without_weights_it_is_the_base(models, adapted, name):
    base = codes(models[name])
    for none in ({}, {"ada": 0.0}, {"ada": 0.0, "mood": 0}, None):
        np.testing.assert_array_equal(codes(adapted[name], adapters=none), base)


@pytest.mark.parametrize("name", ["local_v1_5", "nano"])
def test_frames_without_adapters_are_computed_in_c_as_before(adapted, monkeypatch, name):
    if compiled.library() is None or not on_cpu():
        pytest.skip("C is for Linux CPUs")
    drawn, draw = [], CompiledDepth.draw
    monkeypatch.setattr(CompiledDepth, "draw", lambda self, *given: drawn.append(1) or draw(self, *given))
    codes(adapted[name], adapters={"ada": 1.0})
    assert not drawn
    codes(adapted[name])
    assert drawn


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_batch_of_different_adapters_is_its_rows_alone(adapted, name):
    model, wanted = adapted[name], [{}, {"ada": 1.0}, {"ada": 0.5, "mood": 1.5}]
    requests = [{"text": "Hello, 2 of you.", **OPTIONS, "adapters": weights} for weights in wanted]
    together = dict(model.generate_batch(requests))
    for index, weights in enumerate(wanted):
        np.testing.assert_allclose(together[index].audio, codes(model, adapters=weights), atol=1e-4)


def test_a_voice_is_read_anew_for_each_adapter(models, adapted):
    recording = np.sin(np.arange(12_000) / 9).astype(np.float32) / 3
    model, voice = adapted["delay"], {"ref_audio": (recording, models["delay"].sample_rate)}
    first = codes(model, **voice, adapters={"ada": 1.0})
    np.testing.assert_array_equal(codes(model, **voice), codes(models["delay"], **voice))
    np.testing.assert_array_equal(codes(model, **voice, adapters={"ada": 1.0}), first)
    assert not np.array_equal(codes(model, **voice, adapters={"ada": 0.5}), first)


def test_names_relative_to_the_language_model(checkpoints, tmp_path):
    layers = linears_of(read_weights(checkpoints["local_v1_5"]))
    inner = {layer: shape for layer, shape in layers.items() if layer.startswith("transformer.")}
    relative = {layer.removeprefix("transformer."): shape for layer, shape in inner.items()}
    spoken = []
    for name, named in (
        ("whole", inner),
        ("inner", relative),
        ("causal", {f"model.{n}": s for n, s in relative.items()}),
    ):
        directory = write_adapter(tmp_path / name, named)
        spoken.append(codes(moss_tts.load(checkpoints["local_v1_5"], adapters={"ada": directory}), adapters={"ada": 1}))
    np.testing.assert_array_equal(spoken[0], spoken[1])
    np.testing.assert_array_equal(spoken[0], spoken[2])


def hidden(architecture: Any, weights: dict[str, float]) -> mx.array:
    class Request:
        adapters = tuple(weights.items())

    network, rows = architecture.network, mx.arange(12)[None, :, None]
    rows = mx.broadcast_to(rows % 7, (1, 12, 1 + architecture.config.n_vq))
    with network.adapters.using(network.adapters.weights([Request()])):
        return network(rows, network.backbone.make_cache([0]))


def test_a_quantised_base_adds_what_its_dequantised_weights_would(checkpoints, adapters):
    import mlx.nn as nn

    stored = [read_adapter("ada", adapters["delay"]["ada"])]
    directory = checkpoints["delay"]

    def loaded() -> Any:
        return load_architecture(directory, load_config(directory), read_weights(directory), "float32")

    quantised, plain = loaded(), loaded()
    linear = {path for path, module in plain.network.named_modules() if isinstance(module, nn.Linear)}
    nn.quantize(quantised.network, 32, 4, class_predicate=lambda path, _: path in linear and "_proj" in path)
    for path, module in quantised.network.named_modules():
        if isinstance(module, nn.QuantizedLinear):
            layer = dict(plain.network.named_modules())[path]
            layer.weight = mx.dequantize(module.weight, module.scales, module.biases, module.group_size, module.bits)
            layer.pop("_turned", None)
    for architecture in (quantised, plain):
        put_adapters(architecture, stored)
    assert mx.allclose(hidden(quantised, {"ada": 1.0}), hidden(plain, {"ada": 1.0}), atol=1e-4)
    assert not mx.allclose(hidden(quantised, {"ada": 1.0}), hidden(quantised, {}), atol=1e-2)


def test_an_adapter_of_another_architecture_is_refused(checkpoints, adapters, tmp_path):
    with pytest.raises(CheckpointError, match=r"adapter 'ada' \(.*changes .*MOSS-TTS Local v1\.5 has no such linear"):
        moss_tts.load(checkpoints["local_v1_5"], adapters={"ada": adapters["delay"]["ada"]})
    layers = {layer: (out + 1, width) for layer, (out, width) in linears_of(read_weights(checkpoints["delay"])).items()}
    wide = write_adapter(tmp_path / "wide", layers, auto_mapping={"base_model_class": "Other"})
    with pytest.raises(CheckpointError, match=r"trained on a Other\) was made for a .* inputs .* has"):
        moss_tts.load(checkpoints["delay"], adapters={"ada": wide})


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (["DIR"], RequestError, "adapters must be a mapping"),
        ({"": "DIR"}, RequestError, "the name of an adapter must be a text"),
        ({"ada": 3}, RequestError, "must be given as a directory or a hub id, got 3"),
        ({"ada": "no such place"}, CheckpointError, "there is no directory 'no such place'"),
        ({"ada": "org/repo/../../place"}, CheckpointError, "there is no directory 'org/repo/../../place'"),
        ({"ada": "org/repo/a\\b"}, CheckpointError, "there is no directory"),
        ({"ada": "org/../place"}, CheckpointError, "ORG/REPO, or ORG/REPO/FOLDER"),
        ({"ada": ""}, CheckpointError, "there is no directory ''"),
    ],
)
def test_bad_arguments_of_load(checkpoints, given, error, message):
    with pytest.raises(error, match=message):
        moss_tts.load(checkpoints["delay"], adapters=given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"bob": 1.0}, "no adapter 'bob', .*; it has 'ada', 'mood'"),
        ({"ada": float("nan")}, "the weight of 'ada' must be 0, or a number of .*, got nan"),
        ({"ada": 1e39}, "a number of .* of either sign, got 1e"),
        ({"ada": float("inf")}, "a number of"),
        ({"ada": "1"}, "a number of"),
        ({"ada": True}, "a number of"),
        (["ada"], "must be a mapping of names to weights"),
    ],
)
def test_bad_weights(adapted, given, message):
    with pytest.raises(RequestError, match=message):
        adapted["delay"].generate("Hello.", adapters=given)


def test_a_model_without_adapters_says_so(models):
    with pytest.raises(RequestError, match="it was loaded without any"):
        models["delay"].generate("Hello.", adapters={"ada": 1.0})


def test_an_adapter_in_the_place_of_a_model_is_refused(adapters):
    with pytest.raises(ConfigError, match=r"is a LoRA adapter, or several, and no model\. .* --lora NAME=.*ada"):
        moss_tts.load(adapters["delay"]["ada"])


def test_an_adapter_of_another_model_of_the_hub_is_used_with_a_warning(tmp_path, caplog):
    layer = {"language_model.layers.0.self_attn.q_proj": (64, 64)}
    directory = write_adapter(tmp_path / "ada", layer, base_model_name_or_path="someone/base")
    for base in ("someone/base", "somewhere", None):
        read_adapters({"ada": directory}, base)
    assert not caplog.text
    read_adapters({"ada": directory}, "someone/other")
    assert "adapter 'ada' was trained on someone/base, and may misbehave on someone/other" in caplog.text


def test_an_adapter_of_the_hub_that_is_here_is_not_asked_for(adapters, tmp_path, monkeypatch):
    """Both forms of a name; the hub is not reached in tests."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    snapshot = cache_entry(tmp_path, "someone/voices", adapters["delay"]["ada"].parent)
    whole = cache_entry(tmp_path, "someone/ada", adapters["delay"]["ada"])
    found = find_adapters({"ada": "someone/voices/ada", "mood": "someone/voices/mood", "whole": "someone/ada"})
    assert found == {"ada": snapshot / "ada", "mood": snapshot / "mood", "whole": whole}
    with pytest.raises(CheckpointError, match=r"someone/voices/sad does not give adapter_config\.json and"):
        find_adapters({"sad": "someone/voices/sad"})
