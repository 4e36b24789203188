"""An mlx without its backend, as `pip install moss-tts-mlx` leaves it on Linux: one sentence, whichever way in."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import pytest

import moss_tts
from moss_tts.device.backend import explained_backend
from moss_tts.errors import BackendNotFoundError, MossTTSError

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mlx has its backend inside elsewhere")


@pytest.fixture(scope="module")
def without_backend(tmp_path_factory) -> dict[str, str]:
    """An environment in which mlx.core is found far from the library that it needs."""
    directory = tmp_path_factory.mktemp("bare")
    (directory / "mlx").mkdir()
    shutil.copy(mx.__file__, directory / "mlx")
    path = os.pathsep.join([str(directory), str(Path(moss_tts.__file__).parents[1])])
    return os.environ | {"PYTHONPATH": path}


def run(environment: dict[str, str], *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=cwd, timeout=600, check=False)


@pytest.mark.parametrize(
    "arguments", [["say", "Hello."], ["generate", "Hello."], ["read", "book.txt"], ["bench"], ["inspect", "."]]
)
def test_commands_name_what_to_install(without_backend, tmp_path, arguments):
    (tmp_path / "book.txt").write_text("It was late.")
    ended = run(without_backend, "-m", "moss_tts", *arguments, cwd=tmp_path)
    assert ended.returncode == 1
    assert ended.stderr.startswith("moss-tts: MLX has no backend here")
    assert "'moss-tts-mlx[cpu]'" in ended.stderr
    assert "'moss-tts-mlx[cuda]'" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_help_needs_none(without_backend, tmp_path):
    assert run(without_backend, "-m", "moss_tts", "say", "--help", cwd=tmp_path).returncode == 0


def test_load_raises_it_as_an_import_error_too(without_backend, tmp_path):
    script = "import moss_tts\ntry: moss_tts.load()\nexcept ImportError as error: print(type(error).__name__, error)"
    ended = run(without_backend, "-c", script, cwd=tmp_path)
    assert ended.stdout.startswith("BackendNotFoundError MLX has no backend here"), ended.stderr
    assert issubclass(BackendNotFoundError, MossTTSError)


def test_another_library_that_is_missing_is_named():
    error = ImportError("libcudnn.so.9: cannot open", name="core", path="/site-packages/mlx/core.cpython-311.so")
    with pytest.raises(BackendNotFoundError, match=r"libcudnn\.so\.9: cannot open.*\[cpu\]"), explained_backend():
        raise error


def test_other_import_errors_pass():
    with pytest.raises(ModuleNotFoundError, match="fastapi"), explained_backend():
        raise ModuleNotFoundError("No module named 'fastapi'", name="fastapi")
