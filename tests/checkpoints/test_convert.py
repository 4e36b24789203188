"""Converted checkpoints: the same tokens where nothing is quantised, and no copy that is not whole."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from huggingface_hub import constants, metadata_load
from huggingface_hub.errors import LocalTokenNotFoundError

from moss_tts import cli
from moss_tts import load as load_model
from moss_tts.architectures import ARCHITECTURES
from moss_tts.checkpoints import convert as convert_module
from moss_tts.checkpoints import upload
from moss_tts.checkpoints.convert import convert, shares_weights, weights_nbytes
from moss_tts.checkpoints.demo import write_demo_checkpoint
from moss_tts.checkpoints.loading import CheckpointSource, load_architecture, load_config, quantizable_modules
from moss_tts.checkpoints.plan import Plan, plan
from moss_tts.errors import CheckpointError, RequestError
from moss_tts.evidence import speech
from moss_tts.evidence.goldens import prompt_of
from moss_tts.weights import shards
from moss_tts.weights.layout import read_json, read_weights
from moss_tts.weights.quantisation import AFFINE_BITS, MIXED, MODES, Precision, Recipe, asked_recipe, recipe_of
from support.hub import cache_entry

GOLDEN = Path(__file__).parents[1] / "golden"
NAMES = ["delay", "local", "local_v1_5", "nano", "realtime"]
TEXT = "Hello there."


def source_of(directory: Path) -> CheckpointSource:
    return CheckpointSource(str(directory), directory, from_hub=False)


def converted(directory: Path, target: Path, recipe: Recipe | None = None, dtype: mx.Dtype | None = None) -> Path:
    convert(source_of(directory), target, plan(directory, load_config(directory), recipe, dtype))
    return target


def loaded(directory: Path) -> Any:
    return load_architecture(directory, load_config(directory), read_weights(directory), "float32").network


@pytest.fixture
def small_pieces(monkeypatch):
    """Several shards, several blocks of rows per tensor."""
    monkeypatch.setattr(shards, "SHARD_BYTES", 20_000)
    monkeypatch.setattr(shards, "BLOCK_BYTES", 1_000)


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    root = tmp_path_factory.mktemp("demos")
    return {name: write_demo_checkpoint(root / name, name) for name in NAMES}


# ------------------------------------------------------------------------------------------------ unquantised


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("name", [name for name in NAMES if name != "realtime"])
def test_an_unquantised_copy_says_the_same_tokens(tmp_path, name):
    copy = converted(GOLDEN / name, tmp_path / "copy")
    assert len(list(copy.glob("*.safetensors"))) > 1
    rows = []
    for folder in (GOLDEN / name, copy):
        prompt = prompt_of(GOLDEN / name)
        rows.append(speech.run(speech.upstream(folder), [prompt], [{"max_new_tokens": 12}])[0])
    np.testing.assert_array_equal(*rows)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("name", NAMES)
def test_an_unquantised_copy_holds_the_same_bytes(tmp_path, name):
    layout = ARCHITECTURES[type(load_config(GOLDEN / name))].layout
    wanted = {key: value for key, value in read_weights(GOLDEN / name).items() if not layout.drops(key)}
    made = read_weights(converted(GOLDEN / name, tmp_path / "copy"))
    assert made.keys() == wanted.keys()
    assert all(mx.array_equal(made[key], wanted[key]) for key in wanted)


@pytest.mark.usefixtures("small_pieces")
def test_shards_are_as_large_as_they_may_be_and_indexed(tmp_path):
    copy = converted(GOLDEN / "delay", tmp_path / "copy")
    index = read_json(copy / "model.safetensors.index.json")
    sizes: dict[str, list[int]] = {}
    for key, file in index["weight_map"].items():
        sizes.setdefault(file, []).append(read_weights(copy)[key].nbytes)
    assert sum(map(sum, sizes.values())) == index["metadata"]["total_size"]
    # A tensor that is larger by itself stands alone.
    assert all(sum(held) <= shards.SHARD_BYTES or len(held) == 1 for held in sizes.values())
    assert sorted(sizes) == sorted(path.name for path in copy.glob("*.safetensors"))


def test_a_type_is_that_of_every_float(tmp_path):
    copy = converted(GOLDEN / "local", tmp_path / "copy", dtype=mx.bfloat16)
    assert {weight.dtype for weight in read_weights(copy).values()} == {mx.bfloat16}
    assert read_json(copy / "config.json")["dtype"] == "bfloat16"
    for key, weight in read_weights(copy).items():
        assert mx.array_equal(weight, read_weights(GOLDEN / "local")[key].astype(mx.bfloat16))


def test_what_a_network_does_not_use_is_left_out(tmp_path):
    shutil.copytree(GOLDEN / "delay", tmp_path / "source")
    weights = read_weights(tmp_path / "source") | {
        "local_transformer.x.weight": mx.zeros((2, 2)),
        "a.num_batches_tracked": mx.array(3, mx.int64),
    }
    mx.eval(weights)
    mx.save_safetensors(str(tmp_path / "source" / "model.safetensors"), weights)
    copy = converted(tmp_path / "source", tmp_path / "copy")
    assert read_weights(copy).keys() == read_weights(GOLDEN / "delay").keys()


def test_a_copy_in_its_own_names_can_be_copied_again(tmp_path):
    first = converted(GOLDEN / "local_v1_5", tmp_path / "first", recipe_of(bits=8, group_size=32))
    second = converted(first, tmp_path / "second")
    assert read_json(second / "config.json")["quantization"] == read_json(first / "config.json")["quantization"]
    made, wanted = read_weights(second), read_weights(first)
    assert made.keys() == wanted.keys()
    assert all(mx.array_equal(made[key], wanted[key]) for key in wanted)
    with pytest.raises(RequestError, match="quantised already"):
        plan(first, load_config(first), recipe_of(bits=4))


# ------------------------------------------------------------------------------------------------- quantised

RECIPES = [
    *[pytest.param(recipe_of(bits=bits, group_size=32), id=f"{bits} bit") for bits in AFFINE_BITS],
    *[pytest.param(recipe_of(mode=mode), id=mode) for mode in MODES if mode != "affine"],
    *[pytest.param(recipe_of(name, group_size=32), id=name) for name in MIXED],
]


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_quantised_copy_is_what_mlx_makes_of_whole_matrices(tmp_path, recipe):
    """Rows are quantised block by block; that may not show."""
    demo = GOLDEN / "local_v1_5"
    config = load_config(demo)
    planned = plan(demo, config, recipe)
    copy = converted(demo, tmp_path / "copy", recipe)
    made, source = read_weights(copy), read_weights(demo)
    assert planned.precisions
    for module, precision in planned.precisions.items():
        whole = precision.quantize(source[f"{module}.weight"])
        for suffix, part in zip(("weight", "scales", "biases"), whole, strict=False):
            assert mx.array_equal(made[f"{module}.{suffix}"], part), module
    assert sum(weight.nbytes for weight in made.values()) == planned.nbytes
    network = loaded(copy)
    (hidden,) = {network(mx.zeros((1, 3, 5), mx.int32), network.backbone.make_cache([0]), 4).shape}
    assert hidden == (1, 3, 64)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_quantised_is_what_the_model_allows(tmp_path, demos, name):
    config = load_config(demos[name])
    kind = ARCHITECTURES[type(config)]
    network = loaded(converted(demos[name], tmp_path / "copy", recipe_of(bits=4, group_size=32)))
    packed = {path for path, module in network.named_modules() if isinstance(module, nn.QuantizedLinear)}
    may = quantizable_modules(kind.network_class(config), kind.protected)
    # Layers that share their input were joined under a name of their own.
    assert {path for path in packed if "_proj_" not in path} <= may
    assert any("q_proj_k_proj_v_proj" in path or "c_attn" in path for path in packed)
    assert not any("embedding" in path or path.startswith(kind.protected) for path in packed)


def test_bits_below_sixteen_lose_little_and_fewer_lose_more(tmp_path, demos):
    prompt = mx.zeros((1, 8, 5), mx.int32)

    def hidden(directory: Path) -> mx.array:
        network = loaded(directory)
        return network(prompt, network.backbone.make_cache([0]))

    whole = hidden(demos["delay"])
    losses = []
    for bits in (8, 6, 4, 3):
        copy = converted(demos["delay"], tmp_path / str(bits), recipe_of(bits=bits, group_size=32))
        losses.append(float(mx.abs(hidden(copy) - whole).mean()))
    assert losses == sorted(losses)
    assert 0 < losses[0] < 0.02


def test_a_mixed_recipe_gives_the_protected_layers_more(tmp_path):
    recipe = recipe_of("mixed_4_8", group_size=32)
    copy = converted(GOLDEN / "local_v1_5", tmp_path / "copy", recipe)
    block = read_json(copy / "config.json")["quantization"]
    assert (block["bits"], block["group_size"]) == (4, 32)
    assert all(one["bits"] == 8 for name, one in block.items() if isinstance(one, dict))
    network = loaded(copy)
    assert network.local_transformer.layers[0].mlp.fc_in.bits == 8
    assert network.backbone.layers[0].self_attn.o_proj.bits == 4


def test_which_layers_a_mixed_recipe_protects():
    """Both ends, and every third value and down projection between them; the depth transformer; the text head."""
    recipe = recipe_of("mixed_3_6")
    high = {
        index for index in range(32) if recipe.precision(f"backbone.layers.{index}.mlp.down_proj", 32) == recipe.high
    }
    assert {*range(4), *range(28, 32), 6, 9, 12} <= high
    assert 4 not in high
    assert recipe.precision("backbone.layers.0.self_attn.q_proj", 32) == recipe.low
    assert recipe.precision("backbone.layers.0.self_attn.v_proj", 32) == recipe.high
    assert recipe.precision("local_transformer.layers.3.mlp.up_proj", 32) == recipe.high
    assert recipe.precision("text_head", 32) == recipe.high


def test_a_layer_that_does_not_divide_stays_whole():
    """Delay's golden is 48 wide: only the feed-forward's way back, 96, divides by 32."""
    planned = plan(GOLDEN / "delay", load_config(GOLDEN / "delay"), recipe_of(bits=4, group_size=32))
    assert planned.precisions
    assert all(name.endswith(("down_proj", "o_proj")) for name in planned.precisions)
    with pytest.raises(RequestError, match="a multiple of 128"):
        plan(GOLDEN / "delay", load_config(GOLDEN / "delay"), recipe_of(bits=4, group_size=128))


def test_groups_of_sixteen_need_a_width_of_thirty_twos():
    """What mlx packs at a time."""
    planned = plan(GOLDEN / "delay", load_config(GOLDEN / "delay"), recipe_of(mode="nvfp4"))
    widths = {output.source.shape[1] for output in planned.outputs if len(output.slots) > 1}
    assert widths == {64, 96}


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        ({"bits": 7}, "q_bits must be 2, 3, 4, 5, 6 or 8"),
        ({"group_size": 48}, "q_group_size must be 32, 64 or 128"),
        ({"mode": "mxfp4", "bits": 8}, "q_bits must be 4 in mode mxfp4"),
        ({"mode": "int4"}, "affine, mxfp4, nvfp4, mxfp8"),
        ({"name": "mixed_1_2"}, "mixed_2_6"),
        ({"name": "mixed_3_6", "bits": 4}, "sets the bits itself"),
        ({"name": "mixed_3_6", "mode": "mxfp4"}, "mode affine only"),
    ],
)
def test_flags_that_cannot_be_say_what_can(flags, problem):
    with pytest.raises(RequestError, match=problem):
        recipe_of(**flags)


def test_flags_of_quantisation_without_quantize_are_refused():
    assert asked_recipe(False, None, None, None, None) is None
    with pytest.raises(RequestError, match="q_bits needs --quantize"):
        asked_recipe(False, None, 4, None, None)


@pytest.mark.parametrize("bits", AFFINE_BITS)
@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16])
def test_sizes_are_foretold(bits, dtype):
    precision = Precision.of(bits, 64)
    parts = precision.quantize(mx.zeros((3, 128), dtype))
    assert precision.nbytes((3, 128), dtype) == sum(part.nbytes for part in parts)


def test_memory_is_bounded_by_the_block_not_by_the_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "BLOCK_BYTES", 2**14)
    demo = write_demo_checkpoint(tmp_path / "demo", "local")
    planned = plan(demo, load_config(demo), recipe_of(bits=4, group_size=32))
    mx.synchronize()
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    convert(source_of(demo), tmp_path / "copy", planned)
    assert mx.get_peak_memory() - before < 10 * 2**14 < sum(w.nbytes for w in read_weights(demo).values()) / 2


# ---------------------------------------------------------------------------------------------- broken copies


def flip_a_bit(path: Path, place: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) - 1))] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("place", [0.4, 0.7, 1.0])
def test_one_flipped_bit_is_found(run, tmp_path, demos, place):
    copy = converted(demos["delay"], tmp_path / "copy", recipe_of(bits=4))
    assert "1 weight file is what convert wrote" in run("inspect", copy, "--verify")[1]
    flip_a_bit(copy / "model.safetensors", place)
    code, out, _ = run("inspect", copy, "--verify")
    assert code == 1
    assert "model.safetensors is not what was written" in out


def test_weights_are_hashed_once_and_not_at_each_load(tmp_path, demos, monkeypatch):
    copy = converted(demos["delay"], tmp_path / "copy", recipe_of(bits=4))
    monkeypatch.setattr(shards, "_sum_of", lambda path: pytest.fail(f"{path} was hashed"))
    load_model(copy, codec=demos["delay"] / "audio_tokenizer").codec()


def test_weights_without_sums_are_said_to_be_so(run, demos):
    code, out, _ = run("inspect", demos["delay"], "--verify")
    assert code == 0
    assert "no weight file has a sum" in out


def test_a_cut_off_copy_is_found_when_loading(tmp_path, demos):
    copy = converted(demos["delay"], tmp_path / "copy")
    content = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(content[:-1])
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        load_model(copy)


@pytest.mark.usefixtures("small_pieces")
def test_a_missing_shard_is_found_when_loading(tmp_path, demos):
    copy = converted(demos["delay"], tmp_path / "copy")
    name = sorted(path.name for path in copy.glob("*.safetensors"))[1]
    (copy / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        load_model(copy)


@pytest.mark.parametrize("content", ["", "not sums\n", "a b c\nd\n"])
def test_broken_sums_are_not_passed_over(run, tmp_path, demos, content):
    copy = converted(demos["delay"], tmp_path / "copy")
    (copy / shards.SUMS_FILE).write_text(content)
    code, out, _ = run("inspect", copy, "--verify")
    assert code == 1
    assert "weights.sha256" in out


def test_a_corrupted_codec_inside_is_found(run, tmp_path, demos):
    demo = shutil.copytree(demos["delay"], tmp_path / "source")
    convert(source_of(demo), tmp_path / "copy", plan(demo, load_config(demo)), codec=demo / "audio_tokenizer")
    flip_a_bit(tmp_path / "copy" / "audio_tokenizer" / "model.safetensors", 0.9)
    code, out, _ = run("inspect", tmp_path / "copy", "--verify")
    assert code == 1
    assert "not what was written" in out


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError("disk full"), RuntimeError])
def test_a_failed_conversion_leaves_nothing(tmp_path, demos, error):
    def fail(_: int) -> None:
        raise error

    planned = plan(demos["delay"], load_config(demos["delay"]))
    with pytest.raises(error if isinstance(error, type) else type(error)):
        convert(source_of(demos["delay"]), tmp_path / "copy", planned, on_bytes=fail)
    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, sys
from pathlib import Path
from moss_tts.checkpoints.plan import plan
from moss_tts.checkpoints.convert import convert
from moss_tts.checkpoints.loading import CheckpointSource, load_config

source, target, after = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
written = []

def die(count):
    written.append(count)
    if len(written) > after:
        os._exit(9)

convert(CheckpointSource(str(source), source, False), target, plan(source, load_config(source)), on_bytes=die)
"""


