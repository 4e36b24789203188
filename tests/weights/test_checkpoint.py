"""Weights between upstream's files and our names: every layout that is met, and messages that name a weight."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

import moss_tts
from moss_tts.architectures import ARCHITECTURES
from moss_tts.checkpoints.loading import load_architecture, load_config, quantizable, quantize
from moss_tts.checkpoints.number_types import compute_dtype, stored_dtype
from moss_tts.config import parse_config
from moss_tts.errors import CheckpointError, RequestError
from moss_tts.evidence.goldens import prompt_of
from moss_tts.weights.headers import read_header
from moss_tts.weights.layout import load_strict, parameter_shapes, read_json, read_weights

GOLDEN = Path(__file__).parents[1] / "golden"
NAMES = ["delay", "local", "local_v1_5", "nano", "realtime"]
Weights = dict[str, mx.array]


def stored(name: str) -> Weights:
    return read_weights(GOLDEN / name)


def layout_of(name: str) -> Any:
    return ARCHITECTURES[type(load_config(GOLDEN / name))].layout


def sanitized(name: str, weights: Weights) -> Weights:
    return layout_of(name).sanitize(weights, load_config(GOLDEN / name).n_vq)


def assert_same(made: Weights, wanted: Weights) -> None:
    assert made.keys() == wanted.keys()
    for name, weight in made.items():
        assert mx.array_equal(weight, wanted[name]), name


def prefixed(weights: Weights, old: str, new: str) -> Weights:
    return {new + key.removeprefix(old) if key.startswith(old) else key: value for key, value in weights.items()}


def without(weights: Weights, prefix: str) -> Weights:
    return {key: value for key, value in weights.items() if not key.startswith(prefix)}


def with_junk(*names: str) -> Callable[[Weights], Weights]:
    return lambda weights: weights | dict.fromkeys(names, mx.zeros(1))


CODEC_JUNK = with_junk("codec_model.encoder.1.output_proj.weight", "codec_model.quantizer.output_proj.bias")
SPELLINGS: list[tuple[str, str, Callable[[Weights], Weights]]] = [
    ("delay", "inside a wrapper", lambda weights: prefixed(weights, "", "model.")),
    ("delay", "fused", lambda weights: CODEC_JUNK(prefixed(weights, "language_model.", "model."))),
    (
        "delay",
        "fused, backbone named in full",
        lambda w: CODEC_JUNK(prefixed(w, "language_model.", "model.language_model.")),
    ),
    (
        "delay",
        "saved from a common base class",
        with_junk(
            "local_transformer.layers.0.mlp.up_proj.weight",
            "speech_embedding_to_local_mlp.up_proj.weight",
            "local_to_speech_embedding_mlps.3.up_proj.weight",
            "layer_norm_before_lm_heads.0.weight",
        ),
    ),
    ("local", "fused", CODEC_JUNK),
    (
        "local",
        "without the unused embedding",
        lambda w: {k: v for k, v in w.items() if "language_model.embed" not in k},
    ),
    ("local", "with it", with_junk("model.language_model.embed_tokens.weight")),
    ("local_v1_5", "with tied copies", with_junk("text_lm_head.weight", "audio_lm_heads.0.weight")),
    *[(name, "batch norm counters", with_junk("a.b.num_batches_tracked", "num_batches_tracked")) for name in NAMES],
]


@pytest.mark.parametrize(("name", "spelling"), [pytest.param(n, s, id=f"{n}: {label}") for n, label, s in SPELLINGS])
def test_every_spelling_is_the_same_checkpoint(name, spelling):
    assert_same(sanitized(name, spelling(stored(name))), sanitized(name, stored(name)))


@pytest.mark.parametrize("name", NAMES)
def test_our_own_files_are_read_as_they_are(name):
    ours = sanitized(name, stored(name))
    assert_same(sanitized(name, ours), ours)


@pytest.mark.parametrize("name", NAMES)
def test_upstream_shapes_are_what_upstream_stored(name):
    """The list of names comes from the same table as the loading; the golden says whether it is right."""
    config = load_config(GOLDEN / name)
    architecture = ARCHITECTURES[type(config)]
    listed = architecture.layout.upstream_shapes(architecture.network_class(config), config.n_vq)
    file = {key: tuple(value.shape) for key, value in stored(name).items() if not architecture.layout.drops(key)}
    tied = {key for key in file if key.startswith(("text_lm_head.", "audio_lm_heads."))}
    assert listed == {key: shape for key, shape in file.items() if key not in tied}


def test_stacks_keep_the_order_of_codebooks():
    weights = stored("delay")
    rows = weights["emb_ext.0.weight"].shape[0]
    joined = sanitized("delay", weights)
    for q in range(4):
        part = slice(q * rows, (q + 1) * rows)
        assert mx.array_equal(joined["audio_embedding.weight"][part], weights[f"emb_ext.{q}.weight"])
        assert mx.array_equal(joined["audio_head.weight"][part], weights[f"lm_heads.{q + 1}.weight"])


def test_absolute_positions_are_loaded_where_the_config_asks_for_them():
    raw = json.loads((GOLDEN / "local_v1_5" / "config.json").read_text())
    raw["gpt2_config"]["position_embedding_type"] = "absolute"
    config = parse_config(raw)
    network = ARCHITECTURES[type(config)].network_class(config)
    assert parameter_shapes(network)["local_transformer.wpe.weight"] == (5, 64)
    assert "local_transformer.wpe.weight" not in sanitized("local_v1_5", stored("local_v1_5"))


# ------------------------------------------------------------------------------------------------ strictness


def load_changed(name: str, change: Callable[[Weights], Weights]) -> None:
    config = load_config(GOLDEN / name)
    load_architecture(Path("some/where"), config, change(stored(name)))


WEIGHTS = [
    ("delay", "language_model.layers.1.mlp.up_proj.weight"),
    ("delay", "lm_heads.0.weight"),
    ("delay", "lm_heads.3.weight"),
    ("delay", "emb_ext.0.weight"),
    ("local", "model.embedding_list.0.weight"),
    ("local", "model.embedding_list.2.weight"),
    ("local", "lm_heads.4.weight"),
    ("local_v1_5", "transformer.embed_tokens.weight"),
    ("local_v1_5", "audio_embeddings.3.weight"),
    ("local_v1_5", "local_transformer.h.0.attn.c_attn.bias"),
]
NORMS = {
    "delay": "language_model.norm.weight",
    "local": "model.language_model.norm.weight",
    "local_v1_5": "transformer.norm.weight",
}


@pytest.mark.parametrize(("name", "weight"), WEIGHTS)
def test_a_missing_weight_is_named_as_upstream_does(name, weight):
    with pytest.raises(CheckpointError, match=rf"some/where: .*lacks {weight}"):
        load_changed(name, lambda weights: without(weights, weight))


@pytest.mark.parametrize("name", NAMES)
def test_a_surplus_weight_is_named(name):
    with pytest.raises(CheckpointError, match=r"does not know: new_adapter\.weight"):
        load_changed(name, with_junk("new_adapter.weight"))


@pytest.mark.parametrize(("name", "weight"), NORMS.items())
def test_a_weight_of_another_shape_is_named_with_both_shapes(name, weight):
    with pytest.raises(CheckpointError, match=rf"{weight} of shape \(3,\).*config\.json asks for \("):
        load_changed(name, lambda weights: weights | {weight: mx.zeros(3)})


@pytest.mark.parametrize(("name", "weight"), NORMS.items())
def test_a_weight_of_whole_numbers_is_named(name, weight):
    with pytest.raises(CheckpointError, match=rf"has {weight} in whole numbers, which must be floating-point"):
        load_changed(name, lambda weights: weights | {weight: weights[weight].astype(mx.int32)})


def test_a_codebook_too_many_is_surplus():
    """n_vq of the config decides how many there are; a fifth table of four is not dropped in silence."""
    with pytest.raises(CheckpointError, match=r"emb_ext\.4\.weight"):
        load_changed("delay", with_junk("emb_ext.4.weight"))


def test_codebooks_of_another_size_are_refused():
    with pytest.raises(CheckpointError, match=r"audio_head|lm_heads"):
        load_changed("delay", lambda weights: weights | {"lm_heads.2.weight": mx.zeros((9, 48))})


def test_long_lists_are_cut_short():
    with pytest.raises(CheckpointError, match=r"and \d+ more") as caught:
        load_changed("delay", lambda weights: {k: v for k, v in weights.items() if "layers" not in k})
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(("weights_of", "config_of"), [("delay", "local"), ("local", "delay"), ("local_v1_5", "delay")])
def test_weights_of_another_architecture_are_refused(weights_of, config_of):
    with pytest.raises(CheckpointError, match="lacks"):
        load_architecture(Path("x"), load_config(GOLDEN / config_of), stored(weights_of))


@pytest.mark.parametrize("other", ["model.norm.weight", "model.language_model.norm.weight", "backbone.norm.weight"])
def test_a_weight_may_not_be_there_twice_under_two_names(other):
    """Neither may win in silence."""
    with pytest.raises(CheckpointError, match="twice"):
        load_changed("delay", lambda weights: weights | {other: weights["language_model.norm.weight"]})


# ----------------------------------------------------------------------------------------------------- files


def small_file(path: Path) -> Path:
    mx.save_safetensors(str(path), {"a": mx.zeros((4, 4)), "b": mx.ones(3)})
    return path


@pytest.mark.parametrize("kept", [0, 4, 8, 30, -1])
def test_a_file_cut_off_anywhere_is_refused(tmp_path, kept):
    path = small_file(tmp_path / "model.safetensors")
    content = path.read_bytes()
    path.write_bytes(content[:kept])
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        read_weights(tmp_path)


def test_a_file_with_something_behind_it_is_refused(tmp_path):
    path = small_file(tmp_path / "model.safetensors")
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(CheckpointError, match="bytes long"):
        read_weights(tmp_path)


def header_file(path: Path, header: bytes, data: bytes = b"") -> Path:
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)
    return path


def test_a_type_that_mlx_does_not_have_is_refused(tmp_path):
    header_file(
        tmp_path / "model.safetensors", b'{"a": {"dtype": "F7", "shape": [1], "data_offsets": [0, 4]}}', bytes(4)
    )
    with pytest.raises(CheckpointError, match="has the type 'F7'; known: BOOL, "):
        read_weights(tmp_path)


@pytest.mark.parametrize(
    "header",
    [
        b"not json",
        b"\xff\xfe",
        b"[1, 2]",
        b'{"a": 3}',
        b'{"a": {"dtype": "F32", "shape": [1]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": "all"}}',
    ],
)
def test_a_broken_header_is_a_broken_file(tmp_path, header):
    path = header_file(tmp_path / "model.safetensors", header)
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        read_header(path)


def test_a_pytorch_file_by_another_name_is_no_safetensors_file(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"PK\x03\x04" + bytes(200))
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        read_weights(tmp_path)


def write_shards(directory: Path, names: list[str], weight_map: Any) -> Path:
    for number, name in enumerate(names):
        mx.save_safetensors(str(directory / name), {f"w{number}": mx.full(2, number)})
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return directory


SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]


def test_shards_are_read_by_their_index(tmp_path):
    write_shards(tmp_path, SHARDS, {"w0": SHARDS[0], "w1": SHARDS[1]})
    mx.save_safetensors(str(tmp_path / "model-old.safetensors"), {"w9": mx.zeros(1)})
    assert set(read_weights(tmp_path)) == {"w0", "w1"}


def test_a_missing_shard_is_named(tmp_path):
    write_shards(tmp_path, SHARDS[:1], {"w0": SHARDS[0], "w1": SHARDS[1]})
    with pytest.raises(CheckpointError, match=SHARDS[1]):
        read_weights(tmp_path)


@pytest.mark.parametrize("weight_map", [{}, [], None, {"w0": 3}])
def test_an_index_without_shards_is_refused(tmp_path, weight_map):
    with pytest.raises(CheckpointError, match=r"index\.json"):
        read_weights(write_shards(tmp_path, [], weight_map))


def test_a_directory_without_weights_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"holds no model\*\.safetensors"):
        read_weights(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'"text"', b"\xff"])
def test_json_that_is_no_object_is_refused(tmp_path, content):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        read_json(path)


def test_json_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"config\.json does not exist"):
        read_json(tmp_path / "config.json")


# ----------------------------------------------------------------------------------------------------- dtype


@pytest.mark.parametrize("asked", ["float16", "int8", "fp32", ""])
def test_only_types_that_can_be_computed_in_are_accepted(asked):
    with pytest.raises(RequestError, match=rf"float32, bfloat16, got '{asked}'"):
        compute_dtype(asked, mx.float32)


def test_float16_says_why():
    with pytest.raises(RequestError, match="overflows"):
        compute_dtype("float16", mx.float16)


def test_a_cpu_computes_in_float32_whatever_is_stored(monkeypatch):
    monkeypatch.setattr(mx, "default_device", lambda: mx.cpu)
    assert {compute_dtype(None, dtype) for dtype in (mx.float16, mx.bfloat16, mx.float32)} == {mx.float32}
    assert compute_dtype("bfloat16", mx.float32) == mx.bfloat16


def test_a_gpu_computes_in_what_is_stored_but_never_in_float16(monkeypatch):
    monkeypatch.setattr(mx, "default_device", lambda: mx.gpu)
    assert compute_dtype(None, mx.bfloat16) == mx.bfloat16
    assert compute_dtype(None, mx.float32) == mx.float32
    assert compute_dtype(None, mx.float16) == mx.bfloat16


def test_the_stored_type_is_that_of_most_values():
    weights = {"a": mx.zeros(9, mx.bfloat16), "b": mx.zeros(5, mx.float32), "c": mx.zeros(99, mx.uint32)}
    assert stored_dtype(weights) == mx.bfloat16


# ------------------------------------------------------------------------------------------------ quantising


@pytest.mark.parametrize("name", NAMES)
def test_what_may_be_quantised(name):
    """Embeddings, norms and audio heads stay, and Local's depth adapters; the big projections may go."""
    config = load_config(GOLDEN / name)
    architecture = ARCHITECTURES[type(config)]
    network = architecture.network_class(config)
    modules = dict(tree_flatten(network.leaf_modules(), is_leaf=nn.Module.is_module))
    may = {path for path, module in modules.items() if quantizable(path, module, architecture.protected)}
    refused = set(modules) - may
    names = ("attn.c_attn", "mlp.fc_out") if name == "nano" else ("self_attn.q_proj", "mlp.down_proj")
    assert {f"backbone.layers.{index}.{part}" for index, part in enumerate(names)} <= may
    for word in ("embedding", "norm", "audio_head", "lm_head", "adapter", "speech_embedding", "ln_"):
        assert not [path for path in may if word in path]
    assert {"delay": "audio_head", "local": "lm_heads.1", "local_v1_5": "local_text_lm_head"}.get(
        name, "audio_embedding"
    ) in refused
    assert [path for path in may if path.startswith("local_transformer")] or name == "delay"


