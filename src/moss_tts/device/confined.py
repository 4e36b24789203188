"""Programs for foreign data, each in a process of its own; beyond its limits that process is ended, and no other.

A decoder or a template may hang, explode or crash. This file is the main program of such a process: it watches time and
memory in a thread beside the program, and ends both. It imports nothing of this package, so that a process starts in a
tenth of a second; the same holds for the programs. What a program has to say is a JSON object on the last line of its
standard error.
"""

from __future__ import annotations

import json
import os
import resource
import runpy
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

# A process that does not end itself at its limits is ended this much later.
GRACE = 2.0
_OVER_TIME, _OVER_MEMORY = 71, 72
_WATCHED_EVERY = 0.02


class ConfinedError(Exception):
    """A program did not come to its end: "is not done after 10 s", for a sentence that begins with the program."""


def run_confined(
    program: str | Path,
    *arguments: str,
    seconds: float,
    memory: int,
    stdin: IO[bytes] | bytes = b"",
    stdout: IO[bytes] | int = subprocess.DEVNULL,
) -> dict[str, Any]:
    """Run a program, and return what it has to say.

    Args:
        program: a file that imports nothing of this package.
        arguments: the arguments of the program.
        seconds: the seconds that it may take.
        memory: bytes that its process may have.
        stdin: what it reads.
        stdout: where its output goes.

    Raises:
        ConfinedError: it failed, or was ended at its limits.
    """
    # The same modules as here, and none from the folder of the program or the current one.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-P", __file__, str(seconds), str(memory), str(program), *arguments]
    given: Any = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin}
    limit = seconds + GRACE
    try:
        done = subprocess.run(command, **given, stdout=stdout, stderr=subprocess.PIPE, env=environment, timeout=limit)
        if done.returncode == _OVER_MEMORY:
            raise ConfinedError(f"takes more memory than {memory / 2**20:.0f} MiB")
        if done.returncode == _OVER_TIME:
            raise ConfinedError(f"is not done after {seconds:g} s")
        said = json.loads(done.stderr.splitlines()[-1]) if done.returncode == 0 else None
    except subprocess.TimeoutExpired as error:
        raise ConfinedError(f"is not done after {seconds:g} s") from error
    except (OSError, ValueError, IndexError) as error:
        raise ConfinedError("failed") from error
    if not isinstance(said, dict):
        raise ConfinedError("failed")
    return said


# --------------------------------------------------------------------------------------------- in the process


def _watch(seconds: float, memory: int) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if _resident_bytes() > memory:
            os._exit(_OVER_MEMORY)
        time.sleep(_WATCHED_EVERY)
    os._exit(_OVER_TIME)


def _resident_bytes() -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        # macOS has no /proc, and counts in bytes.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _main(seconds: str, memory: str, program: str, *arguments: str) -> None:
    threading.Thread(target=_watch, args=(float(seconds), int(memory)), daemon=True).start()
    sys.argv = [program, *arguments]
    runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    _main(*sys.argv[1:])
