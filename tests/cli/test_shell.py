"""What shells do to arguments, and terminals to letters."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from moss_tts import cli
from moss_tts.cli.arguments import read_text
from moss_tts.errors import RequestError


def refused(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as exit_:
        cli.main(arguments)
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize("command", ["say", "generate"])
@pytest.mark.parametrize("text", ["-5 degrees.", "-5", "- a list item", "--five dashes", "-quiet morning"])
def test_a_text_that_begins_with_a_hyphen_is_told_where_to_go(capsys, command, text):
    quoted = text if " " not in text else f"'{text}'"
    assert f"moss-tts {command} -- {quoted}; see moss-tts {command} --help" in refused(capsys, command, text)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["say", "-only joking"], "-only joking"),
        (["generate", "-only joking", "-o", "a.wav"], "-only joking"),
        (["say", "--output", "a.wav", "-how are you"], "-how are you"),
        (["say", "-q", "-fun and games"], "-fun and games"),
        (["generate", "-many people came"], "-many people came"),
    ],
)
def test_a_text_is_never_taken_for_a_short_option(capsys, arguments, text):
    """-o nly joking, -h, -f un and games, -m any people came."""
    told = refused(capsys, *arguments)
    assert f"moss-tts {arguments[0]} -- '{text}'" in told
    takes_value = text[1] in "ofm"
    assert (f"If you mean {text[:2]}, put a space after it: {text[:2]} '{text[2:]}'" in told) is takes_value


def test_a_text_behind_dashes_and_values_of_options_are_taken_as_they_are(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for arguments in (
        ["-o", "-a b.wav", "Hi."],
        ["--output=-a b.wav", "Hi."],
        ["-o", "-a b.wav", "--", "-only joking"],
    ):
        with pytest.raises(SystemExit) as exit_:
            cli.main(["say", "--seed", "1", *arguments])
        assert exit_.value.code == 0, capsys.readouterr().err
        (tmp_path / "-a b.wav").unlink()


@pytest.mark.parametrize("command", ["say", "generate"])
def test_a_text_of_several_arguments_is_told_to_be_quoted(capsys, command):
    assert f"put it in quotes, as in moss-tts {command} 'Hello there friend';" in refused(
        capsys, command, "Hello", "there", "friend", "--seed", "1"
    )


@pytest.mark.parametrize(
    "arguments", [["say", "Hi", "--outptu", "a.wav"], ["say", "Hi", "-o"], ["bench", "a", "b"], ["nonsense", "x"]]
)
def test_other_mistakes_are_given_no_such_advice(capsys, arguments):
    assert "A text" not in refused(capsys, *arguments)


def test_arguments_that_python_could_not_decode_are_read_as_utf_8():
    given = "Grüße".encode().decode("ascii", "surrogateescape")
    assert read_text(given, None, needed=False) == "Grüße"
    with pytest.raises(RequestError, match="not UTF-8"):
        read_text("\udcff", None, needed=False)


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize(
    ("environment", "encoding", "shown"),
    [
        ({"PYTHONIOENCODING": "ascii"}, "ascii", "?n??.wav"),
        ({"PYTHONIOENCODING": "cp1252"}, "cp1252", "Ünï….wav"),
        ({"PYTHONIOENCODING": "cp437"}, "cp437", "Ünï?.wav"),
        (ASCII, "ascii", "??n?????.wav"),
    ],
)
def test_a_terminal_without_a_letter_loses_the_letter(tmp_path, checkpoints, environment, encoding, shown):
    command = [sys.executable, "-m", "moss_tts", "generate", "Grüße.", "-m", str(checkpoints["delay"])]
    done = subprocess.run(
        [*command, "--max-tokens", "4", "-o", "Ünï….wav"],
        cwd=tmp_path,
        env=os.environ | environment,
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode(encoding).startswith(shown)
    assert [file.name for file in Path(tmp_path).iterdir()] == ["Ünï….wav"]


def test_messages_lose_letters_too(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "moss_tts", "say", "Hi.", "-o", "Ünï….xyz"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 2
    assert b"must end in .wav" in done.stderr
    assert b"Traceback" not in done.stderr
