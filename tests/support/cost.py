"""What work costs in the processor's time, which other programs of the machine do not change."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def costs_at_most(seconds: float) -> Iterator[None]:
    """The block, and all threads of this process meanwhile, take so many seconds of the processor at most.

    A limit is some ten times what the block takes, and far less than what it took before it was made cheap.
    """
    began = time.process_time()
    yield
    took = time.process_time() - began
    assert took < seconds, f"{took:.1f} s of the processor"
