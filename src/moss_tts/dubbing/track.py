"""The track of a film: its cues at their times, silence between them, in a file that a film can be given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from moss_tts.audio.files import WRITABLE_FORMATS, write_pieces
from moss_tts.audio.m4b import Tags, write_m4b
from moss_tts.audio.pcm import Pcm, as_pcm
from moss_tts.errors import AudioError

TRACK_FORMATS: Final = (".m4a", *WRITABLE_FORMATS)
# Silence is written in pieces of so many samples.
_PIECE: Final = 2**18


@dataclass(frozen=True, eq=False)
class Placed:
    """Speech in the track: float32 (S,) or (S, C), from a sample on."""

    start: int
    audio: np.ndarray


def pieces(placed: Iterable[Placed], channels: int, length: int) -> Iterator[Pcm]:
    """The samples of a track, piece by piece, (S,) or (S, C).

    Args:
        placed: the speech of its cues, in the order of time; none begins before the one before it has ended.
        channels: C.
        length: the least samples of the whole track.
    """
    position = 0
    for one in placed:
        assert one.start >= position, "cues do not overlap"
        yield from _silence(one.start - position, channels)
        yield as_pcm(one.audio)
        position = one.start + len(one.audio)
    yield from _silence(length - position, channels)


def _silence(samples: int, channels: int) -> Iterator[Pcm]:
    for start in range(0, samples, _PIECE):
        count = min(_PIECE, samples - start)
        yield np.zeros(count if channels == 1 else (count, channels), np.int16)


def write_track(
    path: Path, audio: Iterable[Pcm], sample_rate: int, channels: int, title: str, mark: str | None
) -> None:
    """Write a track as .m4a, .wav, .flac, .mp3 or .ogg, by the suffix: all of the file, or none of it.

    Raises:
        AudioError: another suffix, or a place that cannot be written to; an .m4a without PyAV.
    """
    if path.suffix.lower() not in TRACK_FORMATS:
        raise AudioError(f"{path}: a track is written as {', '.join(TRACK_FORMATS)}.")
    if path.suffix.lower() == ".m4a":
        write_m4b(path, audio, sample_rate, channels, [], Tags(title, comment=mark, genre="Dubbing"))
    else:
        write_pieces(path, audio, sample_rate, channels, {"comment": mark})
