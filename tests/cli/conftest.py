"""What tests of the command line share."""

from __future__ import annotations

import pytest

from support.command_line import Run, pipe, runner


@pytest.fixture
def run(capsys, monkeypatch, tmp_path) -> Run:
    """Run moss-tts in an empty directory with nothing on its standard input."""
    monkeypatch.chdir(tmp_path)
    pipe(monkeypatch, "")
    return runner(capsys)
