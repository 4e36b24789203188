"""Products of a few rows with a matrix, faster than a BLAS: C that stands in for its cblas_sgemm on Linux CPUs.

One frame of a few requests is nothing but such products. A BLAS packs the matrix first, which takes two to four
times as long as reading it once. The C is compiled for this processor when it is first needed, with the compiler
that mlx itself needs for compiled functions on CPUs, and kept in the user's cache directory.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
from pathlib import Path

SWITCH = "MOSS_TTS_THIN_PRODUCTS"
SOURCE = Path(__file__).with_suffix(".c")
FLAGS = ("-O3", "-march=native", "-fopenmp", "-shared", "-fPIC")

_loaded: list[ctypes.CDLL] = []


def in_use() -> bool:
    """Whether mlx's products go through this."""
    return bool(_loaded)


def preload(blas: ctypes.CDLL) -> str:
    """Take the place of cblas_sgemm, `blas` doing what is not done here; say what was done in a few words.

    Has to come before `blas` itself is loaded with global symbols.
    """
    if os.environ.get(SWITCH) == "0":
        return f"thin products switched off by {SWITCH}=0"
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        return "no thin products: there is no C compiler"
    try:
        library = _compiled(compiler)
        # Threads that wait must not take the core that the next frame is prepared on.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        loaded = ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    except (OSError, subprocess.SubprocessError) as error:
        return f"no thin products: {error}"
    loaded.moss_tts_forward_to(ctypes.cast(blas.cblas_sgemm, ctypes.c_void_p))
    _loaded.append(loaded)
    return "thin products in use"


def _compiled(compiler: str) -> Path:
    """The library for this source and processor, from the cache or the compiler."""
    key = hashlib.sha256(SOURCE.read_bytes() + _processor().encode() + " ".join(FLAGS).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "moss_tts"
    library = cache / f"thin_products-{key}.so"
    if not library.exists():
        cache.mkdir(parents=True, exist_ok=True)
        # Under a name of its own first: another process may be doing the same.
        unfinished = library.with_suffix(f".{os.getpid()}")
        command = [compiler, *FLAGS, "-o", str(unfinished), str(SOURCE)]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        unfinished.replace(library)
    return library


def _processor() -> str:
    """What this processor can do."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.machine())
