"""The backend of MLX: the part that computes, which is a package of its own on Linux.

`pip install moss-tts-mlx` brings mlx alone, which cannot be imported there without one of its backends.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from moss_tts.errors import BackendNotFoundError

# The library that mlx-cpu and mlx-cuda bring.
LIBRARY = "libmlx"


@contextmanager
def explained_backend() -> Iterator[None]:
    """Explain what is missing if MLX cannot be imported.

    Raises:
        BackendNotFoundError: MLX has no backend here, or its backend cannot be loaded.
    """
    try:
        yield
    except ImportError as error:
        if not _is_of_mlx(error):
            raise
        raise BackendNotFoundError(_explanation(str(error))) from error


def _is_of_mlx(error: ImportError) -> bool:
    """Whether the library that was not loaded is that of mlx.core."""
    path = Path(error.path or "")
    return path.parent.name == "mlx" and path.name.startswith("core.")


def _explanation(reason: str) -> str:
    install = "pip install 'moss-tts-mlx[cpu]', or 'moss-tts-mlx[cuda]' for an NVIDIA card"
    if LIBRARY in reason:
        return f"MLX has no backend here, so nothing can be computed. Install one: {install}."
    return f"the backend of MLX cannot be loaded: {reason}. Install another one: {install}."
