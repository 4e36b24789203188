"""The C code of this package for Linux CPUs, where it matters most: one library, besides OpenBLAS.

thin_products.c: products of a few rows with a matrix, instead of a BLAS's cblas_sgemm. One frame of a few
requests consists of such products, and a BLAS packs the matrix first, which takes two to four times as long as
reading it once. packed_products.c: the same for quantised and bfloat16 weights. codec_stage.c: the codec's
transformer stages, without MLX's primitives.

It is compiled for this processor when it is first needed, with the compiler that mlx itself calls for compiled
functions on CPUs, and kept in the user's cache directory. `library` gives the library if it is in use, `state` says
whether it is in use or why not, and the environment variable MOSS_TTS_C=0 switches it off.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path

from moss_tts.atomic import atomic_file

SWITCH = "MOSS_TTS_C"
SOURCES = sorted(Path(__file__).parent.glob("*.c"))
HEADERS = sorted(Path(__file__).parent.glob("*.h"))
# A compiler that takes longer hangs; on a slow machine with much to do it takes a minute.
SECONDS_TO_COMPILE = 600
# Nothing looks at errno or floating-point traps, which would keep loops with conditions from becoming vectors.
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-shared", "-fPIC")
COMPILING = "moss_tts compiles its C for this processor. This takes some seconds, and happens once."
SLOWER = "moss_tts has no place to keep its compiled C, and is slower without it: %s. XDG_CACHE_HOME can name another."


class CStatus(StrEnum):
    """Whether the C computes, or why not."""

    IN_USE = "in_use"
    SWITCHED_OFF = "switched_off"
    NOT_COMPILED = "not_compiled"
    # The C works only together with OpenBLAS.
    NOT_NEEDED = "not_needed"


@dataclass(frozen=True)
class CState:
    """The state of the C in this process.

    Attributes:
        status: whether it computes, or why not.
        error: why it could not be compiled.
    """

    status: CStatus
    error: str | None = None


_state = CState(CStatus.NOT_NEEDED)
_library: ctypes.CDLL | None = None


def state() -> CState:
    """The state of the C in this process."""
    return _state


def library() -> ctypes.CDLL | None:
    """The library; None if it is not in use."""
    return _library if _state.status is CStatus.IN_USE else None


def stand_before(blas: ctypes.CDLL) -> CState:
    """Compile and load the library, and let mlx call it for products; the others are passed on to `blas`.

    Only cblas_sgemm becomes a global symbol: with all those of a BLAS, PyTorch in the same process would mix its own
    functions with them and crash. Call this before mlx is imported. Switched off, the library passes all products on.
    """
    global _state, _library
    try:
        path = _compiled()
        # Waiting threads must not use the core that prepares the next frame.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        _library = ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    except (OSError, subprocess.SubprocessError) as error:
        _state = CState(CStatus.NOT_COMPILED, str(error))
        return _state
    off = os.environ.get(SWITCH) == "0"
    _library.moss_tts_forward_to(ctypes.cast(blas.cblas_sgemm, ctypes.c_void_p), off)
    _state = CState(CStatus.SWITCHED_OFF if off else CStatus.IN_USE)
    return _state


def _compiled() -> Path:
    """The library for these sources and this processor, from the cache or the compiler."""
    command = ("gcc" if shutil.which("gcc") else "cc", *FLAGS, *map(str, SOURCES), "-lm")
    return built("compiled", command, [*SOURCES, *HEADERS], _processor())


def built(name: str, command: Sequence[str], sources: Sequence[Path], made_for: str) -> Path:
    """The library that a compiler makes of sources, from the cache or the compiler.

    Args:
        name: the beginning of the name of its file.
        command: the compiler and its arguments, but for the output.
        sources: all files that the compiler reads, but for those of the system.
        made_for: what the library depends on besides.

    Raises:
        OSError: there is no such compiler, or no place for what it makes.
        subprocess.SubprocessError: it failed.
    """
    compiler = shutil.which(command[0])
    if compiler is None:
        raise FileNotFoundError(f"there is no {'C++' if command[0] == 'g++' else 'C'} compiler")
    told = b"".join(source.read_bytes() for source in sources) + made_for.encode() + " ".join(command).encode()
    library = _cache() / f"{name}-{hashlib.sha256(told).hexdigest()[:16]}.so"
    if not _is_whole(library):
        _check_writable(library.parent)
        _warn(COMPILING)
        # Another process may be doing the same.
        with atomic_file(library) as part:
            full = [compiler, *command[1:], "-o", str(part)]
            subprocess.run(full, check=True, capture_output=True, timeout=SECONDS_TO_COMPILE)
            with part.open("ab") as file:
                file.write(hashlib.sha256(part.read_bytes()).digest())
    return library


def _is_whole(library: Path) -> bool:
    """Whether a library ends in the sum of what comes before. A cut one would end the process when it is loaded."""
    if not library.is_file():
        return False
    content, size = library.read_bytes(), hashlib.sha256().digest_size
    return hashlib.sha256(content[:-size]).digest() == content[-size:]


def _cache() -> Path:
    """The directory of compiled libraries.

    Raises:
        OSError: it would be in a home directory, and the user has none.
    """
    given = os.environ.get("XDG_CACHE_HOME")
    try:
        return Path(given or Path.home() / ".cache") / "moss_tts"
    except RuntimeError as error:
        raise _no_place("this user has no home directory") from error


def _check_writable(folder: Path) -> None:
    """Make a directory, if need be; an OSError if nothing can be written into it."""
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _no_place(f"you may not write into {folder}")


def _no_place(why: str) -> OSError:
    _warn(SLOWER, why)
    return OSError(why)


@cache
def _warn(message: str, *parts: str) -> None:
    """Say something once. It is a warning, because Python shows nothing less if no log was set up."""
    import logging  # imported here, because it takes time at every start

    logging.getLogger(__name__).warning(message, *parts)


def _processor() -> str:
    """The abilities of this processor."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.machine())
