"""AAC in MP4 with chapter marks and tags, through PyAV, which is imported only here."""

from __future__ import annotations

import importlib
import io
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import langcodes
import numpy as np
from langcodes.tag_parser import LanguageTagError

from moss_tts.atomic import atomic_file
from moss_tts.audio.pcm import Pcm
from moss_tts.errors import AudioError, MossTTSWarning

# Speech in one channel is transparent at this rate.
BITS_PER_CHANNEL = 64_000
# Sample rates of AAC.
AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)


@dataclass(frozen=True)
class ChapterMark:
    """Where a chapter lies, in samples."""

    title: str
    start: int
    end: int


@dataclass(frozen=True)
class Tags:
    """Tags that players show.

    Attributes:
        title: the title of the book.
        author: the author of the book.
        language: a language tag, such as "en-GB".
        cover: a JPEG or PNG file.
        comment: what players show as the comment.
        genre: what kind of audio it is.
    """

    title: str
    author: str | None = None
    language: str | None = None
    cover: bytes | None = None
    comment: str | None = None
    genre: str = "Audiobook"


def require_av() -> Any:
    """PyAV.

    Raises:
        AudioError: it is not installed, or too old to write chapters.
    """
    try:
        av: Any = importlib.import_module("av")
    except ImportError as error:
        raise AudioError("an .m4b is written with PyAV: pip install 'moss-tts-mlx[av]'.") from error
    if not hasattr(av.container.OutputContainer, "set_chapters"):
        raise AudioError(f"PyAV {av.__version__} cannot write chapter marks: pip install --upgrade av.")
    return av


def write_m4b(
    path: Path, audio: Iterable[Pcm], sample_rate: int, channels: int, marks: Sequence[ChapterMark], tags: Tags
) -> None:
    """Write a book; the file appears whole or not at all.

    Args:
        path: the path of the file.
        audio: pieces (S,) or (S, C), encoded one by one.
        sample_rate: the sample rate, in Hz.
        channels: C.
        marks: one per chapter.
        tags: the tags that players show.

    Raises:
        AudioError: no PyAV, a rate AAC does not have, or a place that cannot be written to.
    """
    av = require_av()
    if sample_rate not in AAC_RATES:
        raise AudioError(f"AAC has no rate of {sample_rate} Hz; allowed: {', '.join(map(str, AAC_RATES))}.")
    # The brand tells players that this is audio; the other option leaves out dates and versions.
    as_wanted = {"format": "mp4", "options": {"fflags": "+bitexact", "brand": "M4A "}}
    try:
        with atomic_file(path) as part, av.open(str(part), "w", **as_wanted) as container:
            container.metadata.update(_metadata(tags))
            container.set_chapters([_chapter(number, mark, sample_rate) for number, mark in enumerate(marks)])
            stream = container.add_stream("aac", rate=sample_rate, layout="mono" if channels == 1 else "stereo")
            stream.metadata.update(_language(tags.language))
            if tags.cover is not None and _is_whole(av, tags.cover):
                _add_cover(av, container, tags.cover)
            _encode(av, container, stream, audio)
    except (OSError, av.error.FFmpegError) as error:
        raise AudioError(f"{path} cannot be written: {error}.") from error


def _metadata(tags: Tags) -> dict[str, str]:
    found = {"title": tags.title, "album": tags.title, "genre": tags.genre}
    if tags.author is not None:
        found |= {"artist": tags.author, "album_artist": tags.author}
    return found if tags.comment is None else {**found, "comment": tags.comment}


def _chapter(number: int, mark: ChapterMark, sample_rate: int) -> dict[str, Any]:
    return {
        "id": number,
        "start": mark.start,
        "end": mark.end,
        "time_base": Fraction(1, sample_rate),
        "metadata": {"title": mark.title},
    }


def _language(tag: str | None) -> dict[str, str]:
    """The language as MP4 spells it (ISO 639-2): "en-GB" is "eng"; nothing for a tag that is none."""
    try:
        return {} if tag is None else {"language": langcodes.Language.get(tag).to_alpha3()}
    except (LanguageTagError, LookupError):
        return {}


def is_picture(content: bytes) -> bool:
    """Whether a file is a JPEG or a PNG: MP4 knows no other covers."""
    return content.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"))


def _is_whole(av: Any, cover: bytes) -> bool:
    """Whether a cover can be read at all; says so where it cannot, for a book is worth more than its cover."""
    try:
        with av.open(io.BytesIO(cover)) as picture:
            if any(stream.width for stream in picture.streams.video):
                return True
    except (ValueError, av.error.FFmpegError):
        pass
    warnings.warn("The cover is left out; it is a damaged picture.", MossTTSWarning, stacklevel=2)
    return False


def _add_cover(av: Any, container: Any, cover: bytes) -> None:
    with av.open(io.BytesIO(cover)) as picture:
        [source] = picture.streams.video
        stream = container.add_stream_from_template(source)
        stream.disposition = av.stream.Disposition.attached_pic
        packet = next(picture.demux(source))
        packet.stream = stream
        container.mux(packet)


def _encode(av: Any, container: Any, stream: Any, audio: Iterable[Pcm]) -> None:
    sample_rate, layout = stream.codec_context.sample_rate, stream.codec_context.layout.name
    stream.bit_rate = BITS_PER_CHANNEL * (1 if layout == "mono" else 2)
    stream.codec_context.flags |= av.codec.context.Flags.bitexact
    resampler = av.AudioResampler(format="fltp", layout=layout, rate=sample_rate, frame_size=1024)
    position = 0
    for pcm in audio:
        if len(pcm):
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(pcm).reshape(1, -1), format="s16", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = sample_rate, position, Fraction(1, sample_rate)
            position += len(pcm)
            for planar in resampler.resample(frame):
                container.mux(stream.encode(planar))
    for planar in resampler.resample(None):
        container.mux(stream.encode(planar))
    container.mux(stream.encode(None))
