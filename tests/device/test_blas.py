"""OpenBLAS serves mlx and leaves other libraries alone."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

from moss_tts.device import blas, compiled
from moss_tts.device.blas import BlasStatus
from moss_tts.device.compiled import CState, CStatus

SRC = Path(__file__).parents[2] / "src"
BATCHED = """
import moss_tts, torch, mlx.core as mx
x = torch.randn(8, 48, 16)
products = x @ x.mT
assert torch.allclose(products, torch.stack([one @ one.T for one in x]), atol=1e-4)
print(moss_tts.OPENBLAS.status)
"""


@pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch is not installed")
@pytest.mark.parametrize("thin", ["0", "1"])
def test_pytorch_keeps_its_own_products(thin: str):
    """With all symbols of OpenBLAS global, its batched products end in a segmentation fault."""
    environment = {**os.environ, "PYTHONPATH": str(SRC), compiled.SWITCH: thin}
    made = subprocess.run([sys.executable, "-c", BATCHED], env=environment, capture_output=True, text=True, timeout=600)
    assert made.returncode == 0, made.stderr


@pytest.mark.skipif(blas._library() is None, reason="OpenBLAS is not installed")
@pytest.mark.parametrize("torch", [False, True])
def test_without_a_compiler_pytorch_decides(torch: bool, monkeypatch: pytest.MonkeyPatch):
    modes = []
    monkeypatch.delitem(sys.modules, "mlx.core")
    monkeypatch.setattr(compiled.shutil, "which", lambda _: None)
    found = blas.find_spec
    monkeypatch.setattr(blas, "find_spec", lambda name: torch or None if name == "torch" else found(name))
    for module, name, value in ((blas, "_loaded", []), (blas, "_state", None), (compiled, "_state", compiled._state)):
        monkeypatch.setattr(module, name, value)
    library = SimpleNamespace(openblas_get_num_threads=lambda: 2)
    monkeypatch.setattr(ctypes, "CDLL", lambda _, mode=ctypes.RTLD_LOCAL: modes.append(mode) or library)
    state = blas.preload()
    assert (ctypes.RTLD_GLOBAL in modes) is not torch
    assert state.status is (BlasStatus.WOULD_BREAK_PYTORCH if torch else BlasStatus.IN_USE)
    assert compiled.state() == CState(CStatus.NOT_COMPILED, "there is no C compiler")
    assert compiled.library() is None


@pytest.mark.skipif(blas._library() is None, reason="OpenBLAS is not installed")
def test_mlx_before_us_is_a_warning():
    code = "import mlx.core, moss_tts; print(moss_tts.OPENBLAS.status)"
    environment = {**os.environ, "PYTHONPATH": str(SRC)}
    made = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=600)
    assert made.stdout == "mlx_came_first\n"
    assert "UserWarning: OpenBLAS is not used: mlx was imported before moss_tts" in made.stderr


@pytest.mark.skipif(not blas._loaded, reason="OpenBLAS is not in use")
def test_half_of_the_cores_are_given_back():
    ((library, cores),) = blas._loaded
    blas.share_cores(True)
    assert library.openblas_get_num_threads() == max(1, cores // 2)
    blas.share_cores(False)
    assert library.openblas_get_num_threads() == cores