@pytest.mark.parametrize("after", [0, 20])
def test_a_conversion_killed_without_a_chance_to_clean_up_leaves_nothing_that_loads(tmp_path, demos, after):
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(demos["delay"]), str(tmp_path / "copy"), str(after)]
    assert subprocess.run(command, check=False, env=os.environ).returncode == 9
    assert not (tmp_path / "copy").exists()
    (left,) = tmp_path.iterdir()
    assert left.name.endswith(".incomplete")
    with pytest.raises(CheckpointError, match=r"config\.json does not exist"):
        load_model(left)


def test_nothing_is_written_over(tmp_path, demos):
    (tmp_path / "copy").mkdir()
    with pytest.raises(CheckpointError, match="exists already"):
        converted(demos["delay"], tmp_path / "copy")


def test_a_disk_that_is_too_small_is_noticed_before_anything_is_written(tmp_path, demos, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 99, 1))  # type: ignore[attr-defined]
    with pytest.raises(CheckpointError, match=r"0\.001 MB left|\d B left"):
        converted(demos["delay"], tmp_path / "copy")
    assert list(tmp_path.iterdir()) == []


def test_weights_that_do_not_fit_are_noticed_before_anything_is_written(tmp_path):
    shutil.copytree(GOLDEN / "delay", tmp_path / "source")
    raw = read_json(tmp_path / "source" / "config.json")
    (tmp_path / "source" / "config.json").write_text(json.dumps(raw | {"n_vq": 5}))
    with pytest.raises(CheckpointError, match="lacks"):
        plan(tmp_path / "source", load_config(tmp_path / "source"))


