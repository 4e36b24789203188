"""A program of its own: it decodes the recording on its standard input by PyAV.

av_process.py starts it, confined. Samples go to standard output as float32, the channels of a sample side by side; then
it says a Report. Nothing of this package is imported.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import chain, groupby
from typing import Any

# Containers that are opened. Playlists are not: they name other files and addresses.
CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,aac,matroska,webm,asf,ogg,flac,mp3,wav,aiff,caf,amr,ac3,wv,ape,mpegts"
# Decoders that are used: formats of recordings, not those of games and disks, which few people maintain.
CODECS = frozenset(
    """
    aac aac_fixed aac_latm ac3 ac3_fixed adpcm_ima_qt adpcm_ima_wav adpcm_ms alac amrnb amrwb ape eac3 flac gsm gsm_ms
    libgsm libgsm_ms libopencore_amrnb libopencore_amrwb libopus libvorbis mp1 mp1float mp2 mp2float mp3 mp3float opus
    pcm_alaw pcm_f32be pcm_f32le pcm_f64be pcm_f64le pcm_mulaw pcm_s16be pcm_s16be_planar pcm_s16le pcm_s16le_planar
    pcm_s24be pcm_s24le pcm_s24le_planar pcm_s32be pcm_s32le pcm_s32le_planar pcm_s8 pcm_s8_planar pcm_u8 speex vorbis
    wavpack wmalossless wmapro wmav1 wmav2 wmavoice
    """.split()
)


@dataclass(frozen=True)
class Limits:
    """Limits of a decode.

    Attributes:
        duration: seconds of the audio.
        channels: most of them.
        values: samples of all channels together.
        lowest_rate, highest_rate: the range of sample rates, in Hz.
    """

    duration: float
    channels: int
    values: int
    lowest_rate: int
    highest_rate: int

    def allow(self, samples: int, channels: int, rate: int) -> bool:
        """Whether a recording of so many samples per channel is within them."""
        return (
            self.lowest_rate <= rate <= self.highest_rate
            and channels <= self.channels
            and samples <= self.duration * rate
            and samples * channels <= self.values
        )


@dataclass(frozen=True)
class Report:
    """The result of decoding a recording.

    Attributes:
        samples: per channel, that were decoded; beyond the limits, those that the file announces or has up to there.
        channels, rate: the number of channels and the rate in Hz of these samples.
        damaged: parts that were left out.
        error: why it could not be decoded.
    """

    samples: int = 0
    channels: int = 0
    rate: int = 0
    damaged: int = 0
    error: str | None = None


class _NoAudio(Exception):
    """The recording has no sample that can be decoded."""


class _Decode:
    """One recording on its way from standard input to standard output."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._damaged = 0

    def report(self) -> Report:
        """Decode until the recording ends or goes beyond the limits."""
        import av

        options = {
            "format_whitelist": CONTAINERS,
            "codec_whitelist": ",".join(sorted(CODECS)),
            "protocol_whitelist": "fd",
            "fd": str(sys.stdin.fileno()),
        }
        try:
            # Names and titles are not needed, so their encoding does not matter.
            with av.open("fd:", options=options, metadata_errors="ignore") as container:
                return self._of_container(container)
        except av.FFmpegError as error:
            return Report(error=f"not audio that can be decoded: {error.strerror}")
        except _NoAudio as error:
            return Report(error=str(error))

    def _of_container(self, container: Any) -> Report:
        track = container.streams.best("audio")
        if track is None:
            raise _NoAudio("there is no audio track in it")
        codec = track.codec_context
        if codec is None:
            raise _NoAudio("not audio that can be decoded: its encoding is not known")
        if codec.name not in CODECS:
            raise _NoAudio(f"its encoding, {codec.name}, is not one that is read here; save it as wav, flac or m4a")
        if codec.sample_rate:
            announced = max(1, (container.duration or 0) * codec.sample_rate // 1_000_000)
            if not self._limits.allow(announced, codec.channels, codec.sample_rate):
                return Report(announced, codec.channels, codec.sample_rate)
        return self._written(self._frames(container, track))

    def _frames(self, container: Any, track: Any) -> Iterator[Any]:
        """All frames of a track that can be decoded; damaged ones are left out."""
        import av

        for packet in container.demux(track):
            try:
                yield from packet.decode()
            except av.InvalidDataError:
                self._damaged += 1

    def _written(self, frames: Iterator[Any]) -> Report:
        """Write samples until there are no more, or more than is allowed."""
        samples, channels, rate = 0, 0, 0
        for block in self._alike(frames):
            samples, channels, rate = samples + block.samples, block.layout.nb_channels, block.sample_rate
            if not self._limits.allow(samples, channels, rate):
                break
            # Planes are longer than their samples.
            sys.stdout.buffer.write(memoryview(block.planes[0])[: 4 * block.samples * channels])
        return Report(samples, channels, rate, self._damaged)

    def _alike(self, frames: Iterator[Any]) -> Iterator[Any]:
        """Frames as float32, channels side by side, all at the rate and with the channels of the first one."""
        import av

        target: dict[str, Any] = {}
        for _, alike in groupby(frames, key=lambda frame: (frame.format.name, frame.layout.name, frame.sample_rate)):
            first = next(alike)
            if not self._limits.allow(0, first.layout.nb_channels, first.sample_rate):
                raise _NoAudio(
                    f"a part of it has {first.layout.nb_channels} channels at {first.sample_rate} Hz; allowed are "
                    f"1..{self._limits.channels} channels at {self._limits.lowest_rate}..{self._limits.highest_rate} Hz"
                )
            target = target or {"format": "flt", "layout": first.layout, "rate": first.sample_rate}
            resampler = av.AudioResampler(**target)
            for frame in chain([first], alike, [None]):
                yield from resampler.resample(frame)


def main() -> None:
    """Decode within the Limits that the only argument holds in JSON."""
    report = _Decode(Limits(**json.loads(sys.argv[1]))).report()
    sys.stdout.buffer.flush()
    sys.stderr.write(json.dumps(asdict(report)))


if __name__ == "__main__":
    main()
