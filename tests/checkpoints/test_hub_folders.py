"""Repositories of the hub with several checkpoints: each is fetched alone, by ORG/REPO or ORG/REPO/FOLDER."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from moss_tts.checkpoints.hub import HubFile, _of_checkpoint
from moss_tts.checkpoints.kept import checkpoints_here
from moss_tts.checkpoints.loading import find_checkpoint
from moss_tts.checkpoints.names import HubName, is_hub_name
from moss_tts.errors import NotHereError, RequestError
from moss_tts.weights.layout import read_weights
from support.adapters import linears_of, write_adapter
from support.hub import Hub, Repository, cache_entry, hub_of

SOURCE = Path(__file__).parents[2] / "src"
NAME, FOLDER = "laion/moss-roleplay", "roleplay p8[clean]"
INSIDE = f"{NAME}/{FOLDER}"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/b", ("a/b", "")),
        ("a/b/c", ("a/b", "c")),
        ("a/b/c d/é+f", ("a/b", "c d/é+f")),
        *(
            (name, None)
            for name in ("a", "/a/b/c", "./a/b", "a/b/", "a/b/c/", "a/b//c", "a/b/../c", "a/b/.c", "a/b/c\\d")
        ),
    ],
)
def test_names(name, expected):
    place = HubName.of(name)
    assert ((place.id, place.folder) if is_hub_name(name) else None) == expected


ROOT = [
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "README.md",
    "codec/config.json",
    "codec/model.safetensors",
]
SOUND = [
    "model_index.json",
    "transformer/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/tokenizer.json",
    "scheduler/scheduler_config.json",
    "vae/model.pth",
    "mlx/dit.safetensors",
]


@pytest.mark.parametrize(
    ("here", "others"),
    [
        (ROOT, ["clean/config.json", "clean/model.safetensors", "mlx/model.safetensors", "a/codec/model.safetensors"]),
        (ROOT, ["checkpoint-500/pytorch_model.bin", "runs/1/config.json", "codec/old/model.safetensors", "code.py"]),
        (["config.json", "pytorch_model.bin", "codec/pytorch_model-1.bin"], ["codec.bin", "x/pytorch_model.bin"]),
        (SOUND, ["vae/old/model.pth", "other/model.safetensors", "codec/config.json", "transformer/model.pth"]),
    ],
)
@pytest.mark.parametrize("folder", ["", "clean [1]/x"])
def test_files_of_one_checkpoint(here, others, folder):
    place = HubName("a/b", folder)
    files = [HubFile(place.path(path), 1) for path in (*here, *others)]
    beside = (
        [] if not folder else [HubFile(path, 1) for path in (*here, "clean [1]/config.json", "clean [1]/xy/a.json")]
    )
    assert [file.path for file in _of_checkpoint([*files, *beside], place)] == here


@pytest.fixture(scope="module")
def repository(checkpoints) -> Repository:
    """A repository with a checkpoint, and another one in a folder."""
    found = Repository.of(checkpoints["delay"])
    found.files |= {f"{FOLDER}/{path}": content for path, content in Repository.of(checkpoints["local"]).files.items()}
    return found


@pytest.fixture
def hub(repository) -> Iterator[Hub]:
    with hub_of(
        {NAME: repository, "laion/folders": Repository({"a/config.json": b"{}", "b/config.json": b"{}"})}
    ) as hub:
        yield hub


@pytest.fixture
def run(hub, tmp_path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run_(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        settings = hub.environment(tmp_path / "home", **{"PYTHONPATH": str(SOURCE), **environment})
        command = [sys.executable, "-m", "moss_tts", *map(str, arguments)]
        return subprocess.run(command, env=settings, cwd=tmp_path, capture_output=True, text=True, timeout=600)

    return run_


@pytest.mark.slow
@pytest.mark.parametrize(("name", "model", "other"), [(NAME, "Delay", INSIDE), (INSIDE, "Local", NAME)])
def test_only_the_one_that_is_named_is_fetched(run, hub, tmp_path, name, model, other):
    asked = json.loads(run("inspect", name, "--json").stdout)
    ended = run("download", name)
    assert ended.returncode == 0, ended.stderr
    fetched = {path for path in hub.fetched() if path.endswith(".safetensors")}
    assert len(fetched) == 2  # the model and its codec
    assert {path.startswith(f"{FOLDER}/") for path in fetched} == {name == INSIDE}
    assert asked["download_bytes"] == sum(
        len(content)
        for path, content in hub.repositories[NAME].files.items()
        if path.startswith(FOLDER) == (name == INSIDE)
    )
    hub.asked.clear()
    spoken = run("generate", "Hello there.", "--model", name, "--max-tokens", 4)
    assert spoken.returncode == 0, spoken.stderr
    assert hub.asked == []
    here = json.loads(run("inspect", name, "--json", HF_HUB_OFFLINE="1").stdout)
    assert here["model"] == asked["model"]
    assert model in here["model"]["architecture"]
    assert Path(here["directory"]).is_relative_to(tmp_path)
    (found,) = [one for one in json.loads(run("models", "--json").stdout) if one["name"]]
    assert (found["name"], found["complete"]) == (name, True)
    ended = run("generate", "Hello there.", "--model", other, HF_HUB_OFFLINE="1")
    assert ended.returncode == 1
    assert f"{other} is not here yet, and could not be looked up on the hub: HF_HUB_OFFLINE is set" in ended.stderr


@pytest.mark.slow
def test_a_repository_with_checkpoints_in_folders_alone_names_them(run):
    ended = run("download", "laion/folders")
    assert ended.returncode == 1
    assert "it has no config.json. Checkpoints are in laion/folders/a, laion/folders/b: give one of these." in " ".join(
        ended.stderr.split()
    )
    assert "has no public repository laion/missing; check" in " ".join(
        run("download", "laion/missing/x").stderr.split()
    )


@pytest.mark.slow
def test_an_adapter_in_a_folder_is_fetched_alone(run, hub, checkpoints, tmp_path):
    layers = linears_of(read_weights(checkpoints["delay"]))
    for name in ("calm", "very angry [2]"):
        write_adapter(tmp_path / "adapters" / name, layers)
    hub.repositories["laion/emotions"] = Repository.of(tmp_path / "adapters")
    named = "laion/emotions/very angry [2]"
    speak = ["generate", "Hello.", "--model", checkpoints["delay"], "--max-tokens", 4, "--lora", f"anger={named}:1.5"]
    ended = run(*speak)
    assert ended.returncode == 0, ended.stderr
    assert set(hub.fetched()) == {f"very angry [2]/adapter_{part}" for part in ("config.json", "model.safetensors")}
    assert run(*speak, HF_HUB_OFFLINE="1").returncode == 0
    for name, adapter in ((named, named), ("laion/emotions", "laion/emotions/calm")):
        said = " ".join(run("inspect", name).stderr.split())
        assert f"{name} is a LoRA adapter, or several, and no model." in said
        assert f"--lora NAME={adapter}." in said


def test_what_is_here_of_a_repository_with_several(monkeypatch, tmp_path, checkpoints):
    """The cache of a program that fetched the whole repository."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    both = Path(shutil.copytree(checkpoints["delay"], tmp_path / "both"))
    shutil.copytree(checkpoints["local"], both / FOLDER)
    snapshot = cache_entry(tmp_path / "cache", NAME, both)
    found = [(one.name, one.complete, one.directory) for one in checkpoints_here(tmp_path / "cache") if one.fetched]
    assert found == [(NAME, True, snapshot), (INSIDE, True, snapshot / FOLDER)]
    assert find_checkpoint(INSIDE, cached_only=True).directory == snapshot / FOLDER
    with pytest.raises(NotHereError, match=f"there is no directory '{NAME}/none' here, and {NAME}/none has not been"):
        find_checkpoint(f"{NAME}/none", cached_only=True)
    (snapshot / FOLDER / "model.safetensors").unlink()
    with pytest.raises(NotHereError, match="is incomplete"):
        find_checkpoint(INSIDE, cached_only=True)
    assert find_checkpoint(NAME, cached_only=True).directory == snapshot


def test_a_part_of_a_repository_is_not_deleted_alone(monkeypatch, tmp_path, checkpoints):
    from moss_tts.checkpoints.kept import remove

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    cache_entry(tmp_path, NAME, checkpoints["delay"])
    with pytest.raises(RequestError, match=rf"is a part of {NAME}, which is deleted as a whole: .*remove {NAME}"):
        remove(f"{NAME}/x")