def quantised_directory(directory: Path, name: str, bits: int, overrides: dict[str, Any]) -> Path:
    """A golden checkpoint, quantised with mlx alone and saved under our names."""
    config = load_config(GOLDEN / name)
    architecture = ARCHITECTURES[type(config)]
    network = architecture.network_class(config)
    load_strict(network, sanitized(name, stored(name)), architecture.layout)

    def choose(path: str, module: nn.Module) -> bool | dict[str, Any]:
        fits = isinstance(module, nn.Linear) and module.weight.shape[1] % 32 == 0
        return fits and quantizable(path, module, architecture.protected) and overrides.get(path, True)

    nn.quantize(network, group_size=32, bits=bits, class_predicate=choose)
    mx.save_safetensors(str(directory / "model.safetensors"), dict(tree_flatten(network.parameters())))
    raw = json.loads((GOLDEN / name / "config.json").read_text())
    raw["quantization"] = {"group_size": 32, "bits": bits, "mode": "affine"} | overrides
    raw["quantization_config"] = raw["quantization"]
    (directory / "config.json").write_text(json.dumps(raw))
    return directory


def hidden_states(directory: Path, name: str) -> np.ndarray:
    """Of the golden's first prompt."""
    architecture = load_architecture(directory, load_config(directory), read_weights(directory), "float32")
    network = architecture.network
    rows = mx.array(prompt_of(GOLDEN / name)[None])
    depth = () if name == "delay" else (architecture.config.n_vq,)
    return np.array(network(rows, network.backbone.make_cache([0]), *depth))


