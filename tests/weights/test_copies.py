"""Heads that upstream ties to embeddings: stored copies are compared, and one that differs is refused."""

import shutil

import mlx.core as mx
import pytest

import moss_tts
from moss_tts.errors import CheckpointError, RequestError
from moss_tts.weights.copies import check_copies
from support.command_line import runner

COPIES = (("text_lm_head.", "transformer.embed_tokens."), ("audio_lm_heads.", "audio_embeddings."))
TEXT, AUDIO = "text_lm_head.weight", "audio_lm_heads.1.weight"
FILE = "model.safetensors"


@pytest.fixture
def with_copies(checkpoints, tmp_path):
    """Writes a Local v1.5 checkpoint with all tied copies, some of them changed."""

    def write(**changed: mx.array):
        directory = shutil.copytree(checkpoints["local_v1_5"], tmp_path / "source")
        weights = mx.load(str(directory / FILE))
        for copy, original in COPIES:
            weights |= {
                copy + name.removeprefix(original): weight
                for name, weight in list(weights.items())
                if name.startswith(original)
            }
        for name, weight in changed.items():
            assert name in weights
            weights[name] = weight(weights[name])
        mx.save_safetensors(str(directory / FILE), weights)
        return directory

    return write


def speech(directory, **options):
    return mx.array(next(moss_tts.load(directory, **options).generate("Hello, 2 of you", seed=1, max_tokens=3)).audio)


def test_equal_copies_change_nothing(checkpoints, with_copies):
    assert mx.array_equal(speech(with_copies()), speech(checkpoints["local_v1_5"]))


@pytest.mark.parametrize("name", [TEXT, AUDIO])
def test_a_head_that_differs_is_refused_and_named(checkpoints, with_copies, name):
    directory = with_copies(**{name: lambda weight: weight + 0.01})
    with pytest.raises(CheckpointError, match=rf"has {name}, which differs.*tied_heads=") as refused:
        moss_tts.load(directory)
    assert "audio_lm_heads.0" not in str(refused.value)
    assert mx.array_equal(speech(directory, tied_heads="embeddings"), speech(checkpoints["local_v1_5"]))


def test_a_head_of_another_shape_differs(with_copies):
    directory = with_copies(**{AUDIO: lambda weight: weight[:-1]})
    with pytest.raises(CheckpointError, match=AUDIO):
        moss_tts.load(directory)


def test_an_unknown_way_to_treat_heads_is_refused(checkpoints):
    with pytest.raises(RequestError, match="tied_heads must be 'embeddings' or None, got 'heads'"):
        moss_tts.load(checkpoints["local_v1_5"], tied_heads="heads")


def test_a_conversion_does_not_lose_a_head_in_silence(capsys, with_copies, tmp_path):
    run = runner(capsys)
    directory = with_copies(**{AUDIO: lambda weight: weight * 1.5})
    convert = ["convert", "--hf-path", directory, "--mlx-path", tmp_path / "copy"]
    ended = run(*convert)
    assert ended.code == 1
    assert f"{AUDIO}, which differs" in ended.err
    assert "--tied-heads embeddings" in ended.err
    assert not (tmp_path / "copy").exists()
    assert run(*convert, "--tied-heads", "embeddings").code == 0
    said = run(
        "generate", "Hello.", "-m", tmp_path / "copy", "-o", tmp_path / "a.wav", "--max-tokens", "3", "--seed", "1"
    )
    assert said.code == 0


@pytest.mark.parametrize(("stored", "kept"), [(mx.bfloat16, mx.float32), (mx.float32, mx.bfloat16)])
def test_two_types_are_compared_in_the_narrower_one(stored, kept):
    weight = mx.random.normal((8, 64), key=mx.random.key(0))
    check_copies({TEXT: weight.astype(stored), "transformer.embed_tokens.weight": weight.astype(kept)}, COPIES)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16])
def test_a_quantised_copy_is_a_copy_within_a_step_of_its_quantisation(bits, dtype):
    weight = (0.02 * mx.random.normal((16, 128), key=mx.random.key(0))).astype(dtype)
    other = weight + 0.05 * mx.random.normal(weight.shape, key=mx.random.key(1)).astype(dtype)
    for quantised, same in ((weight, True), (other, False)):
        packed, scales, biases = mx.quantize(quantised, group_size=64, bits=bits)
        stem = AUDIO.removesuffix("weight")
        stored = {AUDIO: packed, f"{stem}scales": scales, f"{stem}biases": biases, "audio_embeddings.1.weight": weight}
        if same:
            check_copies(stored, COPIES)
        else:
            with pytest.raises(CheckpointError, match=AUDIO):
                check_copies(stored, COPIES)
