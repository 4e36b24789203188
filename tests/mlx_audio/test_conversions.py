"""Conversions that the real `mlx_audio.convert` wrote: skipped without mlx-audio."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zlib import crc32

import mlx.core as mx
import numpy as np
import pytest

import moss_tts
from moss_tts.checkpoints.demo import write_demo_checkpoint
from moss_tts.evidence.goldens import load
from moss_tts.evidence.speech import run, upstream
from moss_tts.weights.layout import read_weights
from support.command_line import runner

pytest.importorskip("mlx_audio.convert", reason="needs mlx-audio: pip install mlx-audio==0.6.2")
KINDS: dict[str, dict[str, Any]] = {
    "bfloat16": {"dtype": "bfloat16"},
    "4 bit": {"quantize": True, "q_bits": 4},
    "8 bit": {"quantize": True, "q_bits": 8},
    "mixed": {"quantize": True, "quant_predicate": "mixed_3_6"},
    "mxfp4": {"quantize": True, "q_mode": "mxfp4"},
}
ROWS = 12
# (prefix of a stored copy, prefix of its embedding): mlx-audio wants both of Local v1.5, as upstream publishes them.
COPIES = (("text_lm_head.", "transformer.embed_tokens."), ("audio_lm_heads.", "audio_embeddings."))
Convert = Callable[[str, str], Path]


@pytest.fixture(scope="module")
def convert(tmp_path_factory: pytest.TempPathFactory) -> Convert:
    """The conversion of that kind of a random checkpoint of that architecture, made once."""
    from mlx_audio.convert import convert

    root, made = tmp_path_factory.mktemp("conversions"), set()

    def converted(architecture: str, kind: str) -> Path:
        source, target = root / architecture, root / f"{architecture} {kind}"
        if not source.exists():
            write_source(source, architecture)
        if target not in made:
            convert(str(source), str(target), model_domain="tts", **KINDS[kind])
            made.add(target)
        return target

    return converted


def write_source(directory: Path, architecture: str) -> None:
    """A checkpoint as upstream publishes it: bfloat16, copies of tied heads, and what only training needs."""
    write_demo_checkpoint(directory, architecture)
    raw = json.loads((directory / "config.json").read_text())
    raw["language_config"]["max_position_embeddings"] = 4096
    (directory / "config.json").write_text(json.dumps(raw))
    weights = {name: anew(name, weight).astype(mx.bfloat16) for name, weight in read_weights(directory).items()}
    if architecture == "local_v1_5":
        for copy, embedding in COPIES:
            found = [name for name in weights if name.startswith(embedding)]
            weights |= {copy + name.removeprefix(embedding): weights[name] for name in found}
    if architecture == "local":
        table = weights["model.embedding_list.0.weight"]
        weights["model.language_model.embed_tokens.weight"] = mx.zeros(table.shape, table.dtype)
    mx.eval(weights)
    mx.save_safetensors(str(directory / "model.safetensors"), weights)


def anew(name: str, weight: mx.array) -> mx.array:
    """Other values for a matrix: those of the demo checkpoint make nearly the same codes in all frames."""
    if weight.ndim != 2:
        return weight
    made = mx.random.normal(weight.shape, key=mx.random.key(crc32(name.encode())))
    return made if "emb" in name else made * (2 / weight.shape[1] ** 0.5)


def prompt_for(config: Any) -> np.ndarray:
    """A prompt (T, 1 + Q): words, and frames of speech that go on, so that every codebook is open."""
    rng = np.random.default_rng(0)
    rows = np.full((24, 1 + config.n_vq), config.audio_pad_code, dtype=np.int32)
    rows[:, 0] = rng.integers(0, 250, len(rows))
    start = len(rows) - config.n_vq
    rows[start:, 1:] = rng.integers(0, config.audio_vocab_size, (config.n_vq, config.n_vq))
    rows[start:, 0] = config.audio_assistant_gen_slot_token_id
    rows[start - 1, 0] = config.audio_start_token_id
    rows[start - 4, 0] = config.im_start_token_id
    return rows


def their_rows(monkeypatch: pytest.MonkeyPatch, directory: Path, prompt: np.ndarray) -> np.ndarray:
    """Greedy rows of mlx-audio's own model, which computes in float32 here as ours does."""
    import mlx_audio.tts.utils as utils

    own = dict.fromkeys(("moss_tts_delay", "moss_tts_local"), "moss_tts")  # other tests put this runtime there
    monkeypatch.setattr(utils, "MODEL_REMAPPING", utils.MODEL_REMAPPING | own)
    model = utils.load(str(directory))
    assert type(model).__module__.startswith("mlx_audio.tts.models.moss_tts")
    model.set_dtype(mx.float32)
    generate = model.generate_local_ids if model.config.is_local_transformer else model.generate_delay_pattern_ids
    if model.config.is_v15_local_transformer:
        generate = model.generate_v15_local_ids
    greedy = {"text_temperature": 0.0, "audio_temperature": 0.0, "audio_repetition_penalty": 1.0}
    [(_, rows)] = generate(mx.array(prompt)[None], max_new_tokens=ROWS, **greedy)
    return np.array(rows)


