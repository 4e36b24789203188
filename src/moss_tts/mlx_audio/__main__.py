"""`python -m moss_tts.mlx_audio [OPTION=VALUE ...] PROGRAM ...`: a program of mlx-audio, with this runtime in it.

PROGRAM is what stands behind `python -m mlx_audio.`, such as tts.generate or server. Each OPTION=VALUE before it is an
option of `moss_tts.Model.generate` for every request, such as seed=1; mlx-audio's programs have few flags for these.
"""

import json
import runpy
import sys
from importlib.util import find_spec
from typing import Any

from moss_tts.mlx_audio.runtime import defaults

USAGE = "usage: python -m moss_tts.mlx_audio [OPTION=VALUE ...] tts.generate|server|... [its own options]"


def main() -> None:
    """Run the program that the command line names."""
    arguments = sys.argv[1:]
    options = {}
    while arguments and "=" in arguments[0]:
        name, _, value = arguments.pop(0).partition("=")
        options[name] = _value(value)
    if not arguments or arguments[0].startswith("-"):
        sys.exit(USAGE)
    defaults.update(options)
    program = f"mlx_audio.{arguments[0]}"
    sys.argv = [program, *arguments[1:]]
    try:
        found = find_spec(program)
    except ModuleNotFoundError:
        found = None
    if found is None:
        sys.exit(f"mlx-audio has no program {arguments[0]!r}.\n{USAGE}")
    runpy.run_module(program, run_name="__main__", alter_sys=True)


def _value(written: str) -> Any:
    try:
        return json.loads(written)
    except ValueError:
        return written


if __name__ == "__main__":
    main()