LAYER = "backbone.layers.0.mlp.down_proj"
OTHER_BITS = {"group_size": 32, "bits": 4}


@pytest.mark.parametrize("override", [None, OTHER_BITS, False], ids=["none", "other bits", "not at all"])
@pytest.mark.parametrize("name", NAMES)
def test_a_quantised_directory_loads_layer_by_layer(tmp_path, name, override):
    layer = LAYER.replace("down_proj", "fc_out") if name == "nano" else LAYER
    directory = quantised_directory(tmp_path, name, 8, {} if override is None else {layer: override})
    architecture = load_architecture(directory, load_config(directory), read_weights(directory), "float32")
    down = architecture.network.backbone.layers[0].mlp[layer.rpartition(".")[2]]
    wanted = {"bits": 8} if override is None else override
    assert isinstance(down, nn.QuantizedLinear) == (wanted is not False)
    if wanted:
        assert down.bits == wanted["bits"]
    loss = (1.0 if name == "nano" else 0.5) if wanted and wanted["bits"] == 4 else 0.1
    np.testing.assert_allclose(hidden_states(directory, name), hidden_states(GOLDEN / name, name), atol=loss)


def test_a_quantised_file_may_keep_upstreams_names(tmp_path):
    """Its overrides are named the same way."""
    directory = quantised_directory(tmp_path, "local_v1_5", 8, {LAYER: {"group_size": 32, "bits": 4}})
    layout = layout_of("local_v1_5")
    renamed = {layout.upstream_name(name): weight for name, weight in read_weights(directory).items()}
    mx.eval(renamed)
    mx.save_safetensors(str(directory / "model.safetensors"), renamed)
    raw = json.loads((directory / "config.json").read_text())
    raw["quantization"][layout.upstream_name(LAYER)] = raw["quantization"].pop(LAYER)
    (directory / "config.json").write_text(json.dumps(raw))
    architecture = load_architecture(directory, load_config(directory), read_weights(directory))
    assert architecture.network.backbone.layers[0].mlp.down_proj.bits == 4
    assert architecture.network.backbone.layers[1].mlp.down_proj.bits == 8


