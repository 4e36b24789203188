"""A fast BLAS for MLX on Linux CPUs.

The CPU build of mlx links the reference BLAS. If a global cblas_sgemm is loaded before mlx is first imported, the
dynamic linker resolves mlx's calls to that one (60 times faster float32 products on two cores). It is the one of
thin_products.c, which passes large products on to OpenBLAS. If that cannot be compiled, it is OpenBLAS's own.
The `cpu` extra brings OpenBLAS; without it nothing happens, and where mlx is already imported only a warning.

The wheel has to be one that picks its kernels at run time (DYNAMIC_ARCH), as ngsolve-openblas does: cmeel-openblas
is compiled for AVX-512 alone and dies of an illegal instruction on other processors.
"""

from __future__ import annotations

import ctypes
import os
import sys
import warnings
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from moss_tts.device import compiled, packed
from moss_tts.device.compiled import CStatus

SWITCH = "MOSS_TTS_OPENBLAS"


class BlasStatus(StrEnum):
    """Whether OpenBLAS computes mlx's products, or why not."""

    IN_USE = "in_use"
    SWITCHED_OFF = "switched_off"
    OTHER_PLATFORM = "other_platform"
    CUDA_BUILD = "cuda_build"
    NOT_INSTALLED = "not_installed"
    MLX_CAME_FIRST = "mlx_came_first"
    WOULD_BREAK_PYTORCH = "would_break_pytorch"
    NOT_LOADED = "not_loaded"


@dataclass(frozen=True)
class BlasState:
    """The state of OpenBLAS in this process.

    Attributes:
        status: whether it is in use, or why not.
        library: the file that is in use.
        error: why it could not be loaded.
    """

    status: BlasStatus
    library: str | None = None
    error: str | None = None


# OpenBLAS, and how many cores it uses by itself.
_loaded: list[tuple[ctypes.CDLL, int]] = []
_state: BlasState | None = None


def preload() -> BlasState:
    """Load OpenBLAS if this is a CPU build of mlx on Linux. Call this before mlx is imported."""
    global _state
    _state = _preload()
    return _state


def state() -> BlasState:
    """The state of OpenBLAS in this process."""
    return _state or preload()


def _preload() -> BlasState:
    if os.environ.get(SWITCH) == "0":
        return BlasState(BlasStatus.SWITCHED_OFF)
    if not sys.platform.startswith("linux"):
        return BlasState(BlasStatus.OTHER_PLATFORM)
    if _has_cuda_build():
        return BlasState(BlasStatus.CUDA_BUILD)
    library = _library()
    if library is None:
        return BlasState(BlasStatus.NOT_INSTALLED)
    if "mlx.core" in sys.modules:
        warnings.warn(
            "OpenBLAS is not used: mlx was imported before moss_tts; the other way round speech is several times as "
            "fast.",
            stacklevel=4,
        )
        return BlasState(BlasStatus.MLX_CAME_FIRST)
    # Idle threads must not spin on the core that prepares the next frame: that costs a fifth of the speed.
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
    try:
        return _load(library)
    except OSError as error:
        return BlasState(BlasStatus.NOT_LOADED, error=str(error))


def _load(library: Path) -> BlasState:
    """Let mlx find our C, which passes products on to OpenBLAS, or else OpenBLAS itself."""
    blas = ctypes.CDLL(str(library))
    if compiled.stand_before(blas).status is CStatus.NOT_COMPILED:
        # PyTorch crashes if all symbols of OpenBLAS are global.
        if find_spec("torch") is not None:
            return BlasState(BlasStatus.WOULD_BREAK_PYTORCH)
        ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    packed.open_door()
    _loaded.append((blas, blas.openblas_get_num_threads()))
    return BlasState(BlasStatus.IN_USE, str(library))


def share_cores(shared: bool) -> None:
    """Leave half of the cores to another thread that computes, so that neither waits; or use all cores again."""
    for blas, cores in _loaded:
        blas.openblas_set_num_threads(max(1, cores // 2) if shared else cores)


def cores_in_use() -> int:
    """Cores that products may use now; 1 where there is no OpenBLAS."""
    return max((blas.openblas_get_num_threads() for blas, _ in _loaded), default=1)


def _has_cuda_build() -> bool:
    return any(str(dist.name).startswith("mlx-cuda") for dist in metadata.distributions())


def _library() -> Path | None:
    """The library of the ngsolve-openblas wheel, found without importing it."""
    spec = find_spec("ngsolve_openblas")
    if spec is None or spec.origin is None:
        return None
    return next(iter(sorted(Path(spec.origin).parent.glob("libopenblas*.so*"))), None)
