"""What people give as a model that is none: the message says what it is, and what to give."""

from __future__ import annotations

import json
import shutil

import mlx.core as mx
import pytest

from moss_tts.checkpoints.loading import find_checkpoint
from moss_tts.checkpoints.tokenizer import load_tokenizer
from moss_tts.device.memory import size
from moss_tts.errors import CheckpointError
from moss_tts.kinds import load
from moss_tts.weights.layout import INDEX_FILE, read_weights

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 4000000000\n"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("https://huggingface.co/OpenMOSS-Team/MOSS-TTS", "is an address; on the hub .* 'OpenMOSS-Team/MOSS-TTS'"),
        ("https://hf.co/OpenMOSS-Team/MOSS-TTS/tree/main", "is an address; on the hub .* 'OpenMOSS-Team/MOSS-TTS'"),
        ("huggingface.co/OpenMOSS-Team/MOSS-TTS?x=1", "is an address; on the hub .* 'OpenMOSS-Team/MOSS-TTS'"),
        ("huggingface.co/OpenMOSS-Team/MOSS-TTS", "is an address; on the hub .* 'OpenMOSS-Team/MOSS-TTS'"),
        ("https://example.org/model.zip", "is an address, and checkpoints are not read from addresses; download it"),
        ("file:///models/x", "is an address"),
        ("OpenMOSS-Team/MOSS-TTS/", "a hub id has no / at its end: .* give 'OpenMOSS-Team/MOSS-TTS'"),
        ("./no/such/place", "neither a directory nor a hub id"),
    ],
)
def test_names_that_are_no_checkpoint_are_told_what_they_are(name, said):
    with pytest.raises(CheckpointError, match=said):
        find_checkpoint(name)


def test_a_file_is_told_from_its_directory(checkpoints, tmp_path):
    weights = checkpoints["delay"] / "model.safetensors"
    with pytest.raises(CheckpointError, match=f"is a file; .* give '{weights.parent}'"):
        find_checkpoint(weights)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(CheckpointError, match=r"is a file; a checkpoint is the directory .* the weights\.$"):
        find_checkpoint(tmp_path / "notes.txt")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", INDEX_FILE])
def test_git_lfs_pointers_are_named(checkpoints, tmp_path, name):
    directory = tmp_path / "copy"
    shutil.copytree(checkpoints["delay"], directory)
    (directory / name).write_text(POINTER)
    read = load_tokenizer if name == "tokenizer.json" else load
    with pytest.raises(CheckpointError, match=f"{name} is a git-lfs pointer.*git lfs pull"):
        read(directory)


def stale_index(directory):
    names = read_weights(directory)
    index = {"weight_map": {name: "model-00001-of-00002.safetensors" for name in names}}
    (directory / INDEX_FILE).write_text(json.dumps(index))


def test_a_stale_index_gives_way_to_a_whole_file(checkpoints, tmp_path, caplog):
    directory = tmp_path / "copy"
    shutil.copytree(checkpoints["delay"], directory)
    before = read_weights(directory)
    stale_index(directory)
    after = read_weights(directory)
    assert before.keys() == after.keys()
    assert all(mx.array_equal(before[name], after[name]) for name in before)
    assert "names shards that are not there" in caplog.text


def test_a_stale_index_without_a_whole_file_is_refused(checkpoints, tmp_path):
    directory = tmp_path / "copy"
    shutil.copytree(checkpoints["delay"], directory)
    stale_index(directory)
    (directory / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="names shards that are not there"):
        read_weights(directory)


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (10_000, "0.01 MB"),
        (44_300_000, "44.3 MB"),
        (99_990_000, "100 MB"),
        (100_000_000, "0.10 GB"),
        (16_000_000_000, "16.00 GB"),
    ],
)
def test_small_sizes_are_in_smaller_units(count, shown):
    assert size(count) == shown
