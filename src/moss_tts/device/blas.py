"""A fast BLAS for MLX on Linux CPUs.

The CPU build of mlx links the reference BLAS. A global cblas_sgemm that is there before mlx is first imported has the
dynamic linker resolve mlx's calls to it instead (60 times faster float32 products on two cores): that of
thin_products.c, which goes on to OpenBLAS. Where that cannot be compiled, it is OpenBLAS itself.
The `cpu` extra brings OpenBLAS; without it nothing happens, and where mlx is already imported only a warning.

The wheel has to be one that picks its kernels at run time (DYNAMIC_ARCH), as ngsolve-openblas does: cmeel-openblas
is compiled for AVX-512 alone and dies of an illegal instruction on other processors.
"""

from __future__ import annotations

import ctypes
import os
import sys
import warnings
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from moss_tts.device import compiled

SWITCH = "MOSS_TTS_OPENBLAS"

# With the cores that it uses by itself.
_loaded: list[tuple[ctypes.CDLL, int]] = []
_state = "not asked for"


def preload() -> str:
    """Load OpenBLAS if this is a CPU build of mlx on Linux; say what was done in a few words."""
    global _state
    _state = _preload()
    return _state


def state() -> str:
    """What `preload` did in this process, in a few words."""
    return _state


def _preload() -> str:
    if os.environ.get(SWITCH) == "0":
        return f"switched off by {SWITCH}=0"
    if not sys.platform.startswith("linux"):
        return "not needed on this platform"
    if _has_cuda_build():
        return "not needed with the CUDA build of mlx"
    library = _library()
    if library is None:
        return "not installed (pip install 'moss-tts-mlx[cpu]')"
    if "mlx.core" in sys.modules:
        said = "not used: mlx was imported before moss_tts"
        warnings.warn(f"OpenBLAS is {said}; the other way round speech is several times as fast.", stacklevel=4)
        return said
    # Threads without work must not turn on the core that the next frame is prepared on, which costs a fifth.
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
    try:
        blas = ctypes.CDLL(str(library))
        done = compiled.take_place_of(blas)
    except compiled.NoCompiler as error:
        if find_spec("torch") is not None:
            return f"not used: {error}, and with all its symbols global PyTorch crashes, which is installed"
        ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
        done = f"no C of our own: {error}"
    except OSError as error:
        return f"could not be loaded: {error} (Debian and Ubuntu: apt install libgfortran5)"
    _loaded.append((blas, blas.openblas_get_num_threads()))
    return f"in use ({library}; {done})"


def share_cores(shared: bool) -> None:
    """Leave half of the cores to a thread that computes meanwhile, so that neither waits for one; or use all again."""
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