def test_a_quantised_file_without_its_block_is_refused(tmp_path):
    directory = quantised_directory(tmp_path, "local_v1_5", 8, {})
    raw = json.loads((directory / "config.json").read_text())
    del raw["quantization"]
    (directory / "config.json").write_text(json.dumps(raw))
    with pytest.raises(CheckpointError, match=r"scales|shape"):
        load_architecture(directory, load_config(directory), read_weights(directory))


@pytest.mark.parametrize(
    "block",
    [
        {"group_size": 32, "bits": 4},  # not the bits of the file
        {"group_size": 32, "bits": 77},
        {"group_size": 32, "bits": 8, "mode": "ternary"},
        {"group_size": "32", "bits": 8},
        {"group_size": 0, "bits": 8},
        {"group_size": 32, "bits": 8, "backbone.layers.0.mlp.up_proj": {"group_size": 0, "bits": 8}},
        {"group_size": 10**400, "bits": 8},
        {"group_size": 32, "bits": 8, "backbone.norm": {"bits": 8}},
    ],
)
def test_a_quantization_block_that_cannot_be_is_refused(tmp_path, block):
    directory = quantised_directory(tmp_path, "local_v1_5", 8, {})
    raw = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(raw | {"quantization": block}))
    with pytest.raises(CheckpointError) as caught:
        load_architecture(directory, load_config(directory), read_weights(directory))
    assert len(str(caught.value)) < 700


