"""Files that start `moss-tts serve` with the machine: a launch agent for macOS, a unit of systemd for Linux."""

from __future__ import annotations

import os
import plistlib
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

Manager = Literal["launchd", "systemd"]
LABEL = "moss-tts.serve"
KEY: Final = "MOSS_TTS_API_KEY"
# Variables that change where files lie or how fast the program is; a service does not inherit those of a shell.
PASSED_ON = ("HF_HOME", "HF_HUB_CACHE", "HF_TOKEN", "XDG_CACHE_HOME", "XDG_DATA_HOME", "LD_PRELOAD")
# systemd and launchd kill a service that does not end; serve has the first word about when that is.
SECONDS_TO_SPARE = 15
WHERE: Final = {
    "launchd": f"Save it as ~/Library/LaunchAgents/{LABEL}.plist, then: launchctl bootstrap gui/$(id -u) "
    f"~/Library/LaunchAgents/{LABEL}.plist",
    "systemd": "Save it as ~/.config/systemd/user/moss-tts.service, then: systemctl --user enable --now moss-tts; "
    "loginctl enable-linger starts it without a login.",
}


@dataclass(frozen=True)
class Service:
    """A server that a service manager starts.

    Attributes:
        arguments: arguments of `moss-tts serve`.
        directory: the directory that relative paths in the arguments start from.
        environment: variables that the server gets.
        seconds_to_end: seconds after which the server may be killed when it does not end.
    """

    arguments: Sequence[str]
    directory: Path
    environment: Mapping[str, str]
    seconds_to_end: int

    @property
    def command(self) -> list[str]:
        """The whole command, which does not depend on PATH."""
        return [sys.executable, "-m", "moss_tts", "serve", *self.arguments]

    def file(self, manager: Manager) -> str:
        """The file that a service manager reads."""
        return self._launchd() if manager == "launchd" else self._systemd()

    def _launchd(self) -> str:
        agent = {
            "Label": LABEL,
            "ProgramArguments": self.command,
            "WorkingDirectory": str(self.directory),
            "EnvironmentVariables": dict(self.environment),
            "RunAtLoad": True,
            "KeepAlive": {"SuccessfulExit": False},
            "ProcessType": "Interactive",
            "ExitTimeOut": self.seconds_to_end,
            "StandardErrorPath": str(Path.home() / "Library" / "Logs" / "moss-tts.log"),
        }
        return plistlib.dumps(agent, sort_keys=False).decode()

    def _systemd(self) -> str:
        variables = [f"Environment={_quoted(f'{name}={value}')}" for name, value in self.environment.items()]
        # $ stands for a variable in commands only.
        command = " ".join(_quoted(part).replace("$", "$$") for part in self.command)
        lines = [
            "[Unit]",
            "Description=moss-tts: speech over HTTP",
            "",
            "[Service]",
            "Type=exec",
            f"ExecStart={command}",
            f"WorkingDirectory={str(self.directory).replace('%', '%%')}",
            *variables,
            "Restart=on-failure",
            "RestartSec=5",
            f"TimeoutStopSec={self.seconds_to_end}",
            "NoNewPrivileges=true",
            "",
            "[Install]",
            "WantedBy=default.target",
            "",
        ]
        return "\n".join(lines)


def new_service(arguments: Sequence[str], grace_s: float, api_key: str | None) -> Service:
    """The service that runs what this process was asked to run, in the same directory.

    Args:
        arguments: arguments of `moss-tts serve`, without the key.
        grace_s: seconds that the server waits for running requests when it ends.
        api_key: the key for clients. It becomes a variable, since every user of a machine can see arguments.
    """
    passed = {
        name: value
        for name, value in sorted(os.environ.items())
        if (name in PASSED_ON or name.startswith("MOSS_TTS_")) and name != KEY
    }
    environment = passed | ({} if api_key is None else {KEY: api_key})
    return Service(arguments, Path.cwd(), environment, round(grace_s) + SECONDS_TO_SPARE)


def given_arguments(context: Any, without: Sequence[str]) -> list[str]:
    """The options that the user gave to a command, as arguments; options in `without` are left out."""
    arguments = list[str]()
    for option in context.command.params:
        if option.name in without or context.get_parameter_source(option.name).name != "COMMANDLINE":
            continue
        value = context.params[option.name]
        if isinstance(value, bool):
            arguments += [option.opts[0]] if value else []
        else:
            values = value if isinstance(value, list | tuple) else [value]
            arguments += [part for one in values for part in (option.opts[0], str(one))]
    return arguments


def _quoted(text: str) -> str:
    """A word as systemd reads it: in double quotes, with % for specifiers doubled."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("%", "%%")
    return escaped if shlex.quote(text) == text and "%" not in text else f'"{escaped}"'
