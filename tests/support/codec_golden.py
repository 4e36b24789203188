"""What the golden of a codec asks for, without knowledge of its sizes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import mlx.core as mx
import numpy as np

from moss_tts.codec import CodecConfig, MossAudioTokenizer, StreamingDecoder, upstream_shapes
from moss_tts.codec.network import in_mlx

TOLERANCE = 1e-4
PREFIX = 2  # codebooks of wav_prefix
SURPLUS = 5  # samples of the second encoded signal beside its frames
SECOND = slice(3, 7)  # frames of wav_second
PUSHES = (1, 1, 3, 6, 1)  # frames that a stream brings at a time, again and again

Golden = dict[str, mx.array]


def check_codec_golden(folder: Path) -> None:
    """Decoding (whole, streamed, of the first codebooks) and encoding, against upstream's."""
    codec = MossAudioTokenizer.from_pretrained(folder)
    golden = mx.load(str(folder / "golden.safetensors"))
    check_decoding(codec, golden)
    check_encoding(codec, golden)
    if "wav_second" in golden:
        check_second_row(codec, golden)
    if "encoder_hidden" in golden:
        check_hidden(codec, golden)
    if "enc_codes_mono" in golden:
        check_one_channel(codec, golden)


def check_published_codec(folder: Path) -> None:
    """config.json of the release, where it is beside the golden, is one of 21,969,664 parameters in 374 tensors."""
    published = folder / "published_config.json"
    if not published.exists():
        return
    shapes = upstream_shapes(CodecConfig.from_dict(json.loads(published.read_text())))
    assert (len(shapes), sum(int(np.prod(shape)) for shape in shapes.values())) == (374, 21_969_664)


def check_decoding(codec: MossAudioTokenizer, golden: Golden) -> None:
    codes = golden["codes"].T
    close(codec.decode(codes).audio, golden["wav"])
    close(mx.concatenate(list(streamed(codec, codes)), axis=2), golden["wav"])
    prefix = codes[:, : golden["wav_prefix"].shape[-1] // codec.config.downsample_rate]
    close(codec.decode(prefix, num_quantizers=PREFIX).audio, golden["wav_prefix"])
    close(codec.decode(prefix[:PREFIX]).audio, golden["wav_prefix"])


def streamed(codec: MossAudioTokenizer, codes: mx.array) -> Iterator[mx.array]:
    """Audio (1, C, S) of codes (Q, F) that come some frames at a time."""
    stream, start, turn = StreamingDecoder(codec), 0, 0
    while start < codes.shape[1]:
        count = PUSHES[turn % len(PUSHES)]
        yield stream.push(codes[:, start : start + count])
        start, turn = start + count, turn + 1


def check_second_row(codec: MossAudioTokenizer, golden: Golden) -> None:
    """Frames as the second row of a batch, beside a longer one."""
    codes = golden["codes"].T
    rows = codec.batch_decode([codes, codes[:, SECOND]]).rows()
    close(rows[1][:, : golden["wav_second"].shape[1]], golden["wav_second"])


def check_encoding(codec: MossAudioTokenizer, golden: Golden) -> None:
    """A signal and its beginning as one batch: valid frames alone."""
    long = golden["enc_in"].astype(mx.float32)
    short = long[..., : len(golden["enc_codes_1"]) * codec.config.downsample_rate + SURPLUS]
    for index, row in enumerate(codec.batch_encode([long, short]).rows()):
        np.testing.assert_array_equal(row.T, golden[f"enc_codes_{index}"])


def check_hidden(codec: MossAudioTokenizer, golden: Golden) -> None:
    """The encoder's output before the quantizer."""
    wanted = golden["encoder_hidden"]
    signal = golden["enc_in"][:, : len(wanted) * codec.config.downsample_rate].astype(mx.float32)
    hidden, _ = codec.encoder(signal.T.reshape(1, -1, 1), codec.encoder.empty_state(1), None)
    close(in_mlx(hidden), wanted)


def check_one_channel(codec: MossAudioTokenizer, golden: Golden) -> None:
    """The left channel on both sides."""
    wanted = golden["enc_codes_mono"]
    left = golden["enc_in"][:1, : len(wanted) * codec.config.downsample_rate].astype(mx.float32)
    np.testing.assert_array_equal(codec.encode(mx.concatenate([left, left])).codes[:, 0].T, wanted)


def close(made: mx.array, wanted: mx.array) -> None:
    np.testing.assert_allclose(np.array(made).reshape(wanted.shape), np.array(wanted), atol=TOLERANCE, rtol=0)