def test_quantised_embeddings_of_other_converters_work_as_tied_heads():
    """Ours stay whole, but files of mlx-lm quantise embeddings, and Local v1.5's heads are embeddings."""
    config = load_config(GOLDEN / "local_v1_5")
    architecture = ARCHITECTURES[type(config)]
    network = architecture.network_class(config)
    load_strict(network, sanitized("local_v1_5", stored("local_v1_5")), architecture.layout)
    hidden = mx.random.normal((1, 64), key=mx.random.key(0))
    choices = mx.array([213, 210])
    whole = [network._code_logits(q, hidden) for q in range(4)] + [hidden @ network.text_embedding.weight[choices].T]
    quantize(network, {"group_size": 32, "bits": 8}, lambda path, _: "embedding" in path)
    del network["local_text_lm_head"]
    packed = [network._code_logits(q, hidden) for q in range(4)] + [network._text_logits(hidden, choices)]
    for made, wanted in zip(packed, whole, strict=True):
        np.testing.assert_allclose(np.array(made), np.array(wanted), atol=0.05)


def with_quantised(directory: Path, parts: str, settings: dict[str, Any]) -> Path:
    """Quantise matrices of a checkpoint one by one, as files of other converters have them."""
    weights = read_weights(directory)
    for name in [name for name in weights if name.startswith(parts)]:
        stem = name.removesuffix("weight")
        packed = mx.quantize(weights[name], **settings[stem.removesuffix(".")])
        weights |= {
            f"{stem}{suffix}": part for suffix, part in zip(("weight", "scales", "biases"), packed, strict=True)
        }
    mx.eval(weights)
    mx.save_safetensors(str(directory / "model.safetensors"), weights)
    raw = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(raw | {"quantization": {"bits": 4, "group_size": 64} | settings}))
    return directory


