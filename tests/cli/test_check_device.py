"""moss-tts check-device: one page for people, whatever the machine does."""

from __future__ import annotations

import getpass
import re
import socket

import pytest

from moss_tts import bench, cli
from moss_tts.checkpoints.demo import write_demo_checkpoint
from moss_tts.device.bandwidth import read_bandwidth
from moss_tts.errors import CheckFailedError
from moss_tts.evidence import checks
from moss_tts.evidence.checks import Check


def passes() -> None:
    pass


def fails() -> None:
    raise CheckFailedError("rows: 1 of 2 | values differ.")


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """Runs the command with checks of its own, in an empty directory: (exit code, page, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bench, "read_bandwidth", lambda _: read_bandwidth(megabytes=1, repeats=1))
    monkeypatch.setattr("moss_tts.checkpoints.packaged.DIRECTORY", write_demo_checkpoint(tmp_path / "demo"))

    def command(*arguments: str, found: tuple[Check, ...] = (Check("law of x", "It holds.", passes),)):
        monkeypatch.setattr(checks, "all_checks", lambda _: list(found))
        with pytest.raises(SystemExit) as ended:
            cli.main(["check-device", "--frames", "8", *arguments])
        page = tmp_path / "check-device.md"
        return ended.value.code, page.read_text() if page.exists() else "", capsys.readouterr().err

    return command


def test_a_page_says_what_holds_and_how_fast_it_is(run):
    code, page, errors = run()
    assert code == 0
    assert re.search(r"^# moss_tts on (cpu|gpu) \(.+\)\n\nWritten by .* \*\*All 1 checks hold\.\*\*", page)
    for line in (r"\| moss-tts-mlx \| \d", r"\| libraries \| mlx \d", r"\| ms to the first sound \| \d+ \|"):
        assert re.search(f"^{line}", page, flags=re.MULTILINE), line
    assert "| law of x | It holds. | holds |  | 0.0 |" in page
    assert "/issues/new?template=device.yml" in errors
    for secret in (socket.gethostname(), getpass.getuser(), "/tmp/", "/home/"):
        assert not re.search(rf"(?<!\w){re.escape(secret)}(?!\w)", page), secret


def test_what_does_not_hold_is_told_at_once_and_on_the_page(run):
    checks = (Check("law of x", "It holds.", passes), Check("law of y", "It holds too.", fails))
    code, page, errors = run(found=checks)
    assert code == 1
    assert "does not hold: law of y, It holds too. rows: 1 of 2 | values differ." in errors
    assert "**1 of 2 checks does not hold.**" in page
    assert "- law of y, It holds too. rows: 1 of 2 | values differ." in page
    assert "| law of y | It holds too. | **does not hold** |" in page


def test_a_checkpoint_has_a_column_of_its_own_or_a_reason(run, tmp_path):
    demo = write_demo_checkpoint(tmp_path / "mine", "nano")
    code, page, _ = run(str(demo))
    assert code == 0
    assert "|  | the packaged voice | mine |" in page
    assert str(tmp_path) not in page


def test_a_checkpoint_that_does_not_load_leaves_the_rest_of_the_page(run, tmp_path):
    broken = write_demo_checkpoint(tmp_path / "mine")
    (broken / "model.safetensors").write_bytes(b"")
    code, page, errors = run(str(broken))
    assert code == 1
    assert "| ms per frame, network |" in page
    assert re.search(r"^mine was not measured: model\.safetensors\b", page, re.MULTILINE)
    assert "warning: mine was not measured:" in errors


def test_a_mistyped_checkpoint_is_refused_before_the_work(run, tmp_path):
    code, page, errors = run(str(tmp_path / "nowhere"))
    assert (code, page) == (1, "")
    assert "is neither a directory nor a hub id" in errors


def test_a_page_without_a_place_is_refused_before_the_work(run):
    code, page, errors = run("--output", "nowhere/page.md")
    assert (code, page) == (2, "")
    assert "--output nowhere/page.md: there is no directory nowhere; make it, or name another." in errors
