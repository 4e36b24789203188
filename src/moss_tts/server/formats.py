"""Audio as bytes while it is made: one encoder per response, so that a stream is one file and never several.

Chunks are floats (S,) or (S, C). Joined, the bytes are a complete file of the format.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final, Protocol

import numpy as np

from moss_tts.audio.pcm import MAX_WAV_BYTES, as_pcm, wav_header


class FormatEncoder(Protocol):
    """Turns chunks into bytes.

    Attributes:
        delay: seconds that decoders give before the first sample, because the bytes do not tell them to leave it out.
    """

    delay: float

    def feed(self, audio: np.ndarray) -> bytes:
        """The bytes that a chunk completes."""
        ...

    def close(self) -> bytes:
        """The bytes that are left."""
        ...


@dataclass(frozen=True)
class Format:
    """A format of responses.

    Attributes:
        media_type: the media type of the response.
        container: libavformat's name; "" where PyAV is not needed.
        codec: libavcodec's name.
        layout_of_samples: the layout that the codec takes: 16-bit or float, interleaved or planar.
        rates: sample rates that it takes, the model's own among them or not; () is any.
        bit_rate: bits per second and channel; 0 is the codec's choice.
        delay: samples that the codec puts before the first one.
        tells_delay: whether a file that is kept until its end tells decoders of them.
    """

    media_type: str
    container: str = ""
    codec: str = ""
    layout_of_samples: str = "s16"
    rates: tuple[int, ...] = ()
    bit_rate: int = 0
    delay: int = 0
    tells_delay: bool = True


FORMATS: Final = {
    "mp3": Format(
        "audio/mpeg",
        "mp3",
        "libmp3lame",
        "fltp",
        (44100, 48000, 32000, 24000, 22050, 16000, 12000, 8000),
        64_000,
        delay=1105,
    ),
    "opus": Format("audio/ogg", "ogg", "libopus", "flt", (48000, 24000, 16000, 12000, 8000), 48_000),
    "aac": Format(
        "audio/aac",
        "adts",
        "aac",
        "fltp",
        (48000, 44100, 32000, 24000, 22050, 16000, 8000),
        64_000,
        delay=1024,
        tells_delay=False,
    ),
    "flac": Format("audio/flac", "flac", "flac"),
    "wav": Format("audio/wav"),
    "pcm": Format("audio/pcm"),
}


def new_encoder(name: str, sample_rate: int, channels: int, whole: bool, mark: str | None = None) -> FormatEncoder:
    """An encoder of a format in FORMATS.

    Args:
        name: the name of the format.
        sample_rate: the sample rate of the chunks.
        channels: the channels of the chunks.
        whole: the bytes are kept until the end, so that headers can tell the length; otherwise they leave at once.
        mark: the mark of the file; raw samples have no place for it.
    """
    if name == "pcm":
        return PcmEncoder(b"")
    if name == "wav":
        if whole:
            return WholeWav(sample_rate, channels, mark)
        return PcmEncoder(wav_header(sample_rate, channels, MAX_WAV_BYTES, mark))
    return AvEncoder(FORMATS[name], sample_rate, channels, whole, mark)


class PcmEncoder:
    """16-bit little-endian samples behind a header."""

    delay = 0.0

    def __init__(self, header: bytes) -> None:
        self._header = header

    def feed(self, audio: np.ndarray) -> bytes:
        """Header and samples."""
        header, self._header = self._header, b""
        return header + as_pcm(audio).astype("<i2").tobytes()

    def close(self) -> bytes:
        """The header, if there was nothing else."""
        return self.feed(np.zeros(0, np.float32))


class WholeWav:
    """A WAV that knows its length."""

    delay = 0.0

    def __init__(self, sample_rate: int, channels: int, mark: str | None) -> None:
        self._format, self._mark = (sample_rate, channels), mark
        self._pcm = bytearray()

    def feed(self, audio: np.ndarray) -> bytes:
        """No bytes before the end."""
        self._pcm += as_pcm(audio).astype("<i2").tobytes()
        return b""

    def close(self) -> bytes:
        """The whole file."""
        return wav_header(*self._format, len(self._pcm), self._mark) + bytes(self._pcm)


class Outlet(io.RawIOBase):
    """A file that cannot seek, as a response cannot: written bytes wait to be taken."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def writable(self) -> bool:
        """Always true."""
        return True

    def write(self, content: Any) -> int:
        """Append."""
        self._bytes += content
        return len(content)

    def take(self) -> bytes:
        """What was written since the last time."""
        taken, self._bytes = bytes(self._bytes), bytearray()
        return taken


class KeptFile(io.BytesIO):
    """A file with a header that is completed at the end."""

    def take(self) -> bytes:
        """Nothing before the end."""
        return b""


class AvEncoder:
    """One of FFmpeg's encoders and muxers."""

    def __init__(self, format_: Format, sample_rate: int, channels: int, whole: bool, mark: str | None) -> None:
        import av

        layout = {1: "mono", 2: "stereo"}[channels]
        rate = sample_rate if not format_.rates or sample_rate in format_.rates else 48000
        self._file = KeptFile() if whole else Outlet()
        # The same audio is the same bytes: no random serial number, no version of a library. A packet leaves when
        # it is made, and a page of Ogg is short enough for a listener.
        options = {"fflags": "+bitexact", "flush_packets": "1"}
        if format_.container == "ogg":
            options["page_duration"] = "100000"
        if format_.container == "adts" and mark is not None:
            options["write_id3v2"] = "1"
        self._container: Any = av.open(self._file, "w", format=format_.container, options=options)
        if mark is not None:
            self._container.metadata["comment"] = mark
        self._stream = self._container.add_stream(format_.codec, rate=rate, options={"flags": "+bitexact"})
        self._stream.layout = layout
        if format_.bit_rate:
            self._stream.bit_rate = format_.bit_rate * channels
        self._resampler = av.AudioResampler(format=format_.layout_of_samples, layout=layout, rate=rate)
        self._frame: Callable[..., Any] = av.AudioFrame.from_ndarray
        self._rate, self._layout = sample_rate, layout
        self._samples = 0
        self.delay = 0.0 if whole and format_.tells_delay else format_.delay / rate

    def feed(self, audio: np.ndarray) -> bytes:
        """Packets that a chunk completes."""
        if len(audio):
            pcm = np.ascontiguousarray(as_pcm(audio).reshape(1, -1))
            frame = self._frame(pcm, format="s16", layout=self._layout)
            frame.sample_rate, frame.pts, frame.time_base = self._rate, self._samples, Fraction(1, self._rate)
            self._samples += len(audio)
            self._encode(self._resampler.resample(frame))
        return self._file.take()

    def _encode(self, frames: list[Any]) -> None:
        for frame in frames:
            for packet in self._stream.encode(frame):
                self._container.mux(packet)

    def close(self) -> bytes:
        """Packets that are left, and the end of the container; the whole file, if it was kept."""
        self._encode(self._resampler.resample(None))
        for packet in self._stream.encode(None):
            self._container.mux(packet)
        self._container.close()
        return self._file.getvalue() if isinstance(self._file, KeptFile) else self._file.take()