# --------------------------------------------------------------------------------------------------- command


@pytest.fixture
def run(capsys):
    def command(*arguments: Any) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return ended.value.code, out, err

    return command


def test_a_copy_is_a_checkpoint_of_its_own(run, tmp_path, demos):
    """Converted with its codec, it speaks without the source, as the source does."""
    shutil.copytree(demos["delay"], tmp_path / "MOSS-TTSD-demo")
    copy = tmp_path / "deep" / "copy"
    code, out, _ = run("convert", "--hf-path", tmp_path / "MOSS-TTSD-demo", "--mlx-path", copy, "--with-codec")
    assert code == 0
    assert " MB, 32.00 bits per weight" in out
    speech = []
    for directory in (tmp_path / "MOSS-TTSD-demo", copy):
        model = load_model(directory)
        assert model.preset.name == "ttsd"
        speech.append(next(model.generate(TEXT, seed=3, max_tokens=8)).audio)
    np.testing.assert_array_equal(*speech)


@pytest.mark.parametrize("name", NAMES)
def test_a_quantised_copy_speaks(run, tmp_path, demos, name):
    copy = tmp_path / "copy"
    flags = ["-q", "--q-bits", "8", "--q-group-size", "32", "--with-codec", "--dtype", "bfloat16"]
    assert run("convert", "--hf-path", demos[name], "--mlx-path", copy, *flags)[0] == 0
    ended = run("generate", TEXT, "--model", copy, "-o", tmp_path / "a.wav", "--max-tokens", "8", "--seed", "1")
    assert ended[0] == 0
    assert (tmp_path / "a.wav").stat().st_size > 1000
    assert run("inspect", copy)[0] == 0


