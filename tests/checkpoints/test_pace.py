"""Estimates of how fast checkpoints and their conversions speak on a CPU."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from moss_tts.checkpoints import pace
from moss_tts.checkpoints.convert import convert
from moss_tts.checkpoints.footprint import WAYS
from moss_tts.checkpoints.loading import CheckpointSource, load_architecture, load_config
from moss_tts.checkpoints.plan import plan
from moss_tts.cli.inspection_text import pace_lines, packed_weights
from moss_tts.device import kernels, packed
from moss_tts.device.packed import PackedState
from moss_tts.weights.layout import read_weights
from support.command_line import runner

GOLDEN = Path(__file__).parents[1] / "golden" / "local_v1_5"

needs_door = pytest.mark.skipif(not packed.state().in_use, reason="no OpenBLAS or no C++ compiler here")


@pytest.fixture
def memory_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a small network were large, on a machine that reads 1 GB a second."""
    monkeypatch.setattr(pace, "LARGE", 0)
    monkeypatch.setattr(pace, "read_bandwidth", lambda *_: {"mlx": 1e9})
    monkeypatch.setattr(kernels, "LARGEST_TURNED", 0)


@needs_door
@pytest.mark.usefixtures("memory_decides")
def test_a_pace_is_that_of_the_loaded_copy(tmp_path: Path) -> None:
    config = load_config(GOLDEN)
    found = pace.paces(GOLDEN, config)
    assert tuple(found) == pace.SHOWN
    for way, estimate in found.items():
        directory = GOLDEN
        if way:
            directory = tmp_path / way
            planned = plan(GOLDEN, config, WAYS[way])
            convert(CheckpointSource(str(GOLDEN), GOLDEN, from_hub=False), directory, planned)
        copy = load_config(directory)
        made = load_architecture(directory, copy, read_weights(directory)).bytes_per_frame()
        assert estimate.frame_bytes == made
        assert estimate.times_real_time == pytest.approx(pace.REACHED * 1e9 / made / 12.5)
        assert len(pace.paces(directory, copy)) == (1 if way else len(pace.SHOWN))
    sizes = [estimate.frame_bytes for estimate in found.values()]
    assert sizes == sorted(sizes, reverse=True)
    assert [line.split(":")[0].partition(" if ")[2] for _, line in pace_lines(found)] == [
        f"converted with {way}" if way else "" for way in pace.SHOWN
    ]


@needs_door
def test_small_networks_and_other_machines_have_no_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pace.paces(GOLDEN, load_config(GOLDEN)) == {}
    monkeypatch.setattr(pace, "LARGE", 0)
    monkeypatch.setattr(packed, "_state", PackedState(error="no compiler"))
    assert pace.paces(GOLDEN, load_config(GOLDEN)) == {}


@needs_door
@pytest.mark.usefixtures("memory_decides")
def test_convert_names_the_fastest_conversion(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    ended = runner(capsys)("convert", "--hf-path", GOLDEN, "--mlx-path", tmp_path / "copy", "--no-codec")
    assert ended.code == 0
    assert "fastest on this CPU: the source with -q --q-bits 4, about" in ended.out + ended.err


def test_words_say_what_helps_without_a_compiler(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken = PackedState(error="there is no C++ compiler")
    assert "apt install g++" in packed_weights(broken)
    assert "as they are stored" in packed_weights(PackedState(in_use=True))
    monkeypatch.setattr(packed, "_state", broken)
    packed.advise.cache_clear()
    with caplog.at_level(logging.WARNING):
        packed.advise()
        packed.advise()
    packed.advise.cache_clear()
    assert [record.getMessage() for record in caplog.records] == [packed.SLOW.format(broken.error)]
