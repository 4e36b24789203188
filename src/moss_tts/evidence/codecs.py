"""What the golden of a codec asks for, without knowledge of its sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import mlx.core as mx

from moss_tts.codec import MossAudioTokenizer, StreamingDecoder
from moss_tts.codec.network import in_mlx
from moss_tts.evidence.comparing import close, same

PREFIX = 2  # codebooks of wav_prefix
SURPLUS = 5  # samples of the second encoded signal beside its frames
SECOND = slice(3, 7)  # frames of wav_second
PUSHES = (1, 1, 3, 6, 1)  # frames that a stream brings at a time, again and again

Golden = dict[str, mx.array]


def check_codec_decoding(folder: Path) -> None:
    """Codes become upstream's waveform: whole, streamed, of the first codebooks, and beside a longer row."""
    codec, golden = codec_and_golden(folder)
    codes = golden["codes"].T
    same_wave(codec.decode(codes).audio, golden["wav"], "the waveform")
    same_wave(mx.concatenate(list(streamed(codec, codes)), axis=2), golden["wav"], "the waveform, streamed")
    prefix = codes[:, : golden["wav_prefix"].shape[-1] // codec.config.downsample_rate]
    for decoded in (codec.decode(prefix, num_quantizers=PREFIX), codec.decode(prefix[:PREFIX])):
        same_wave(decoded.audio, golden["wav_prefix"], f"the waveform of {PREFIX} codebooks")
    if "wav_second" in golden:
        row = codec.batch_decode([codes, codes[:, SECOND]]).rows()[1]
        same_wave(row[:, : golden["wav_second"].shape[1]], golden["wav_second"], "the second row of a batch")


def check_codec_encoding(folder: Path) -> None:
    """A signal and its beginning, as one batch, become upstream's codes."""
    codec, golden = codec_and_golden(folder)
    long = golden["enc_in"].astype(mx.float32)
    short = long[..., : len(golden["enc_codes_1"]) * codec.config.downsample_rate + SURPLUS]
    for index, row in enumerate(codec.batch_encode([long, short]).rows()):
        same(row.T, golden[f"enc_codes_{index}"], f"the codes of signal {index}")
    if "encoder_hidden" in golden:
        check_hidden(codec, golden)
    if "enc_codes_mono" in golden:
        check_one_channel(codec, golden)


def codec_and_golden(folder: Path) -> tuple[MossAudioTokenizer, Golden]:
    """The codec of a folder, and what upstream computed with it."""
    golden: Golden = mx.load(str(folder / "golden.safetensors"))  # type: ignore[assignment]
    return MossAudioTokenizer.from_pretrained(folder), golden


def streamed(codec: MossAudioTokenizer, codes: mx.array) -> Iterator[mx.array]:
    """Audio (1, C, S) of codes (Q, F) that come some frames at a time."""
    stream, start, turn = StreamingDecoder(codec), 0, 0
    while start < codes.shape[1]:
        count = PUSHES[turn % len(PUSHES)]
        yield stream.push(codes[:, start : start + count])
        start, turn = start + count, turn + 1


def check_hidden(codec: MossAudioTokenizer, golden: Golden) -> None:
    """The encoder's output before the quantizer."""
    wanted = golden["encoder_hidden"]
    signal = golden["enc_in"][:, : len(wanted) * codec.config.downsample_rate].astype(mx.float32)
    hidden, _ = codec.encoder(signal.T.reshape(1, -1, 1), codec.encoder.empty_state(1), None)
    close(in_mlx(hidden).reshape(wanted.shape), wanted, "the encoder's hidden states")


def check_one_channel(codec: MossAudioTokenizer, golden: Golden) -> None:
    """The left channel on both sides."""
    wanted = golden["enc_codes_mono"]
    left = golden["enc_in"][:1, : len(wanted) * codec.config.downsample_rate].astype(mx.float32)
    same(codec.encode(mx.concatenate([left, left])).codes[:, 0].T, wanted, "the codes of one channel")


def same_wave(made: mx.array, wanted: mx.array, name: str) -> None:
    """Compare a waveform, which may lack axes of batch and channel."""
    close(made.reshape(wanted.shape), wanted, name)


CODEC_CHECKS: list[Callable[[Path], None]] = [check_codec_decoding, check_codec_encoding]
