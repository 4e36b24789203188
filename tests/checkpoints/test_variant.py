"""Which variant a checkpoint is, by the place where it lies and by what it was converted from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from moss_tts.checkpoints.loading import CheckpointSource, find_checkpoint
from moss_tts.checkpoints.variant import Variant, variant_of
from support.command_line import runner
from support.hub import COMMIT


def variant(name: str | Path) -> Variant:
    return variant_of(find_checkpoint(name), "moss_tts")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("MOSS-TTSD-v1.0", "ttsd"),
        ("MOSS-TTSD-v1.0/8bit", "ttsd"),
        ("MOSS-TTSD-v1.0/mlx-bf16", "ttsd"),
        ("moss-ttsd-de/checkpoint-500", "ttsd"),
        ("moss-ttsd-de/checkpoint-epoch-2/final", "ttsd"),
        ("ttsd-study/moss-tts-de", "moss_tts"),
        ("ttsd-study/moss-tts-de/checkpoint-500", "moss_tts"),
        (f"models--OpenMOSS-Team--MOSS-TTSD-v1.0/snapshots/{COMMIT}", "ttsd"),
        (f"models--me--ttsd-tunes/snapshots/{COMMIT}/german", "ttsd"),
        (f"models--me--ttsd-tunes/snapshots/{COMMIT}/voice-generator", "voice_generator"),
        (f"models--ttsd--MOSS-TTS/snapshots/{COMMIT}", "moss_tts"),
    ],
)
def test_directories(checkpoints, monkeypatch, tmp_path, path, expected):
    directory = tmp_path / path
    directory.mkdir(parents=True)
    (directory / "config.json").write_bytes((checkpoints["delay"] / "config.json").read_bytes())
    assert variant(directory).preset.name == expected
    monkeypatch.chdir(directory)
    assert variant(".").preset.name == expected
    (tmp_path / "latest").symlink_to(directory)
    assert variant(tmp_path / "latest").preset.name == expected


@pytest.mark.parametrize(
    ("name", "told_by"),
    [
        ("OpenMOSS-Team/MOSS-TTSD-v1.0", "told by 'ttsd' in its name"),
        ("me/MOSS-TTSD-v1.0/german", "told by 'ttsd' in 'MOSS-TTSD-v1.0'"),
        ("ttsd/MOSS-TTS", "the default of its architecture"),
    ],
)
def test_names_of_the_hub(checkpoints, name, told_by):
    assert variant_of(CheckpointSource(name, checkpoints["delay"], from_hub=True), "moss_tts").told_by == told_by


def test_a_link_has_a_name_of_its_own(checkpoints, tmp_path):
    (tmp_path / "MOSS-TTSD").symlink_to(checkpoints["delay"])
    assert variant(tmp_path / "MOSS-TTSD").told_by == "told by 'ttsd' in its name"
    (tmp_path / "moss-ttsd-de").mkdir()
    (tmp_path / "moss-ttsd-de" / "8bit").symlink_to(checkpoints["delay"])
    assert variant(tmp_path / "moss-ttsd-de" / "8bit").told_by == "told by 'ttsd' in 'moss-ttsd-de'"


def test_a_copy_of_a_copy_is_of_the_same_variant(capsys, checkpoints, tmp_path):
    run, source = runner(capsys), tmp_path / "moss-ttsd-de" / "checkpoint-500"
    shutil.copytree(checkpoints["delay"], source)
    for target in ("first", "second"):
        assert run("convert", "--hf-path", source, "--mlx-path", tmp_path / target, "--no-codec").code == 0
        source = tmp_path / target
        told_by = "told by 'ttsd' in 'moss-ttsd-de', the source that config.json names"
        assert variant(source).told_by == told_by
    again = tmp_path / "moss-voice-generator"
    assert run("convert", "--hf-path", source, "--mlx-path", again, "--no-codec").code == 0
    assert variant(again).preset.name == "voice_generator"
    assert json.loads((again / "config.json").read_text())["_name_or_path"] == "moss-ttsd-de"
