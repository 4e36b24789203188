"""C of our own for Linux CPUs, where it makes most of the difference: one library, beside OpenBLAS.

thin_products.c: products of a few rows with a matrix, in the place of a BLAS's cblas_sgemm. One frame of a few
requests is nothing but such products, and a BLAS packs the matrix first, which takes two to four times as long as
reading it once. codec/stage.c: the codec's transformer stages, without MLX's primitives.

It is compiled for this processor when it is first needed, with the compiler that mlx itself calls for compiled
functions on CPUs, and kept in the user's cache directory. `moss-tts inspect` says whether it is in use.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
from pathlib import Path

from moss_tts.atomic import atomic_file

SWITCH = "MOSS_TTS_THIN_PRODUCTS"
SOURCES = [Path(__file__).parents[1] / name for name in ("device/thin_products.c", "codec/stage.c")]
# Nobody looks at errno or floating-point traps, which would keep loops with conditions from becoming vectors.
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-shared", "-fPIC")

_loaded: list[ctypes.CDLL] = []


class NoCompiler(Exception):
    """There is none, or it fails; the text says which."""


def library() -> ctypes.CDLL | None:
    """The library, where it is in use."""
    return None if _switched_off() or not _loaded else _loaded[0]


def take_place_of(blas: ctypes.CDLL) -> str:
    """Have mlx's products come here, those that are not done here going on to `blas`; say what was done.

    Only cblas_sgemm becomes a global symbol: with all those of a BLAS, PyTorch in the same process would mix its own
    functions with them and crash. Has to come before mlx is imported.

    Raises:
        NoCompiler: nothing was done.
    """
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise NoCompiler("there is no C compiler")
    try:
        path = _compiled(compiler)
        # Threads that wait must not take the core that the next frame is prepared on.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        loaded = ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    except (OSError, subprocess.SubprocessError) as error:
        raise NoCompiler(str(error)) from error
    loaded.moss_tts_forward_to(ctypes.cast(blas.cblas_sgemm, ctypes.c_void_p), _switched_off())
    _loaded.append(loaded)
    return f"C of our own switched off by {SWITCH}=0" if _switched_off() else "C of our own in use"


def _switched_off() -> bool:
    return os.environ.get(SWITCH) == "0"


def _compiled(compiler: str) -> Path:
    """The library for these sources and this processor, from the cache or the compiler."""
    sources = b"".join(source.read_bytes() for source in SOURCES)
    key = hashlib.sha256(sources + _processor().encode() + " ".join(FLAGS).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "moss_tts"
    library = cache / f"compiled-{key}.so"
    if not library.exists():
        cache.mkdir(parents=True, exist_ok=True)
        # Another process may be doing the same.
        with atomic_file(library) as part:
            command = [compiler, *FLAGS, "-o", str(part), *map(str, SOURCES), "-lm"]
            subprocess.run(command, check=True, capture_output=True, timeout=60)
    return library


def _processor() -> str:
    """What this processor can do."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.machine())
