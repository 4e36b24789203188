"""What the documents tell people to run, run: with tiny checkpoints under the names of the real ones."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import soundfile

from moss_tts import cli
from support.books import archive, epub_of, written

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, flags=re.DOTALL)
PYTHON = [block for language, block in BLOCKS if language == "python"]
COMMANDS = [
    line
    for language, block in BLOCKS
    if language == "bash"
    for line in block.splitlines()
    if line.startswith("moss-tts ")
]
CHECKPOINTS = set(re.findall(r"MOSS-[\w.-]*\w", "".join(PYTHON) + "".join(COMMANDS)))


@pytest.fixture
def home(checkpoints, tmp_path, monkeypatch) -> Path:
    """A directory that holds everything the README speaks of."""
    monkeypatch.chdir(tmp_path)
    for name in CHECKPOINTS:
        (tmp_path / name).symlink_to(checkpoints["delay"])
    noise = 0.1 * np.random.default_rng(0).standard_normal(24000)
    for name in ("alice.wav", "bob.wav"):
        soundfile.write(tmp_path / name, noise, 24000)
    for name in ("chapter.txt", "letter.txt"):
        (tmp_path / name).write_text("A short chapter.")
    written(tmp_path, "book.epub", archive(epub_of({"a.xhtml": "<h1>One</h1><p>A short chapter.</p>"})))
    return tmp_path


def test_the_readme_shows_every_way_to_speak():
    assert len(PYTHON) >= 5
    for name in (
        "ref_audio=",
        "dialogue_speakers=",
        "instruction=",
        "ambient_sound=",
        'mode="continuation"',
        "stream=True",
    ):
        assert name in "".join(PYTHON)


@pytest.mark.slow
@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("snippet", PYTHON)
def test_python_snippets_run(snippet):
    exec(compile(snippet, "README.md", "exec"), {})  # the point of this test


@pytest.mark.slow
@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("command", COMMANDS)
def test_commands_run(command, capsys):
    for made in re.findall(r"--mlx-path (\S+)", command):
        Path(made).unlink()  # other commands find it there
    with pytest.raises(SystemExit) as exit_:
        cli.main(shlex.split(command, comments=True)[1:])
    assert exit_.value.code == 0, capsys.readouterr().err


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "docs/overview.md"])
def test_links_and_scripts_exist(document):
    text = (ROOT / document).read_text()
    for link in re.findall(r"\]\((?!http)([^)#]+)", text):
        assert ((ROOT / document).parent / link).exists(), link
    for script in re.findall(r"\b(scripts/\w+)", text):
        assert (ROOT / script).stat().st_mode & 0o100, script


def test_ci_runs_the_readmes_own_test_command():
    assert re.search(r"^scripts/test\b", README, flags=re.MULTILINE)
    assert re.search(r"^scripts/test\b", (ROOT / ".ci" / "run").read_text(), flags=re.MULTILINE)


PACKAGE = ROOT / "src" / "moss_tts"
OVERVIEW = (ROOT / "docs" / "overview.md").read_text()


def tables() -> dict[Path, list[str]]:
    """Folder -> the files and folders that its table in docs/overview.md names."""
    found = {}
    for section in re.split(r"^##+ ", OVERVIEW, flags=re.MULTILINE):
        if heading := re.match(r"`(?:src/moss_tts/)?([\w/]*)`\n", section):
            cells = re.findall(r"^\|([^|]*`[^|]*)\|", section, flags=re.MULTILINE)
            found[PACKAGE / heading[1]] = re.findall(r"`([^`]+)`", "".join(cells))
    return found


def test_the_overview_names_every_file_once():
    sources = [path for path in PACKAGE.rglob("*") if path.suffix in (".py", ".c")]
    wanted = sorted(path for path in sources if path.name != "__init__.py" or path.parent == PACKAGE)
    named = [folder / name for folder, names in tables().items() for name in names if not name.endswith("/")]
    assert sorted(named) == wanted


def test_the_overview_names_no_file_that_is_not_there():
    named = [folder / name for folder, names in tables().items() for name in ["", *names]]
    drawn = [PACKAGE / name for name in re.findall(r"[\w/]+\.py\b", OVERVIEW.split("## Where things are")[0])]
    assert len(drawn) > 10
    assert [path for path in named + drawn if not path.exists()] == []