def test_overrides_may_name_the_head_of_each_codebook(copied):
    settings = {f"lm_heads.{index}": {"group_size": 32, "bits": 8} for index in range(5)}
    settings["text_lm_head"] = {"group_size": 32, "bits": 8}
    directory = with_quantised(copied("delay"), "lm_heads.", settings)
    with pytest.raises(CheckpointError, match="settings for text_lm_head, which this network does not have"):
        moss_tts.load(directory)
    raw = json.loads((directory / "config.json").read_text())
    del raw["quantization"]["text_lm_head"]
    (directory / "config.json").write_text(json.dumps(raw))
    network = load_architecture(directory, load_config(directory), read_weights(directory)).network
    assert (network.audio_head.bits, network.audio_head.group_size) == (8, 32)
    raw["quantization"]["lm_heads.3"]["bits"] = 6
    (directory / "config.json").write_text(json.dumps(raw))
    with pytest.raises(CheckpointError, match=r"other settings for lm_heads\.3 than for another codebook"):
        moss_tts.load(directory)


def test_local_v1_5_speaks_with_quantised_embeddings(copied):
    settings = {f"audio_embeddings.{index}": {"group_size": 32, "bits": 8} for index in range(4)}
    directory = with_quantised(copied("local_v1_5"), "audio_embeddings.", settings)
    assert len(moss_tts.load(directory).say("Hello.", seed=1, max_tokens=3).audio)


def test_codebooks_that_are_stored_in_different_bits_are_refused(copied):
    settings = {f"lm_heads.{index}": {"group_size": 32, "bits": 4 + 4 * (index > 2)} for index in range(5)}
    with pytest.raises(CheckpointError, match=r"lm_heads\.3"):
        moss_tts.load(with_quantised(copied("delay"), "lm_heads.", settings))
