"""Files and directories appear whole or not at all: whatever fails, what was there stays and nothing lies beside it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from moss_tts.atomic import PlaceTakenError, atomic_directory, atomic_file, remove_directory


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.parametrize("before", [None, "old"])
def test_a_file_appears_at_the_end(tmp_path, before):
    file = tmp_path / "file"
    if before is not None:
        file.write_text(before)
    with atomic_file(file) as part:
        part.write_text("new")
        assert (file.read_text() if file.exists() else None) == before
    assert (file.read_text(), names(tmp_path)) == ("new", ["file"])


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize("before", [None, "old"])
def test_a_file_that_fails_changes_nothing(tmp_path, before, error):
    file = tmp_path / "file"
    if before is not None:
        file.write_text(before)

    def fail() -> None:
        with atomic_file(file) as part:
            part.write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert names(tmp_path) == ([] if before is None else ["file"])
    assert before is None or file.read_text() == before


def test_a_full_disk_is_told_with_the_name_of_the_file(tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")

    def write() -> None:
        with atomic_file(tmp_path / "letter") as part:
            part.symlink_to("/dev/full")
            part.write_text("x" * 100_000)

    with pytest.raises(OSError, match=r"No space left on device: .*letter") as raised:
        write()
    assert raised.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


def test_a_link_goes_on_pointing_where_it_did(tmp_path):
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_text("old")
    link.symlink_to(file)
    with atomic_file(link) as part:
        part.write_text("new")
    assert (link.is_symlink(), file.read_text()) == (True, "new")


def test_a_name_may_be_as_long_as_file_systems_allow(tmp_path):
    file, directory = tmp_path / ("ü" * 127), tmp_path / ("a" * 255)
    with atomic_file(file) as part:
        part.write_text("new")
    with atomic_directory(directory):
        pass
    assert (file.is_file(), directory.is_dir()) == (True, True)


def filled(directory: Path, text: str) -> Path:
    directory.mkdir(parents=True)
    (directory / "file").write_text(text)
    return directory


def test_a_directory_appears_at_the_end(tmp_path):
    directory = tmp_path / "above" / "directory"
    with atomic_directory(directory) as part:
        filled(part / "inside", "new")
        assert not directory.exists()
    assert (directory / "inside" / "file").read_text() == "new"
    assert names(directory.parent) == ["directory"]


@pytest.mark.parametrize("replace", [False, True])
def test_a_directory_that_fails_changes_nothing(tmp_path, replace):
    directory = filled(tmp_path / "directory", "old")

    def fail() -> None:
        with atomic_directory(directory, replace=replace) as part:
            (part / "file").write_text("half")
            raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        fail()
    assert ((directory / "file").read_text(), names(tmp_path)) == ("old", ["directory"])


@pytest.mark.parametrize("at_once", [False, True])
def test_a_directory_goes_only_where_that_is_wanted(tmp_path, monkeypatch, at_once):
    if not at_once:
        monkeypatch.setattr("moss_tts.atomic._exchanged", lambda *_: False)
    directory = filled(tmp_path / "directory", "old")

    def put(replace: bool) -> None:
        with atomic_directory(directory, replace=replace) as part:
            (part / "file").write_text("new")

    with pytest.raises(PlaceTakenError, match="not empty"):
        put(replace=False)
    assert ((directory / "file").read_text(), names(tmp_path)) == ("old", ["directory"])
    put(replace=True)
    assert ((directory / "file").read_text(), names(tmp_path)) == ("new", ["directory"])


def test_the_old_directory_comes_back_where_the_new_one_cannot_come(tmp_path, monkeypatch):
    directory, rename = filled(tmp_path / "directory", "old"), Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if target == directory and (self / "new").exists():
            raise OSError(28, "no space")
        return rename(self, target)

    monkeypatch.setattr("moss_tts.atomic._exchanged", lambda *_: False)
    monkeypatch.setattr(Path, "rename", refuse)

    def put() -> None:
        with atomic_directory(directory, replace=True) as part:
            (part / "new").touch()

    with pytest.raises(PlaceTakenError, match="no space"):
        put()
    assert ((directory / "file").read_text(), names(tmp_path)) == ("old", ["directory"])


def test_a_process_that_is_killed_leaves_nothing_of_that_name(tmp_path):
    script = """
import os, sys
from pathlib import Path
from moss_tts.atomic import PlaceTakenError, atomic_directory, atomic_file
with atomic_directory(Path(sys.argv[1], "directory")) as directory, atomic_file(Path(sys.argv[1], "file")) as file:
    file.write_text("half")
    os._exit(9)
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False, env=os.environ)
    assert done.returncode == 9
    assert len(names(tmp_path)) == 2
    assert all(name.startswith(".") and name.endswith(".incomplete") for name in names(tmp_path))


def test_a_directory_disappears(tmp_path):
    directory = filled(tmp_path / "directory", "old")
    remove_directory(directory)
    assert names(tmp_path) == []
    with pytest.raises(FileNotFoundError):
        remove_directory(directory)
