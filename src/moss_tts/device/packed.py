"""The way from MLX to packed_products.c, for products with quantised and with bfloat16 weights on Linux CPUs.

MLX calls the C for float32 products because its cblas_sgemm stands before the BLAS's. Below its own products with
packed weights there is no such function, but above them there is: mlx.core calls two operators of MLX's library,
`matmul` and `quantized_matmul`, and packed_door.cpp stands before these. packed_operators.cpp makes a primitive of
its own where the C can compute, and calls MLX's operator elsewhere. Both mean the same, so nothing else has to know.

Both files are compiled against the headers that mlx brings, when they are first needed. Without a C++ compiler MLX
computes these products.
"""

from __future__ import annotations

import ctypes
import subprocess
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from moss_tts.device import compiled
from moss_tts.device.compiled import CStatus

SLOW = (
    "mlx multiplies quantised weights here, which takes ten times as long as it does in C. The C could not be "
    "compiled: {}. It needs g++ (Debian and Ubuntu: apt install g++)."
)
FOLDER = Path(__file__).parent
FLAGS = ("-std=c++20", "-O2", "-shared", "-fPIC", "-fvisibility=hidden")


@dataclass(frozen=True)
class PackedState:
    """Whether C multiplies packed weights in this process.

    Attributes:
        in_use: whether it does.
        error: why it could not be compiled.
    """

    in_use: bool = False
    error: str | None = None


_state = PackedState()


def state() -> PackedState:
    """Whether C multiplies packed weights, or why not."""
    return _state


def open_door() -> None:
    """Let mlx call the C for packed weights, if the C is in use. Call this before mlx is imported."""
    global _state
    if compiled.state().status is not CStatus.IN_USE:
        return
    try:
        mlx = _folder_of_mlx()
        door, operators = _built("packed_door", mlx), _built("packed_operators", mlx, f"-L{mlx / 'lib'}", "-lmlx")
        library = ctypes.CDLL(str(door), mode=ctypes.RTLD_GLOBAL)
    except (OSError, subprocess.SubprocessError) as error:
        _state = PackedState(error=str(error))
        return
    library.moss_tts_open_door(bytes(mlx / "lib" / "libmlx.so"), bytes(operators))
    _state = PackedState(in_use=True)


@cache
def advise() -> None:
    """Say once what helps if quantised weights are slow here, since the C++ could not be compiled."""
    import logging  # imported here, because it takes time at every start

    if _state.error is not None:
        logging.getLogger(__name__).warning(SLOW.format(_state.error))


def _folder_of_mlx() -> Path:
    """The folder of mlx's headers and library, found without importing it."""
    spec = find_spec("mlx")
    folders = [] if spec is None else map(Path, spec.submodule_search_locations or [])
    found = next((folder for folder in folders if (folder / "include" / "mlx" / "mlx.h").exists()), None)
    if found is None:
        raise FileNotFoundError("this mlx came without its headers")
    return found


def _built(name: str, mlx: Path, *libraries: str) -> Path:
    include = mlx / "include"
    command = ("g++", *FLAGS, f"-I{include}", str(FOLDER / f"{name}.cpp"), *libraries)
    sources = [FOLDER / f"{name}.cpp", *compiled.HEADERS, include / "mlx" / "version.h"]
    return compiled.built(name, command, sources, "")
