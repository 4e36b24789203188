"""Files that start the server with the machine, read by what reads them: systemd's own checker, plistlib."""

from __future__ import annotations

import configparser
import plistlib
import shutil
import subprocess
import sys

import pytest

from moss_tts import cli
from moss_tts.cli.service_files import KEY

ODD = 'a "b" 100% $HOME \\ c'
OPTIONS = ["--model", ODD, "--port", "9000", "--allow-host", "one", "--allow-host", "two", "--log-json"]
START = [sys.executable, "-m", "moss_tts", "serve"]


@pytest.fixture
def printed(capsys, monkeypatch, tmp_path):
    """Prints a service file, in an empty directory and without variables of this machine."""
    for name in ("HF_HOME", "HF_HUB_CACHE", "HF_TOKEN", "XDG_CACHE_HOME", "XDG_DATA_HOME", "LD_PRELOAD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MOSS_TTS_VOICES", "/voices 50%")
    monkeypatch.chdir(tmp_path)

    def run(manager: str, *more: str) -> tuple[str, str]:
        with pytest.raises(SystemExit) as end:
            cli.main(["serve", *OPTIONS, *more, "--print-service", manager])
        assert end.value.code == 0
        return capsys.readouterr()

    return run


@pytest.mark.parametrize("wrong", [("--keep-alive", "soon"), ("--model", "a=one", "--model", "two")])
def test_options_with_which_no_server_would_start_are_refused(capsys, wrong):
    with pytest.raises(SystemExit) as end:
        cli.main(["serve", *wrong, "--print-service", "systemd"])
    assert (end.value.code, capsys.readouterr().out) == (2, "")


def test_launchd_starts_the_same_command_and_hides_the_key(printed, tmp_path):
    out, err = printed("launchd", "--api-key", "secret")
    agent = plistlib.loads(out.encode())
    given = agent["ProgramArguments"]
    assert given[: len(START)] == START
    assert sorted(given[len(START) :]) == sorted(OPTIONS)
    assert given[given.index("--model") + 1] == ODD
    assert agent["WorkingDirectory"] == str(tmp_path)
    assert agent["EnvironmentVariables"]["MOSS_TTS_VOICES"] == "/voices 50%"
    assert agent["EnvironmentVariables"][KEY] == "secret"
    assert agent["KeepAlive"] == {"SuccessfulExit": False}
    assert agent["ExitTimeOut"] > 30
    assert "chmod 600" in err
    assert "LaunchAgents" in err


def test_systemd_reads_the_same_command(printed, tmp_path):
    out, err = printed("systemd", "--grace", "60")
    unit = configparser.RawConfigParser(strict=False, interpolation=None)
    unit.optionxform = str
    unit.read_string(out)
    service = unit["Service"]
    assert service["ExecStart"].startswith(" ".join(START))
    assert '--model "a \\"b\\" 100%% $$HOME \\\\ c"' in service["ExecStart"]
    assert service["WorkingDirectory"] == str(tmp_path)
    assert service["Environment"] == '"MOSS_TTS_VOICES=/voices 50%%"'
    assert int(service["TimeoutStopSec"]) > 60
    assert "systemctl --user enable" in err
    assert "chmod" not in err


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_finds_no_fault(printed, tmp_path):
    path = tmp_path / "moss-tts.service"
    path.write_text(printed("systemd")[0])
    checked = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True, timeout=600)
    assert [line for line in checked.stderr.splitlines() if "moss-tts" in line] == []
    assert checked.returncode == 0
