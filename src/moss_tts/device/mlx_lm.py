"""The parts of mlx_lm that are used. Only this module imports it, because it changes the limit of open files.

Its import lowers that limit to 2,048, and the hard limit to 4,096, which only root can raise again. If the hard limit
is lower already, the import fails.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _limits_kept() -> Iterator[None]:
    """Keep the limits of the process as they are while this is open."""
    change = resource.setrlimit
    resource.setrlimit = lambda *_: None
    try:
        yield
    finally:
        resource.setrlimit = change


with _limits_kept():
    from mlx_lm.models.base import create_causal_mask, scaled_dot_product_attention
    from mlx_lm.models.cache import ConcatenateKVCache, KVCache

__all__ = ["ConcatenateKVCache", "KVCache", "create_causal_mask", "scaled_dot_product_attention"]