# ----------------------------------------------------------------------------------------------------- codec


def spoken(directory: Path) -> np.ndarray:
    return next(load_model(directory).generate(TEXT, seed=3, max_tokens=8)).audio


def test_a_copy_keeps_the_codec_without_being_asked_and_speaks_when_its_source_is_gone(run, tmp_path, demos):
    source, copy = Path(shutil.copytree(demos["delay"], tmp_path / "source")), tmp_path / "copy"
    code, out, err = run("convert", "--hf-path", source, "--mlx-path", copy)
    assert code == 0, err
    assert "with its codec, 0.438 MB, which shares the files of the source and takes no space" in out
    assert "absent: the codec" not in out
    weights = Path("audio_tokenizer") / "model.safetensors"
    assert (copy / weights).samefile(source / weights)
    # What people may edit is not shared.
    assert not (copy / "audio_tokenizer" / "config.json").samefile(source / "audio_tokenizer" / "config.json")
    before = spoken(source)
    shutil.rmtree(source)
    np.testing.assert_array_equal(spoken(copy), before)
    card = (copy / "README.md").read_text()
    assert "Its codec lies in audio_tokenizer, 0.438 MB." in card


def test_where_files_cannot_have_two_names_the_codec_is_copied_and_counted(tmp_path, demos, monkeypatch):
    def refuse(*_: Any) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    demo, codec = demos["delay"], demos["delay"] / "audio_tokenizer"
    planned, written = plan(demo, load_config(demo)), []
    convert(source_of(demo), tmp_path / "copy", planned, codec=codec, on_bytes=written.append)
    assert sum(written) == planned.nbytes + weights_nbytes(codec)
    copied = tmp_path / "copy" / "audio_tokenizer" / "model.safetensors"
    assert copied.read_bytes() == (codec / "model.safetensors").read_bytes()
    assert not shares_weights(codec, tmp_path / "copy")


