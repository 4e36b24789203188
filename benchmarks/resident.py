"""What the system says of this process's memory."""

from __future__ import annotations

import resource
import sys


def peak_resident() -> int:
    """Bytes of this process at its largest."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
