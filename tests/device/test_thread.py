"""A thread that computed has wholly ended before the process may exit."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import mlx.core as mx
import pytest

from moss_tts.device.thread import join_wholly


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells which threads there are")
def test_the_system_has_ended_the_thread() -> None:
    for _ in range(20):
        thread = threading.Thread(target=lambda: mx.eval(mx.ones(4) * 2))
        thread.start()
        join_wholly(thread)
        assert not Path(f"/proc/self/task/{thread.native_id}").exists()


def test_a_thread_that_goes_on_is_waited_for_no_longer_than_asked() -> None:
    may_end = threading.Event()
    thread = threading.Thread(target=may_end.wait)
    thread.start()
    join_wholly(thread, seconds=0.01)
    assert thread.is_alive()
    may_end.set()
    join_wholly(thread)
    assert not thread.is_alive()
