"""The parts of mlx_lm that are used, without the rest of it.

The package itself imports transformers, which takes a second, and lowers the process's limit of open files for good.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec, module_from_spec

PACKAGE = "mlx_lm"


@contextmanager
def _unrun() -> Iterator[None]:
    """While this is open, modules of the package are imported without running the package; then they are forgotten.

    Another import of the package runs it, and has modules of its own. One that was there before is used as it is.
    """
    spec = None if PACKAGE in sys.modules else find_spec(PACKAGE)
    if spec is None:
        yield
        return
    sys.modules[PACKAGE] = module_from_spec(spec)
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == PACKAGE]:
            del sys.modules[name]


with _unrun():
    from mlx_lm.models.base import create_causal_mask, scaled_dot_product_attention
    from mlx_lm.models.cache import ConcatenateKVCache, KVCache

__all__ = ["ConcatenateKVCache", "KVCache", "create_causal_mask", "scaled_dot_product_attention"]
