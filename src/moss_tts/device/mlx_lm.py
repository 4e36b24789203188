"""What is used of mlx_lm, which is imported here alone: it would change the process's limit of open files.

It lowers that limit to 2,048 as it is imported, the hard one to 4,096, which only root can raise again; and where the
hard one is lower already, the import fails.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _limits_kept() -> Iterator[None]:
    """Let nobody change the process's limits while this is open."""
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
