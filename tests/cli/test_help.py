"""Help that teaches: sentences, examples that are true, first steps that work at once."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from moss_tts import cli
from support.sentences import is_a_sentence


def test_help_does_not_wait_for_mlx():
    """Nor does it need a backend, which `pip install moss-tts-mlx` alone does not bring on Linux."""
    program = "import sys, moss_tts.cli; sys.exit(' '.join({'mlx.core', 'transformers'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=600).stderr == "\n"


def test_a_command_does_not_wait_for_pytorch(checkpoints):
    """Which transformers imports where it is installed."""
    program = (
        "import sys\nfrom moss_tts import cli\ntry: cli.main()\nfinally: print(sys.modules['torch'], file=sys.stderr)"
    )
    command = [sys.executable, "-c", program, "inspect", checkpoints["delay"]]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    assert ended.stdout
    assert ended.stderr == "None\n"


def every_command() -> dict[str, Any]:
    """The commands by their whole name, those of voices too; the program itself has the empty one."""
    program = typer.main.get_command(cli.app)
    found = {"": program, **program.commands}
    return found | {f"voices {name}": command for name, command in program.commands["voices"].commands.items()}


COMMANDS = every_command()
OPTIONS = [
    pytest.param(parameter, id=f"{name} {parameter.name}")
    for name, command in COMMANDS.items()
    for parameter in command.params
    if parameter.name != "help"
]


def test_what_a_sentence_is():
    assert is_a_sentence("Draw the weights with this seed.")
    for text in (
        "Of that channel.",
        "The same as --top-p",
        "in frames of 80 ms.",
        "Made; must.",
        "To listen on; 0 is any.",
    ):
        assert not is_a_sentence(text)


@pytest.mark.parametrize("parameter", OPTIONS)
def test_options_are_explained_in_sentences(parameter):
    assert is_a_sentence(parameter.help or "")
    takes_value = parameter.param_type_name == "option" and not parameter.is_flag
    assert not takes_value or parameter.metavar, "the help shows Python's name of a type"


@pytest.mark.parametrize("name", COMMANDS)
def test_no_two_options_are_explained_alike(name):
    texts = [parameter.help for parameter in COMMANDS[name].params]
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_are_explained_in_sentences(name):
    first = (COMMANDS[name].help or "").split("\n\n")[0]
    assert is_a_sentence(" ".join(first.split()))


def shown_commands(text: str) -> Iterator[list[str]]:
    """The arguments of each moss-tts command that a help text shows; the words behind it begin after two spaces."""
    joined = re.sub(r"\\\n\s*", "", text.replace(r"\[", "["))
    for line in joined.splitlines():
        if line.startswith("  "):
            command = re.split(r" {2,}", line.strip())[0]
            for part in re.split(r" \| ", command):
                if found := re.match(r"(?:[A-Z_]+=\S+ )*moss-tts (.*)", part):
                    yield shlex.split(found[1])


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("", "voices")])
def test_every_command_ends_its_help_with_examples_of_itself(name):
    shown = list(shown_commands(COMMANDS[name].epilog or ""))
    assert any(arguments[: len(name.split())] == name.split() for arguments in shown)


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_are_right_and_fit_into_a_narrow_terminal(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for file in (
        "alice.wav",
        "bob.wav",
        "start.wav",
        "chapter.txt",
        "letter.txt",
        "book.epub",
        "book.txt",
        "texts.txt",
        "film.srt",
        "cast.txt",
    ):
        (tmp_path / file).touch()
    text = f"{COMMANDS[name].help}\n{COMMANDS[name].epilog or ''}"
    for arguments in shown_commands(text):
        prefix = next(count for count in (2, 1, 0) if " ".join(arguments[:count]) in COMMANDS)
        command = COMMANDS[" ".join(arguments[:prefix])]
        command.make_context(command.name, arguments[prefix:])  # raises for options and values that there are not
    commands = [line for line in text.replace(r"\[", "[").splitlines() if line.startswith("  ")]
    assert [line for line in commands if len(line) > 78] == []


def test_first_steps_need_nothing_but_this_package(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    help_ = run("--help").out
    first = list(shown_commands("\n".join(line[1:] for line in help_.splitlines())))
    assert first[0][0] == "say"
    assert [arguments[0] for arguments in first[:3]] == ["say", "read", "serve"]
    assert "moss-tts say --help" in help_


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_no_types_of_python(run, name):
    shown = run(*name.split(), "--help").out
    assert re.findall(r"<\w+>", shown) == []


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["nonsense"], "moss-tts"),
        (["say", "--bogus"], "moss-tts say"),
        (["read"], "moss-tts read"),
        (["voices"], "moss-tts voices"),
        (["voices", "add"], "moss-tts voices add"),
        (["generate", "Hi.", "--seed", "x"], "moss-tts generate"),
    ],
)
def test_wrong_usage_names_the_help_of_its_command(run, arguments, command):
    ended = run(*arguments)
    assert ended.code == 2
    assert ended.err.endswith(f"; see {command} --help.\n")
    assert len(ended.err.splitlines()) == 1


def test_a_question_in_wrong_usage_ends_as_one(run):
    assert run("sya", "Hi.").err == "moss-tts: No such command 'sya'. Did you mean 'say'? See moss-tts --help.\n"