def our_rows(directory: Path, prompt: np.ndarray) -> np.ndarray:
    return run(upstream(directory), [prompt], [{"max_new_tokens": ROWS}])[0]


# mlx-audio cannot write the others of Local; of Local v1.5 its quantised heads are not ours.
@pytest.mark.parametrize(
    ("architecture", "kind"),
    [
        *(("delay", kind) for kind in KINDS),
        *(("local", kind) for kind in ("bfloat16", "4 bit", "8 bit", "mxfp4")),
        ("local_v1_5", "bfloat16"),
    ],
)
def test_tokens_are_those_of_mlx_audio(
    convert: Convert, monkeypatch: pytest.MonkeyPatch, architecture: str, kind: str
) -> None:
    directory = convert(architecture, kind)
    _, config = load(directory)
    prompt = prompt_for(config)
    ours = our_rows(directory, prompt)
    np.testing.assert_array_equal(ours, their_rows(monkeypatch, directory, prompt))
    assert len(np.unique(ours[-ROWS:, 1:])) > 2 * config.n_vq


@pytest.mark.parametrize("kind", KINDS)
def test_the_embeddings_of_local_v1_5_stay_its_heads(
    convert: Convert, capsys: pytest.CaptureFixture[str], tmp_path: Path, kind: str
) -> None:
    """Quantised copies of them, which mlx-audio stores beside, change nothing."""
    directory = convert("local_v1_5", kind)
    shown = runner(capsys)("inspect", directory).out
    assert "5 stored copies of embeddings are not used" in shown
    assert ("of them have another precision" in shown) == (kind != "bfloat16")
    weights = read_weights(directory)
    alone = {name: weight for name, weight in weights.items() if not name.startswith(tuple(c for c, _ in COPIES))}
    assert len(alone) < len(weights)
    mx.save_safetensors(str(tmp_path / "model.safetensors"), alone)
    (tmp_path / "config.json").write_text((directory / "config.json").read_text())
    prompt = prompt_for(load(directory)[1])
    np.testing.assert_array_equal(our_rows(directory, prompt), our_rows(tmp_path, prompt))


@pytest.mark.parametrize("architecture", ["delay", "local", "local_v1_5"])
def test_a_conversion_runs_with_the_codec_beside_it(
    convert: Convert, capsys: pytest.CaptureFixture[str], architecture: str
) -> None:
    directory = convert(architecture, "4 bit")
    assert moss_tts.load(directory).sample_rate in (24000, 48000)
    shown = runner(capsys)("inspect", directory).out
    assert f"{directory}/audio_tokenizer: generation" in shown
    assert "It runs here." in shown
