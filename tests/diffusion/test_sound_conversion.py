"""Copies of a sound model at other precisions: its transformer's blocks change, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

import moss_tts
from moss_tts.checkpoints.loading import find_checkpoint
from moss_tts.diffusion.conversion import convert_sound, plan_sound
from moss_tts.diffusion.inspection import inspect_sound_model, memory_of
from moss_tts.diffusion.loading import SoundFiles
from moss_tts.errors import CheckpointError, RequestError
from moss_tts.weights.layout import read_safetensors
from moss_tts.weights.quantisation import recipe_of
from moss_tts.weights.shards import check_sums
from support.command_line import runner
from support.sounds import GOLDEN, write_sound_model

RAIN = {"ambient_sound": "Rain on tin.", "seconds": 0.5, "steps": 3, "seed": 1}


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    return write_sound_model(tmp_path_factory.mktemp("sounds") / "source")


def copy_of(
    source: Path, target: Path, bits: int | None = None, dtype: mx.Dtype | None = None, group_size: int = 32
) -> Path:
    files = SoundFiles.find(source)
    recipe = None if bits is None else recipe_of(bits=bits, group_size=group_size)
    convert_sound(find_checkpoint(source), target, files, plan_sound(files, recipe, dtype))
    return target


def sound(directory: Path, **options: str) -> np.ndarray:
    with moss_tts.load(directory, **options) as model:
        return np.array(model.say(**RAIN).audio)


def test_a_plain_copy_makes_the_same_sound(source, tmp_path):
    copy = copy_of(source, tmp_path / "copy")
    np.testing.assert_array_equal(sound(copy), sound(source))
    assert check_sums(copy / "transformer") == [str(copy / "transformer/model.safetensors")]
    assert 'moss-tts sound "Rain on a tin roof" --model copy' in (copy / "README.md").read_text()


def test_bfloat16_is_stored_as_it_is_computed(source, tmp_path):
    copy = copy_of(source, tmp_path / "copy", dtype=mx.bfloat16)
    np.testing.assert_array_equal(sound(copy, dtype="bfloat16"), sound(source, dtype="bfloat16"))
    kinds = {name: weight.dtype for name, weight in read_safetensors(copy / "transformer/model.safetensors").items()}
    assert kinds["blocks.0.attn1.to_q.weight"] == mx.bfloat16
    assert kinds["blocks.0.scale_shift_table"] == kinds["proj_out.weight"] == mx.float32


@pytest.mark.parametrize(("bits", "far"), [(8, 0.02), (4, 0.3)])
def test_blocks_are_quantised_and_nothing_else(source, tmp_path, bits: int, far: float):
    copy = copy_of(source, tmp_path / "copy", bits)
    plain, made = sound(source), sound(copy)
    assert 0 < np.std(made - plain) / np.std(plain) < far
    stored = read_safetensors(copy / "transformer/model.safetensors")
    quantised = {name.removesuffix(".scales") for name in stored if name.endswith(".scales")}
    assert len(quantised) == 2 * 10
    assert all(name.startswith("blocks.") for name in quantised)
    assert json.loads((copy / "model_index.json").read_text())["quantization"]["bits"] == bits
    assert inspect_sound_model(copy).parameters == inspect_sound_model(source).parameters
    for path in (source / "text_encoder").iterdir():
        assert path.read_bytes() == (copy / "text_encoder" / path.name).read_bytes()


def test_what_cannot_be_converted_is_refused(source, tmp_path):
    files = SoundFiles.find(copy_of(source, tmp_path / "copy", 8))
    for recipe, where, message in (
        (recipe_of(bits=4), files, "is quantised already; convert the model it was made from"),
        (recipe_of("mixed_4_8"), SoundFiles.find(source), "give a sound model --q-bits alone"),
        (recipe_of(bits=4), SoundFiles.find(GOLDEN), "a width that is a multiple of 64; use a smaller group"),
    ):
        with pytest.raises(RequestError, match=message):
            plan_sound(where, recipe, None)


def test_the_command_converts_sound_models(source, tmp_path, capsys):
    run, copy = runner(capsys), tmp_path / "copy"
    done = run("convert", "--hf-path", source, "--mlx-path", copy, "-q", "--q-group-size", 32)
    assert (done.code, SoundFiles.find(copy).config.pipeline.quantization["bits"]) == (0, 4)


def test_the_memory_of_a_copy_is_foretold(source, tmp_path):
    files = SoundFiles.find(source)
    memory = memory_of(files, "float32")
    for bits in (8, 4):
        copy = SoundFiles.find(copy_of(source, tmp_path / str(bits), bits, group_size=64))
        assert memory_of(copy, "float32").transformer == memory.smaller[f"-q --q-bits {bits}"]
    with pytest.raises(CheckpointError, match="With `moss-tts convert -q --q-bits 8` it would need"):
        moss_tts.load(source, max_memory=memory.needed() - 1)
    with pytest.raises(CheckpointError, match="Even with the fewest sensible bits"):
        moss_tts.load(source, max_memory=1000)
    with pytest.raises(RequestError, match="max_memory must be a number of bytes above 0, got 0"):
        moss_tts.load(source, max_memory=0)
