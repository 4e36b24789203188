"""The codec against mlx-audio's, which another team wrote, on the same random checkpoints: skipped without it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from moss_tts.codec import MossAudioTokenizer, StreamingDecoder
from support.codec_tiny import Raw, mono, nano, random_audio, random_codes, random_weights, stereo

peer = pytest.importorskip(
    "mlx_audio.codec.models.moss_audio_tokenizer", reason="the comparison needs mlx-audio: pip install mlx-audio==0.6.2"
)
FRAMES = 40  # several windows of every stage


@pytest.fixture(params=[mono, stereo, nano])
def both(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[MossAudioTokenizer, Any]:
    """Ours and theirs, read from one directory."""
    make: Callable[[], Raw] = request.param
    raw = make()
    (tmp_path / "config.json").write_text(json.dumps(raw))
    mx.save_safetensors(str(tmp_path / "model.safetensors"), random_weights(raw))
    return MossAudioTokenizer.from_pretrained(tmp_path), peer.MossAudioTokenizer.from_pretrained(tmp_path)


def test_both_decode_to_the_same(both: tuple[MossAudioTokenizer, Any]) -> None:
    ours, theirs = both
    codes = random_codes(ours, FRAMES)
    made, wanted = np.array(ours.decode(codes).audio), np.array(theirs.decode_audio_codes(codes.T)).T
    np.testing.assert_allclose(made[0], wanted, atol=1e-4, rtol=0)


def test_both_stream_to_the_same(both: tuple[MossAudioTokenizer, Any]) -> None:
    ours, theirs = both
    codes = random_codes(ours, FRAMES)
    decoder, session = StreamingDecoder(ours), theirs.make_streaming_decoder()
    for first in range(0, FRAMES, 8):
        part = codes[:, first : first + 8]
        made, wanted = np.array(decoder.push(part[:, None])), np.array(session.decode_frames(part.T)).T
        np.testing.assert_allclose(made[0], wanted, atol=1e-4, rtol=0)


def test_both_hear_the_same(both: tuple[MossAudioTokenizer, Any]) -> None:
    ours, theirs = both
    audio = random_audio(ours, FRAMES * ours.config.downsample_rate)
    made, wanted = np.array(ours.encode(audio).codes), np.array(theirs.encode_audio(audio))
    np.testing.assert_array_equal(made[:, 0], wanted.T)
