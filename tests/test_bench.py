"""moss-tts bench: figures that hang together, of any architecture."""

from __future__ import annotations

import json
from functools import partial

import pytest

from moss_tts import bench as measure
from moss_tts import cli, load
from moss_tts.checkpoints.demo import write_demo_checkpoint
from moss_tts.device.bandwidth import read_bandwidth

FRAMES = 10


@pytest.fixture(autouse=True)
def small_probe(monkeypatch):
    monkeypatch.setattr(measure, "read_bandwidth", lambda _: read_bandwidth(megabytes=1, repeats=1))


@pytest.mark.parametrize("architecture", ["delay", "local", "local_v1_5", "nano", "realtime"])
def test_figures_hang_together(tmp_path, architecture):
    demo = write_demo_checkpoint(tmp_path / "demo", architecture)
    measured = measure.bench(partial(load, demo), FRAMES)
    assert measured.row_bytes == load(demo).architecture.bytes_per_frame() > 0
    assert 0 < measured.floor_fraction
    assert measured.weights <= measured.peak
    assert 0 < measured.spoken <= (FRAMES + 1) / measured.frame_rate
    assert 0 < measured.first_audio <= measured.took
    assert measured.real_time_factor == measured.spoken / measured.took
    assert measured.prompt_rows > 10


def test_the_command_prints_for_people_and_for_machines(tmp_path, capsys):
    demo = write_demo_checkpoint(tmp_path / "demo", "delay")
    outputs = []
    for flags in ([], ["--json", "--codec-dtype", "bfloat16"]):
        with pytest.raises(SystemExit) as ended:
            cli.main(["bench", "--model", str(demo), "--frames", str(FRAMES), *flags])
        assert ended.value.code == 0
        outputs.append(capsys.readouterr().out)
    assert "the speed that memory allows" in outputs[0]
    assert json.loads(outputs[1])["rows_per_second"] > 0