def test_room_for_the_codec_is_asked_for_on_another_disk(tmp_path, demos, monkeypatch):
    demo, codec = demos["delay"], demos["delay"] / "audio_tokenizer"
    planned = plan(demo, load_config(demo))
    free = planned.nbytes + 1000
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(2 * free, free, free))  # type: ignore[attr-defined]
    monkeypatch.setattr(convert_module, "_one_disk", lambda *_: False)
    with pytest.raises(CheckpointError, match="on a disk with"):
        convert(source_of(demo), tmp_path / "copy", planned, codec=codec)
    monkeypatch.setattr(convert_module, "_one_disk", lambda *_: True)
    convert(source_of(demo), tmp_path / "copy", planned, codec=codec)


def test_a_copy_to_publish_leaves_the_codec_out_and_says_what_to_do(run, tmp_path, demos):
    copy = tmp_path / "copy"
    code, out, _ = run("convert", "--hf-path", demos["delay"], "--mlx-path", copy, "--no-codec")
    assert code == 0
    assert "absent: the codec (convert again without --no-codec" in out
    assert not (copy / "audio_tokenizer").exists()
    assert "Its codec, OpenMOSS-Team/MOSS-Audio-Tokenizer, is not in it" in (copy / "README.md").read_text()
    for command in (["generate", TEXT], ["bench"]):
        code, _, err = run(*command, "--model", copy)
        assert code == 1
        assert "--codec" in err
        assert "`moss-tts download OpenMOSS-Team/MOSS-Audio-Tokenizer`" in err
        assert "convert again without --no-codec" in err
    codec = ["--codec", demos["delay"] / "audio_tokenizer"]
    out = ["-o", tmp_path / "a.wav", "--max-tokens", "4"]
    assert run("generate", TEXT, "--model", copy, *codec, *out)[0] == 0


