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


@pytest.mark.parametrize("name", ["audio_lm_heads.1.bias", "audio_lm_heads.77.weight", "text_lm_head.magnitude"])
def test_what_is_no_copy_of_an_embedding_is_not_dropped(with_copies, name):
    directory = with_copies()
    mx.save_safetensors(str(directory / FILE), {**mx.load(str(directory / FILE)), name: mx.ones((24, 48))})
    with pytest.raises(CheckpointError, match=rf"has weights this architecture does not know: {name}\."):
        moss_tts.load(directory)


def test_a_head_of_another_shape_differs(with_copies):
    directory = with_copies(**{AUDIO: lambda weight: weight[:-1]})
    with pytest.raises(CheckpointError, match=AUDIO):
        moss_tts.load(directory)


def test_an_unknown_way_to_treat_heads_is_refused(checkpoints):
    with pytest.raises(RequestError, match="tied_heads must be 'embeddings' or None, got 'heads'"):
        moss_tts.load(checkpoints["local_v1_5"], tied_heads="heads")


def test_inspect_compares_heads_when_it_reads_all_weights(capsys, with_copies):
    directory = with_copies(**{AUDIO: lambda weight: weight * 1.5})
    inspect = ["inspect", directory]
    assert "It runs here." in runner(capsys)(*inspect).out
    assert f"{AUDIO}, which differs" in runner(capsys)(*inspect, "--verify").out


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
    check_copies({TEXT: weight.astype(stored), "transformer.embed_tokens.weight": weight.astype(kept)}, COPIES, 64)


def stored_as(stem: str, weight: mx.array, **settings) -> dict[str, mx.array]:
    """A matrix as a quantised layer stores it."""
    parts = mx.quantize(weight, **settings)
    return {f"{stem}{name}": part for name, part in zip(("weight", "scales", "biases"), parts, strict=False)}


HEAD, EMBEDDING = "audio_lm_heads.1.", "audio_embeddings.1."
WAYS = {
    "4 bit": {"group_size": 64, "bits": 4},
    "8 bit": {"group_size": 32, "bits": 8},
    "mxfp4": {"group_size": 32, "bits": 4, "mode": "mxfp4"},
    "nvfp4": {"group_size": 16, "bits": 4, "mode": "nvfp4"},
    "mxfp8": {"group_size": 32, "bits": 8, "mode": "mxfp8"},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16])
@pytest.mark.parametrize("both", [False, True])
def test_a_quantised_copy_is_a_copy_within_a_step_of_its_quantisation(monkeypatch, way, dtype, both):
    monkeypatch.setattr("moss_tts.weights.copies.ROWS", 6)
    weight = (0.02 * mx.random.normal((16, 128), key=mx.random.key(0))).astype(dtype)
    embedding = stored_as(EMBEDDING, weight, bits=6) if both else {f"{EMBEDDING}weight": weight}
    block = WAYS[way] | {EMBEDDING.removesuffix("."): {"group_size": 64, "bits": 6, "mode": "affine"}}
    check_copies(stored_as(HEAD, weight, **WAYS[way]) | embedding, COPIES, 128, block)
    other = weight + 0.05 * mx.random.normal(weight.shape, key=mx.random.key(1)).astype(dtype)
    for head in (other, 3 * weight):
        with pytest.raises(CheckpointError, match=AUDIO):
            check_copies(stored_as(HEAD, head, **WAYS[way]) | embedding, COPIES, 128, block)


@pytest.mark.parametrize("shape", [(), (16,), (16, 0), (15, 2), (16, 3), (16, 2, 1)])
def test_scales_of_a_strange_shape_are_no_copy(shape):
    weight = mx.random.normal((16, 128), key=mx.random.key(0))
    stored = stored_as(HEAD, weight) | {f"{EMBEDDING}weight": weight, f"{HEAD}scales": mx.ones(shape)}
    with pytest.raises(CheckpointError, match=AUDIO):
        check_copies(stored, COPIES, 128)
