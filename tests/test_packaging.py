"""What is built from pyproject.toml: what a package index shows, and what an installation holds."""

from __future__ import annotations

import email
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path

import pytest

pytest.importorskip("hatchling", reason="the extra test is not installed")
pytest.importorskip("hatch_fancy_pypi_readme", reason="the extra test is not installed")

from hatchling.metadata.core import ProjectMetadata
from hatchling.plugin.manager import PluginManager
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
URLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
HOME = URLS["Homepage"]


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> dict[str, Path]:
    """The wheel and the sdist, built with what is installed here."""
    directory = tmp_path_factory.mktemp("built")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(directory)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=600)
    return {path.suffix: path for path in directory.iterdir()}


def test_every_link_of_the_description_leads_to_a_file_or_an_address():
    core = ProjectMetadata(str(ROOT), PluginManager()).core
    assert core.readme_content_type == "text/markdown"
    links = re.findall(r"\]\(([^)]*)\)", core.readme)
    assert len(links) >= len(re.findall(r"\]\(", (ROOT / "README.md").read_text())) > 10
    assert [link for link in links if not link.startswith("https://")] == []
    ours = [link.removeprefix(f"{HOME}/blob/main/") for link in links if link.startswith(f"{HOME}/blob/")]
    pictures = re.findall(r'(?:src|srcset)="([^"]*)"', core.readme)
    assert len(pictures) == 2
    assert all((ROOT / link.removeprefix(f"{HOME}/raw/main/")).is_file() for link in pictures)
    assert len(ours) > 5
    for path, _, anchor in (link.partition("#") for link in ours):
        assert (ROOT / path).is_file(), path
        assert not anchor or anchor in anchors(ROOT / path), f"{path}#{anchor}"


def anchors(document: Path) -> set[str]:
    """Names of the headings of a Markdown file, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def test_all_addresses_are_of_one_repository():
    assert set(URLS) == {"Homepage", "Documentation", "Issues", "Changelog"}
    assert all(url.startswith(HOME) for url in URLS.values())
    text = (ROOT / "pyproject.toml").read_text()
    assert set(re.findall(r"https://github\.com/[\w.-]+/[\w-]+", text)) == {HOME}
    for url in URLS.values():
        path = re.sub(rf"^{re.escape(HOME)}/(?:blob|tree)/main/", "", url)
        assert path == url or (ROOT / path).exists()


@pytest.mark.slow
def test_a_wheel_holds_all_that_runs_and_nothing_else(built):
    with zipfile.ZipFile(built[".whl"]) as wheel:
        names = wheel.namelist()
        about = email.message_from_bytes(wheel.read(next(name for name in names if name.endswith("/METADATA"))))
    sources = [path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src" / "moss_tts").rglob("*")]
    wanted = {name for name in sources if (ROOT / "src" / name).is_file() and "__pycache__" not in name}
    for folder in ("golden", "golden_adapters"):
        goldens = [path for path in (ROOT / "tests" / folder).rglob("*") if path.is_file()]
        wanted |= {f"moss_tts/evidence/{path.relative_to(ROOT / 'tests').as_posix()}" for path in goldens}
    assert wanted == {name for name in names if ".dist-info/" not in name}
    assert {"moss_tts/tiny_voice/model.safetensors", "moss_tts/py.typed"} <= wanted
    assert {line.split(", ")[0] for line in about.get_all("Project-URL")} == set(URLS)
    assert about["License-Expression"] == "Apache-2.0"
    assert "Typing :: Typed" in about.get_all("Classifier")
    assert f"]({HOME}/blob/main/docs/server.md)" in about.get_payload()


@pytest.mark.slow
def test_an_sdist_holds_all_that_a_wheel_and_its_tests_are_made_of(built):
    with tarfile.open(built[".gz"]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    for needed in (
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
        "src/moss_tts/model.py",
        "tests/conftest.py",
    ):
        assert needed in names
    assert [name for name in names if name.startswith((".git/", ".venv", "dist/"))] == []


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NEEDED_TO_RUN = [
    Requirement(line)
    for lines in (
        PROJECT["dependencies"],
        *(PROJECT["optional-dependencies"][extra] for extra in ("cpu", "cuda", "av", "nano", "server")),
    )
    for line in lines
]


@pytest.mark.parametrize("requirement", NEEDED_TO_RUN, ids=str)
def test_what_is_needed_has_a_range_that_is_tested(requirement):
    assert {"<", ">="} == {bound.operator for bound in requirement.specifier}
    with suppress(PackageNotFoundError):
        assert requirement.specifier.contains(version(requirement.name), prereleases=True)


def installed_to_run() -> set[str]:
    """Names of all packages that are installed because this one needs them."""
    found, waiting = set[str](), [(requirement, "") for requirement in NEEDED_TO_RUN]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.name in found or (requirement.marker and not requirement.marker.evaluate({"extra": extra})):
            continue
        with suppress(PackageNotFoundError):
            inner = requires(requirement.name) or []
            found.add(requirement.name)
            waiting += [(Requirement(line), extra) for line in inner for extra in ("", *requirement.extras)]
    return found


def test_licences_that_ask_for_something_are_told():
    """Those that packages have by their own word; docs/licences.md says what else is in their wheels."""
    told = (ROOT / "docs" / "licences.md").read_text()
    names = installed_to_run()
    assert {"soxr", "numpy", "tqdm"} <= names
    for name in names:
        about = metadata(name)
        says = " ".join(
            [about.get("License-Expression") or about.get("License") or "", *about.get_all("Classifier", [])]
        )
        if re.search("GPL|MPL|EPL|CDDL|Lesser|Mozilla", says):
            assert f"`{name}`" in told, (name, says[:200])
    assert [str(one) for one in NEEDED_TO_RUN if f"`{one.name}`" not in told] == []


def test_release_notes_are_a_version_s_part_of_the_changelog(tmp_path):
    """A copy of the script, among files of a version of their own."""
    (tmp_path / "scripts").mkdir()
    script = shutil.copy2(ROOT / "scripts" / "release-notes", tmp_path / "scripts")
    (tmp_path / "src" / "moss_tts").mkdir(parents=True)
    (tmp_path / "src" / "moss_tts" / "_version.py").write_text('__version__ = "2.0.1"\n')
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## [2.0.1] - 2030-01-01\n\n- New.\n\n## [2.0.0]\n\n- Old.\n")

    def notes(version: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([script, version], capture_output=True, text=True, timeout=600)

    assert notes("2.0.1").stdout.strip() == "- New."
    assert notes("2.0.0").returncode == 1
    assert "another version" in notes("2.0.0").stderr


def test_the_image_copies_what_the_wheel_is_built_from():
    """Docker sees only what .dockerignore lets through."""
    seen = {
        line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")
    }
    image = (ROOT / "deploy" / "docker" / "Dockerfile").read_text()
    copied = {
        name for line in re.findall(r"^COPY (?!--from)(.*) \S+$", image, flags=re.MULTILINE) for name in line.split()
    }
    assert (
        copied
        == seen
        == {
            "pyproject.toml",
            "README.md",
            "LICENSE",
            "src",
            "tests/golden",
            "tests/golden_adapters",
        }
    )
    assert set(re.search(r"\[\$BACKEND,([\w,]+)\]", image)[1].split(",")) <= set(PROJECT["optional-dependencies"])
