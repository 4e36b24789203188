"""The C library's memory: blocks come from one heap where the process is ours, and go back when told."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

# Whether 10 MB, asked for by a thread, come from the heap, and whether they leave once freed and trimmed.
SCRIPT = """
import ctypes, threading
from moss_tts.device import malloc

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes, libc.memset.argtypes = [ctypes.c_void_p], [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
resident = lambda: int(open("/proc/self/statm").read().split()[1]) * 4096
blocks = []

def ask():
    for _ in range(2):
        blocks.append(libc.malloc(10 << 20))
        libc.memset(blocks[-1], 1, 10 << 20)

malloc.use_one_heap()
thread = threading.Thread(target=ask)
thread.start()
thread.join()
line = next(line for line in open("/proc/self/maps") if "[heap]" in line)
start, end = (int(address, 16) for address in line.split()[0].split("-"))
libc.free(blocks[0])
before = resident()
malloc.trim()
print(start <= blocks[0] < end, before - resident() > 9 << 20)
"""

glibc_only = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")


def said(**more: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    environment.pop("GLIBC_TUNABLES", None)
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment | more, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@glibc_only
def test_a_process_of_ours_has_one_heap_and_gives_it_back() -> None:
    assert said() == "True True"


@glibc_only
def test_what_the_environment_says_of_malloc_holds() -> None:
    assert said(MALLOC_ARENA_MAX="4").startswith("False")
