"""Adapters baked into a copy: it speaks as the base does with the adapters beside it, or is refused."""

import numpy as np
import pytest

import moss_tts
from moss_tts.weights.layout import read_weights
from support.adapters import linears_of, write_adapter
from support.command_line import runner

OPTIONS = {"seed": 1, "max_tokens": 4}


def speech(directory, lora=None, **options):
    return next(moss_tts.load(directory, adapters=lora).generate("Hello, 2 of you.", **OPTIONS, **options)).audio


@pytest.mark.parametrize("name", ["delay", "local", "local_v1_5", "nano", "realtime"])
def test_the_copy_speaks_with_the_adapters(capsys, checkpoints, tmp_path, name):
    layers = linears_of(read_weights(checkpoints[name]))
    lora = {"ada": write_adapter(tmp_path / "ada", layers, 1), "mood": write_adapter(tmp_path / "mood", layers, 2, 3)}
    given = ["--lora", f"ada={lora['ada']}:0.5", "--lora", f"mood={lora['mood']}"]
    ended = runner(capsys)("convert", "--hf-path", checkpoints[name], "--mlx-path", tmp_path / "copy", *given)
    assert ended.code == 0, ended.err
    card = (tmp_path / "copy" / "README.md").read_text()
    assert "LoRA adapters are baked into the weights: `ada` with weight 0.5, `mood` with weight 1." in card
    beside = speech(checkpoints[name], lora, adapters={"ada": 0.5, "mood": 1.0})
    np.testing.assert_allclose(speech(tmp_path / "copy"), beside, atol=1e-4)
    base = speech(checkpoints[name])
    assert base.shape != beside.shape or not np.allclose(base, beside)


def test_what_is_refused(capsys, checkpoints, tmp_path):
    run, source = runner(capsys), checkpoints["local_v1_5"]
    weights = read_weights(source)
    head = write_adapter(tmp_path / "head", {"audio_lm_heads.1": weights["audio_embeddings.1.weight"].shape})
    layers = write_adapter(tmp_path / "layers", linears_of(weights))
    (tmp_path / "texts.txt").write_text("Hello.")
    quantised = tmp_path / "quantised"
    assert run("convert", "--hf-path", source, "--mlx-path", quantised, "-q", "--q-group-size", 32).code == 0
    for directory, more, message in (
        (source, ["--lora", f"ada={head}"], "changes the head audio_lm_heads.1, which is an embedding"),
        (source, ["--lora", f"ada={layers}:inf"], "the weight must be 0, or a number"),
        (quantised, ["--lora", f"ada={layers}"], "is quantised already"),
        (source, ["--lora", f"ada={layers}", "-q", "--calibrate", tmp_path / "texts.txt"], "--calibrate measures"),
    ):
        ended = run("convert", "--hf-path", directory, "--mlx-path", tmp_path / "copy", *more)
        assert ended.code != 0
        assert message in " ".join(ended.err.split())
        assert not (tmp_path / "copy").exists()
