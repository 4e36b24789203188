"""Two readings into one output: the second is refused, whatever became of the first."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from moss_tts import cli
from moss_tts.books.work_lock import work_lock
from moss_tts.errors import RequestError

SRC = Path(__file__).parents[2] / "src"
HOLDER = """
import sys, time
from pathlib import Path
from moss_tts.books.work_lock import work_lock
with work_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_directory_is_one_readings_alone(tmp_path):
    work = tmp_path / "a.work"
    with work_lock(work):
        with pytest.raises(RequestError, match=r"a\.work is in use: another run .* choose another --output"):
            with work_lock(work):
                pass
        with work_lock(tmp_path / "b.work"):
            pass
    assert not work.exists()
    with work_lock(work):
        (work / "kept").touch()
    assert [file.name for file in work.iterdir()] == ["kept"]


def test_the_lock_goes_with_its_process(tmp_path):
    work = tmp_path / "a.work"
    environment = os.environ | {"PYTHONPATH": str(SRC)}
    with subprocess.Popen([sys.executable, "-c", HOLDER, work], env=environment, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"held\n"
            with pytest.raises(RequestError, match="in use"), work_lock(work):
                pass
        finally:
            process.kill()
    with work_lock(work):
        pass


def test_a_file_in_its_place_is_told(tmp_path):
    (tmp_path / "a.work").touch()
    with pytest.raises(RequestError, match="no directory"), work_lock(tmp_path / "a.work"):
        pass


def test_the_command_says_who_is_at_work(tmp_path, capsys, checkpoints):
    (tmp_path / "tales.md").write_text("# One\n\nHello there.\n")
    output = tmp_path / "tales"
    with work_lock(tmp_path / "tales.work"), pytest.raises(SystemExit) as ended:
        cli.main(["read", str(tmp_path / "tales.md"), "-m", str(checkpoints["delay"]), "-o", str(output)])
    assert ended.value.code == 2
    assert "is in use" in capsys.readouterr().err
