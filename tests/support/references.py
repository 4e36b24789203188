"""What references in a message hold, for tests that look at prompts."""

import numpy as np

from moss_tts.audio.references import CodeArray, Joined


def codes_of(reference):
    """The codes of a code matrix, or of several that are heard as one."""
    match reference:
        case CodeArray(codes):
            return codes
        case Joined(parts):
            return np.concatenate([codes_of(part) for part in parts])
    raise AssertionError(f"{reference} holds no codes")
