"""What the golden of a codec asks for, without knowledge of its sizes."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import numpy as np

from moss_tts.codec import MossAudioTokenizer

TOLERANCE = 1e-4
PREFIX = 2  # codebooks of wav_prefix
SHORT = (9, 5)  # the second encoded signal is 9 frames and 5 samples of the first


def check_codec_golden(folder: Path) -> None:
    """Whole and prefix decoding, and a batch of two encoded signals, against upstream's."""
    codec = MossAudioTokenizer.from_pretrained(folder)
    golden = mx.load(str(folder / "golden.safetensors"))
    codes = golden["codes"].T
    _close(codec.decode(codes).audio[0, 0], golden["wav"])
    _close(codec.decode(codes, num_quantizers=PREFIX).audio[0, 0], golden["wav_prefix"])
    _close(codec.decode(codes[:PREFIX]).audio[0, 0], golden["wav_prefix"])
    frames, samples = SHORT
    long = golden["enc_in"]
    short = long[: frames * codec.config.downsample_rate + samples]
    encoded = codec.batch_encode([long, short])
    for index, row in enumerate(encoded.rows()):
        np.testing.assert_array_equal(row.T, golden[f"enc_codes_{index}"])


def _close(made: mx.array, wanted: mx.array) -> None:
    np.testing.assert_allclose(np.array(made), np.array(wanted), atol=TOLERANCE, rtol=0)
