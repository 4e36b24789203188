"""Checkpoints that were made to do harm: sizes that nobody can mean are refused before anything is built."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from moss_tts import load
from moss_tts.checkpoints.inspection import inspect_checkpoint
from moss_tts.errors import CheckpointError, ConfigError, GenerationError

HUGE = [10**8, 2**30, 10**400, 1e300, -1, True, [], {"a": {}}]
# Each size of a speech model's config that something is built by, and the block it stands in.
SIZES = {
    "delay": ["n_vq", "audio_vocab_size", "language_config.num_hidden_layers", "language_config.hidden_size"],
    "local": ["local_num_layers", "local_hidden_size", "language_config.num_attention_heads"],
    "local_v1_5": ["n_vq", "local_transformer_layers", "gpt2_config.n_inner", "qwen3_config.head_dim"],
}
CODEC_SIZES = {
    "delay": ["causal_transformer_context_duration", "encoder_kwargs.1.num_layers"],
    "local_v1_5": [
        "sampling_rate",
        "downsample_rate",
        "number_channels",
        "quantizer_kwargs.num_quantizers",
        "quantizer_kwargs.codebook_size",
        "encoder_kwargs.0.patch_size",
        "decoder_kwargs.0.context_duration",
    ],
}


def change(file: Path, path: str, value: Any) -> None:
    config = block = json.loads(file.read_text())
    *outer, key = path.split(".")
    for name in outer:
        block = block[int(name) if isinstance(block, list) else name]
    block[key] = value
    file.write_text(json.dumps(config))


def assert_refused(directory: Path) -> None:
    started = time.process_time()
    with pytest.raises((ConfigError, CheckpointError)) as caught:
        load(directory).processor.codec()  # which is read on first use
    assert time.process_time() - started < 5
    assert len(str(caught.value)) < 500
    assert inspect_checkpoint(directory).problems


@pytest.mark.parametrize(("name", "size"), [(name, size) for name, sizes in SIZES.items() for size in sizes])
def test_a_models_sizes_are_not_believed(name, size, copied):
    directory = copied(name)
    for value in HUGE:
        change(directory / "config.json", size, value)
        assert_refused(directory)


@pytest.mark.parametrize(("name", "size"), [(name, size) for name, sizes in CODEC_SIZES.items() for size in sizes])
def test_a_codecs_sizes_are_not_believed(name, size, copied):
    directory = copied(name)
    for value in HUGE:
        change(directory / "audio_tokenizer" / "config.json", size, value)
        assert_refused(directory)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("model_type", ["moss_tts_delay"]),
        ("language_config.layer_types", [{}]),
        ("language_config.rope_scaling", ["default"]),
        ("language_config.rope_theta", 1e300),
        ("codec_config", {"model_type": ["speech_tokenizer"]}),
        ("text_preparation", {"language": "en", "follows": [{}]}),
    ],
)
def test_values_of_other_kinds_are_told(path, value, copied):
    directory = copied("delay")
    change(directory / "config.json", path, value)
    assert_refused(directory)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("stream", [True, False])
def test_audio_that_is_no_numbers_is_an_error_and_never_a_file(value, stream, copied, tmp_path):
    directory = copied("local")
    file = directory / "audio_tokenizer" / "model.safetensors"
    weights = dict(mx.load(str(file)))
    name = next(name for name in weights if name.startswith("decoder.") and name.endswith("weight"))
    mx.save_safetensors(str(file), weights | {name: mx.full(weights[name].shape, value)})
    model = load(directory)
    with pytest.raises(GenerationError, match="not finite numbers: its weights are damaged"):
        list(model.generate("Hello.", max_tokens=5, seed=1, stream=stream))
    with pytest.raises(GenerationError):
        model.say("Hello.", max_tokens=5, seed=1).save(tmp_path / "hello.wav")
    assert not (tmp_path / "hello.wav").exists()


def test_a_tokenizer_may_not_name_tokens_that_the_network_has_not(copied):
    """What lies behind the embeddings in memory would be read, as far as there is any."""
    directory = copied("local")
    tokenizer = json.loads((directory / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    tokenizer["model"]["vocab"] = {piece: id_ + 10**6 * (piece == "H") for piece, id_ in vocabulary.items()}
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ConfigError, match=r"writes token 10\d+, outside the vocabulary of \d+"):
        load(directory).say("Hello.", max_tokens=2)
