"""The mark of files: a comment that programs can read, which says that the audio is synthetic and what made it.

Where a format has comments, the mark is one: ID3 in mp3 and aac, Vorbis comments in flac, ogg and opus, an atom in MP4,
an INFO chunk in WAV. Raw PCM has no place for it.
"""

from __future__ import annotations

from moss_tts._version import __version__

PROGRAM = f"moss_tts {__version__}"


def mark_of(model: str = "") -> str:
    """The mark of audio that a model made, in ASCII, for not all formats say which other characters they have."""
    name = model.encode("ascii", "replace").decode()
    return f"Synthetic audio, made by {name} with {PROGRAM}" if name else f"Synthetic audio, made with {PROGRAM}"
