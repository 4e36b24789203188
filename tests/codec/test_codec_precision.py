"""A decoder kept in fewer bits: codes stay the same, audio stays near, and memory is what was foretold."""

from __future__ import annotations

import gc
import json
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

from moss_tts import load
from moss_tts.checkpoints.demo import write_demo_checkpoint
from moss_tts.checkpoints.footprint import CodecBytes
from moss_tts.codec import CodecConfig, MossAudioTokenizer
from moss_tts.codec.precision import DECODERS, decoder_precision
from moss_tts.device import compiled
from moss_tts.errors import RequestError
from moss_tts.weights.shards import write_sums
from support.codec_tiny import config_json, patch, random_audio, random_codes, random_weights, transformer

# Of the root mean square of the audio in float32. Measured: 0.010 and 0.009 of random weights.
MOST_NOISE = {"float32": 0.0, "bfloat16": 0.03, "8bit": 0.03}
SAVED = {"float32": 1.0, "bfloat16": 0.52, "8bit": 0.32}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A codec of many equal layers, whose widths divide into groups of 64."""
    raw = config_json(
        [patch(4), transformer(4, 16, 8), patch(4), transformer(32, 64, 64)],
        [transformer(64, 64, 64, num_layers=24, dim_feedforward=256), patch(4), transformer(16, 64, 4), patch(4)],
        width=64,
    )
    directory = tmp_path_factory.mktemp("codec")
    weights = random_weights(raw)
    mx.eval(weights)
    mx.save_safetensors(str(directory / "model.safetensors"), weights)
    (directory / "config.json").write_text(json.dumps(raw))
    return directory


def codec_of(folder: Path, name: str) -> MossAudioTokenizer:
    return MossAudioTokenizer.from_pretrained(folder, decoder=decoder_precision(name))


def decoder_bytes(codec: MossAudioTokenizer) -> int:
    return sum(array.nbytes for _, array in tree_flatten(codec.decoder.parameters()))


@pytest.mark.parametrize("name", DECODERS)
def test_codes_stay_the_same_and_audio_stays_near(folder, name):
    codec, exact = codec_of(folder, name), MossAudioTokenizer.from_pretrained(folder)
    audio = random_audio(exact, 16 * 40)
    assert mx.array_equal(codec.encode(audio).codes, exact.encode(audio).codes)
    assert codec.fingerprint == exact.fingerprint
    codes = random_codes(exact, 30)
    made, wanted = np.array(codec.decode(codes).audio), np.array(exact.decode(codes).audio)
    assert made.dtype == np.float32
    assert np.sqrt(((made - wanted) ** 2).mean() / (wanted**2).mean()) <= MOST_NOISE[name]


@pytest.mark.parametrize("name", DECODERS)
def test_chunks_of_any_size_make_the_same_audio(folder, name):
    codec = codec_of(folder, name)
    codes = random_codes(codec, 30)
    whole, pieces = (np.array(codec.decode(codes, chunk_frames=size).audio) for size in (30, 7))
    noise = np.sqrt(((pieces - whole) ** 2).mean() / (whole**2).mean())
    assert noise < (0.01 if name == "bfloat16" else 1e-5)


@pytest.mark.c_on_cpus
@pytest.mark.parametrize("name", DECODERS)
def test_only_float32_is_computed_in_c(folder, name):
    here = compiled.library() is not None
    assert (codec_of(folder, name).decoder._compiled is not None) is (here and name == "float32")


@pytest.mark.parametrize("name", DECODERS)
def test_what_is_loaded_is_what_was_foretold(folder, name):
    config = CodecConfig.from_dict(json.loads((folder / "config.json").read_text()))
    codec, exact = codec_of(folder, name), codec_of(folder, "float32")
    foretold = CodecBytes.of(config, mx.load(str(folder / "model.safetensors"))).decoders
    assert foretold[name] - foretold["float32"] == decoder_bytes(codec) - decoder_bytes(exact)
    assert decoder_bytes(codec) <= SAVED[name] * decoder_bytes(exact)


@pytest.mark.parametrize("name", DECODERS)
def test_no_weight_is_in_memory_twice_while_a_codec_is_loaded(folder, name):
    gc.collect()
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    codec = codec_of(folder, name)
    most = mx.get_peak_memory() - before
    # Layer scales are folded in float32, a product at a time.
    largest = 64 * 256 * 4
    assert most <= 1.1 * (mx.get_active_memory() - before) + 3 * largest
    assert mx.get_active_memory() - before < 1.2 * decoder_bytes(codec)


def test_eight_bits_are_those_of_products_only(folder):
    codec = codec_of(folder, "8bit")
    whole = [module for _, module in codec.decoder.named_modules() if isinstance(module, nn.Linear)]
    assert all(module.weight.shape[1] % 64 for module in whole)
    assert sum(isinstance(module, nn.QuantizedLinear) for _, module in codec.decoder.named_modules()) > 96
    assert not any("scales" in name for name, _ in tree_flatten(codec.encoder.parameters()))


def test_a_model_speaks_with_a_smaller_decoder(tmp_path):
    demo = write_demo_checkpoint(tmp_path / "demo")
    write_sums(demo / "audio_tokenizer", ["model.safetensors"])
    frames = []
    for name in DECODERS:
        result = next(load(demo, codec_dtype=name).generate("Hello there.", seed=2, max_tokens=8))
        assert np.isfinite(np.array(result.audio)).all()
        frames.append(result.token_count)
    assert len(set(frames)) == 1
    with pytest.raises(RequestError, match="float32, bfloat16, 8bit, got '4bit'"):
        load(demo, codec_dtype="4bit")