def test_a_copy_of_what_was_fetched_keeps_the_codec_that_was_fetched_for_it(run, tmp_path, demos, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    model = Path(shutil.copytree(demos["delay"], tmp_path / "model"))
    codec = (model / "audio_tokenizer").rename(tmp_path / "codec")
    cache_entry(tmp_path / "cache", "OpenMOSS-Team/MOSS-TTSD-v1.0", model)
    kept = cache_entry(tmp_path / "cache", "OpenMOSS-Team/MOSS-Audio-Tokenizer", codec)
    copy = tmp_path / "copy"
    code, _, err = run("convert", "--hf-path", "OpenMOSS-Team/MOSS-TTSD-v1.0", "--mlx-path", copy, "-q")
    assert code == 0, err
    assert (copy / "audio_tokenizer" / "model.safetensors").samefile(kept / "model.safetensors")
    assert not (copy / "audio_tokenizer" / "model.safetensors").is_symlink()
    assert load_model(copy).preset.name == "ttsd"
    assert run("models", "remove", "OpenMOSS-Team/MOSS-Audio-Tokenizer")[0] == 0
    assert spoken(copy).size > 0


def test_a_card_that_is_no_yaml_costs_the_licence_alone(run, tmp_path, demos):
    shutil.copytree(demos["delay"], tmp_path / "source")
    (tmp_path / "source" / "README.md").write_text("---\nlicense: [apache-2.0\n---\n# Source\n")
    code, _, err = run("convert", "--hf-path", tmp_path / "source", "--mlx-path", tmp_path / "copy")
    assert code == 0
    assert "licence" in err
    assert "license" not in metadata_load(tmp_path / "copy" / "README.md")


@pytest.mark.parametrize(
    ("flags", "code", "problem"),
    [
        (["--codec", "somewhere", "--no-codec"], 2, "--no-codec cannot be followed: --codec somewhere asks for one"),
        (["--with-codec"], 1, "has no codec"),
    ],
)
def test_flags_of_the_codec_that_cannot_be_followed(run, tmp_path, flags, code, problem):
    ended = run("convert", "--hf-path", GOLDEN / "delay", "--mlx-path", tmp_path / "copy", *flags)
    assert ended[0] == code
    assert problem in ended[2]


def test_what_was_absent_is_said(run, tmp_path):
    code, out, _ = run("convert", "--hf-path", GOLDEN / "delay", "--mlx-path", tmp_path / "copy")
    assert code == 0
    for name in ("tokenizer.json", "generation_config.json", "the codec"):
        assert f"absent: {name}" in out
    has_one = run("convert", "--hf-path", GOLDEN / "local", "--mlx-path", tmp_path / "other")
    assert "absent: generation_config.json" not in has_one[1]


def test_files_beside_the_weights_come_along(run, tmp_path, demos):
    run("convert", "--hf-path", demos["local"], "--mlx-path", tmp_path / "copy")
    beside = {path.name for path in demos["local"].iterdir() if path.is_file()} - {"model.safetensors", "config.json"}
    assert beside
    for name in beside:
        assert (tmp_path / "copy" / name).read_bytes() == (demos["local"] / name).read_bytes()


def test_a_checkpoint_fused_with_its_codec_stays_so(run, tmp_path, demos):
    fused = tmp_path / "fused"
    shutil.copytree(demos["delay"], fused)
    codec = read_weights(fused / "audio_tokenizer")
    weights = read_weights(fused) | {f"codec_model.{key}": weight for key, weight in codec.items()}
    mx.eval(weights)
    mx.save_safetensors(str(fused / "model.safetensors"), weights)
    raw = read_json(fused / "config.json") | {"codec_config": read_json(fused / "audio_tokenizer" / "config.json")}
    (fused / "config.json").write_text(json.dumps(raw))
    shutil.rmtree(fused / "audio_tokenizer")
    code, out, _ = run("convert", "--hf-path", fused, "--mlx-path", tmp_path / "copy", "-q", "--dtype", "bfloat16")
    assert code == 0
    assert "codec" not in out
    made = read_weights(tmp_path / "copy")
    assert all(mx.array_equal(made[f"codec_model.{key}"], weight) for key, weight in codec.items())
    assert next(load_model(tmp_path / "copy").generate(TEXT, max_tokens=4, seed=1)).samples > 0
    assert run("convert", "--hf-path", fused, "--mlx-path", tmp_path / "b", "--with-codec")[0] == 0
    code, _, err = run("convert", "--hf-path", fused, "--mlx-path", tmp_path / "c", "--no-codec")
    assert code == 2
    assert "is fused with its codec" in err


def test_the_model_card_says_where_it_comes_from(run, tmp_path, demos):
    shutil.copytree(demos["delay"], tmp_path / "source")
    (tmp_path / "source" / "README.md").write_text(
        "---\nlanguage: en\nlicense: other\nlicense_name: 'moss: 2'\n---\n# Source\n"
    )
    flags = ["-q", "--quant-predicate", "mixed_4_8", "--base-model", "OpenMOSS-Team/MOSS-TTS"]
    run("convert", "--hf-path", tmp_path / "source", "--mlx-path", tmp_path / "copy", *flags)
    card = (tmp_path / "copy" / "README.md").read_text()
    assert metadata_load(tmp_path / "copy" / "README.md") == {
        "library_name": "mlx",
        "pipeline_tag": "text-to-speech",
        "license": "other",
        "license_name": "moss: 2",
        "base_model": "OpenMOSS-Team/MOSS-TTS",
        "base_model_relation": "quantized",
        "tags": ["mlx", "moss-tts", "text-to-speech"],
    }
    assert "4 and 8 bit" in card
    assert str(tmp_path) not in card


@pytest.mark.parametrize(
    ("flags", "code", "problem"),
    [
        (["--q-bits", "4"], 2, "needs --quantize"),
        (["-q", "--q-bits", "7"], 2, "q_bits must be"),
        (["--dtype", "float16"], 2, "overflows"),
        (["--codec", "nowhere/at-all/"], 1, "nowhere"),
        (["--upload-repo", "not an id"], 2, "hub id"),
        (["--upload-repo", "me/copy"], 2, "needs a terminal"),
    ],
)
def test_a_bad_command_writes_nothing(run, tmp_path, demos, flags, code, problem):
    ended = run("convert", "--hf-path", demos["delay"], "--mlx-path", tmp_path / "copy", *flags)
    assert ended[0] == code
    assert problem in ended[2]
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_command_leaves_nothing(run, tmp_path, demos, monkeypatch):
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("moss_tts.checkpoints.convert.write_shards", interrupt)
    assert run("convert", "--hf-path", demos["delay"], "--mlx-path", tmp_path / "copy")[0] == 130
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("answer", ["y", "n", ""])
def test_an_upload_asks_first(run, tmp_path, demos, monkeypatch, answer):
    calls = []

    class Hub:
        def create_repo(self, repo, *, repo_type, exist_ok):
            calls.append((repo, repo_type, exist_ok))
            return f"https://huggingface.co/{repo}"

        def upload_folder(self, *, folder_path, repo_id, repo_type, commit_message):
            calls.append((folder_path, repo_id, repo_type))
            assert commit_message

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(upload, "HfApi", Hub)
    monkeypatch.setattr(cli.convert.sys, "stdin", Terminal(f"{answer}\n"))
    copy = tmp_path / "copy"
    code, out, _ = run("convert", "--hf-path", demos["delay"], "--mlx-path", copy, "--upload-repo", "me/copy")
    assert code == 0
    assert "Everybody will be able to see it." in out
    assert re.search(r"Upload .*, 1\.\d+ MB, to https", out)
    wanted = [("me/copy", "model", True), (copy, "me/copy", "model")]
    assert calls == (wanted if answer == "y" else [])
    assert copy.is_dir()


def test_an_upload_that_fails_says_why_and_the_card_names_the_repository(run, tmp_path, demos, monkeypatch):
    class Hub:
        def create_repo(self, *_: Any, **__: Any) -> str:
            raise LocalTokenNotFoundError("Token is required (`token=True`), but no token found. Traceback")

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(upload, "HfApi", Hub)
    monkeypatch.setattr(cli.convert.sys, "stdin", Terminal("y\n"))
    copy = tmp_path / "copy"
    code, _, err = run("convert", "--hf-path", demos["delay"], "--mlx-path", copy, "--upload-repo", "me/copy")
    assert code == 1
    assert (
        f"me/copy did not get {copy}, which is complete here: you are not logged in; log in with `hf auth login`" in err
    )
    assert "token=True" not in err
    assert "--model me/copy" in (copy / "README.md").read_text()


def test_a_plan_names_what_differs_from_the_usual():
    recipe = recipe_of("mixed_3_6")
    planned = Plan((), recipe, None, {"a": recipe.low, "b": recipe.high})
    assert planned.block == recipe.low.block | {"b": recipe.high.block}
