"""mlx_lm changes nothing of the process that imports it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SRC = Path(__file__).parents[2] / "src"
# Both below what mlx_lm asks for, as a container or a service manager may set them.
OPEN_FILES = (700, 900)
IMPORTED = f"""
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, {OPEN_FILES})
import moss_tts.model
assert resource.getrlimit(resource.RLIMIT_NOFILE) == {OPEN_FILES}, resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (600, 900))
assert resource.getrlimit(resource.RLIMIT_NOFILE) == (600, 900)
"""


RUN_LATER = """
import sys
import moss_tts.model
assert not [name for name in sys.modules if name.split(".")[0] in ("mlx_lm", "transformers")]
import mlx_lm.models.cache
assert mlx_lm.load
assert mlx_lm.models.cache.KVCache is not moss_tts.device.mlx_lm.KVCache
"""


def test_the_limit_of_open_files_is_the_operators():
    check(IMPORTED)


def test_the_package_is_run_by_those_alone_that_want_all_of_it():
    check(RUN_LATER)


def check(program: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(SRC)}
    ended = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=600
    )
    assert ended.returncode == 0, ended.stderr
