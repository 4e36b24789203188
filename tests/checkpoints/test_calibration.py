"""Rounding by what layers hear: smaller errors of their products, in the same files, for every architecture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from moss_tts import Model, cli
from moss_tts import load as load_model
from moss_tts.checkpoints import gptq
from moss_tts.checkpoints.calibration import OPTIONS, Calibration, read_requests, spoken
from moss_tts.checkpoints.convert import convert
from moss_tts.checkpoints.demo import CODEC_DIRECTORY, write_demo_checkpoint
from moss_tts.checkpoints.loading import CheckpointSource, load_config
from moss_tts.checkpoints.plan import plan
from moss_tts.errors import RequestError
from moss_tts.weights.quantisation import AFFINE_BITS, Precision, asked_recipe, recipe_of

GROUP = 32


def said(model: Model, **options: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    return spoken(model.architecture, [model.job(model.request({**OPTIONS, **options}))])


@pytest.mark.parametrize("bits", AFFINE_BITS)
def test_codes_are_packed_as_mlx_packs_them(bits: int) -> None:
    codes = np.random.default_rng(bits).integers(0, 2**bits, (3, 64), np.uint8)
    ones, zeros = mx.ones((3, 2)), mx.zeros((3, 2))
    unpacked = mx.dequantize(gptq.pack(codes, bits), ones, zeros, group_size=GROUP, bits=bits)
    np.testing.assert_array_equal(np.array(unpacked), codes)


@pytest.mark.parametrize("bits", AFFINE_BITS)
def test_products_are_closer_than_after_plain_rounding(bits: int) -> None:
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((400, 20)) @ rng.standard_normal((20, 128)) + 0.1 * rng.standard_normal((400, 128))
    weight, precision = mx.array(rng.standard_normal((48, 128)), mx.float32), Precision(bits, GROUP, "affine")
    moments = gptq.Moments(128)
    for part in np.split(inputs, 4):
        moments.add(part)

    def error(parts: tuple[mx.array, ...]) -> float:
        lost = np.array(mx.dequantize(*parts, group_size=GROUP, bits=bits) - weight)
        return float(np.square(inputs @ lost.T).mean())

    assert error(gptq.quantize(weight, moments.factor, precision)) < 0.5 * error(precision.quantize(weight))


def test_inputs_that_never_come_change_nothing() -> None:
    weight, precision = mx.random.normal((8, 64)), Precision(4, GROUP, "affine")
    plain, silent = precision.quantize(weight), gptq.quantize(weight, gptq.Moments(64).factor, precision)
    for one, other in zip(plain, silent, strict=True):
        np.testing.assert_array_equal(np.array(one), np.array(other))


@pytest.mark.parametrize("name", ["delay", "local", "local_v1_5", "nano", "realtime"])
def test_every_quantised_layer_is_heard_and_the_copy_speaks(name: str, tmp_path: Path) -> None:
    demo = write_demo_checkpoint(tmp_path / "demo", name)
    model = load_model(demo)
    calibration = Calibration(model.architecture, said(model, text="Hello there.", max_tokens=6))
    factors: dict[str, np.ndarray] = {}

    def heard(path: str) -> np.ndarray:
        factors[path] = calibration.factor(path)
        return factors[path]

    planned = plan(demo, load_config(demo), recipe_of("mixed_4_6", group_size=GROUP), None, heard)
    convert(CheckpointSource(str(demo), demo, from_hub=False), tmp_path / "copy", planned, codec=demo / CODEC_DIRECTORY)
    assert len(factors) == len(planned.precisions)
    assert [path for path, factor in factors.items() if np.allclose(factor, np.eye(len(factor)))] == []
    assert next(iter(load_model(tmp_path / "copy").generate("Hello there.", seed=1, max_tokens=6))).samples > 0


def test_the_model_is_as_before(tmp_path: Path) -> None:
    demo = write_demo_checkpoint(tmp_path / "demo", "local")
    model, request = load_model(demo), {"text": "Hello.", "max_tokens": 4}
    before = said(model, **request)
    calibration = Calibration(model.architecture, before)
    calibration.factor("backbone.layers.0.self_attn.q_proj")
    for one, other in zip(before[0], said(model, **request)[0], strict=True):
        np.testing.assert_array_equal(one, other)


def test_texts_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "texts.txt"
    file.write_text('One.\n\n{"text": "Two.", "language": "en"}\n')
    assert read_requests(file) == [{"text": "One."}, {"text": "Two.", "language": "en"}]
    file.write_text('One.\n{"text": \n')
    with pytest.raises(RequestError, match="line 2 begins like a JSON object"):
        read_requests(file)
    file.write_text("\n")
    with pytest.raises(RequestError, match="has no text"):
        read_requests(file)


def test_calibration_is_asked_for_in_full(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="calibrate"):
        asked_recipe(False, None, None, None, None, tmp_path)
    with pytest.raises(RequestError, match="mode affine only"):
        asked_recipe(True, None, None, None, "mxfp4", tmp_path)


def test_convert_calibrates(tmp_path: Path) -> None:
    demo, texts = write_demo_checkpoint(tmp_path / "demo", "local"), tmp_path / "texts.txt"
    texts.write_text('{"text": "Hello.", "max_tokens": 4}\n')
    flags = ["-q", "--q-group-size", str(GROUP), "--calibrate", str(texts)]
    with pytest.raises(SystemExit, match=r"^0$"):
        cli.main(["convert", "--hf-path", str(demo), "--mlx-path", str(tmp_path / "copy"), *flags])
    assert "GPTQ" in (tmp_path / "copy" / "README.md").read_text()
