"""What the goldens of the speech models ask for, without knowledge of their sizes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from moss_tts.checkpoints.loading import load_architecture, load_config
from moss_tts.config import DelayConfig, LocalConfig, LocalV15Config, MossConfig
from moss_tts.context.reading import whole
from moss_tts.local_v1_5_model import MossTTSLocalV15Model
from moss_tts.rows import DelayBatch, LocalBatch, Prompts, RowRequest
from moss_tts.rows import run as run_rows
from moss_tts.sampling import ChannelSampling, RowSampling, Sampling, seen_in
from moss_tts.weights.layout import read_weights

TOLERANCE = 1e-4


def load(folder: Path) -> tuple[Any, Any]:
    architecture = load_architecture(folder, load_config(folder), read_weights(folder), "float32")
    return architecture.network, architecture.config


def golden(folder: Path) -> dict[str, np.ndarray]:
    return {name: np.array(value) for name, value in mx.load(str(folder / "golden.safetensors")).items()}


def prompt_of(folder: Path, case: str = "start") -> np.ndarray:
    """A prompt (T, 1 + Q) of a golden; the one without a reference is called start, and plain in Nano's."""
    wanted = golden(folder)
    return wanted.get(f"{case}.input_ids", wanted.get("plain.input_ids"))[0]


def cases(folder: Path) -> dict[str, dict[str, Any]]:
    return json.loads((folder / "cases.json").read_text())


def greedy(options: dict[str, Any], default_penalty: float) -> RowRequest:
    penalty = options.get("audio_repetition_penalty", default_penalty)
    text = ChannelSampling(0.0, 1.0, 50)
    return RowRequest(Sampling(text, ChannelSampling(0.0, 1.0, 0, penalty)), seed=0, max_frames=2**30)


def left_padded(prompts: list[np.ndarray], config: MossConfig) -> Prompts:
    """Prompts (T, 1 + Q) of different lengths as one batch."""
    longest = max(len(prompt) for prompt in prompts)
    ids = np.full((len(prompts), longest, 1 + config.n_vq), config.audio_pad_code, dtype=np.int32)
    ids[..., 0] = config.pad_token_id
    mask = np.zeros((len(prompts), longest), dtype=bool)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = prompt
        mask[row, longest - len(prompt) :] = True
    return Prompts(ids, mask)


def rows_of(model: Any, config: Any, prompts: Prompts, requests: list[RowRequest], n_vq: int) -> Iterator[np.ndarray]:
    if isinstance(config, DelayConfig):
        return run_rows(whole(DelayBatch.reading(model, config, prompts, requests)))
    any_text = isinstance(config, LocalConfig)
    return run_rows(whole(LocalBatch.reading(model, config, prompts, requests, n_vq=n_vq, any_text=any_text)))


def start_of_output(prompt: np.ndarray, config: Any) -> int:
    """Where upstream's returned rows begin (models.md sections 2 and 3)."""
    if isinstance(config, DelayConfig):
        return int(np.flatnonzero(prompt[:, 0] == config.im_start_token_id)[-1]) + 3
    return int(np.flatnonzero(prompt[:, 0] == config.audio_start_token_id)[-1])


def start_length(prompt: np.ndarray, config: Any) -> int:
    rows = len(prompt) - start_of_output(prompt, config)
    return rows if isinstance(config, DelayConfig) else rows - 1


def run(model: Any, config: Any, prompts: list[np.ndarray], options: list[dict[str, Any]]) -> list[np.ndarray]:
    """Rows each prompt returns, as upstream returns them, generated together."""
    requests = [greedy(option, 1.0) for option in options]
    n_vq = options[0].get("n_vq_for_inference", config.n_vq)
    budget = [option["max_new_tokens"] for option in options]
    steps = list(islice(rows_of(model, config, left_padded(prompts, config), requests, n_vq), max(budget)))
    end = config.im_end_token_id if isinstance(config, DelayConfig) else config.audio_end_token_id
    returned = []
    for row, prompt in enumerate(prompts):
        made = [step[row] for step in steps[: budget[row]]]
        # Upstream returns the row with the end token, but for v1.5.
        kept = 0 if isinstance(config, LocalV15Config) else 1
        stop = next((index + kept for index, step in enumerate(made) if step[0] == end), len(made))
        returned.append(np.concatenate([prompt[start_of_output(prompt, config) :], *[r[None] for r in made[:stop]]]))
    return returned


def run_uncached(model: Any, config: Any, prompt: np.ndarray, option: dict[str, Any]) -> np.ndarray:
    """The same rows with every step computed from the whole history anew: one fresh loop per row."""
    n_vq = option.get("n_vq_for_inference", config.n_vq)
    made = run(model, config, [prompt], [option])[0]
    offset = start_of_output(prompt, config)
    history = np.concatenate([prompt[:offset], made])
    for position in range(len(prompt), len(history)):
        past, row = history[:position], history[position]
        if isinstance(config, LocalV15Config):
            np.testing.assert_array_equal(row, next_v1_5_row(model, config, past, len(prompt), option))
        else:
            assert_row_follows(model, config, past, row, n_vq, option)
    return made


def assert_row_follows(
    model: Any, config: Any, history: np.ndarray, row: np.ndarray, n_vq: int, option: dict[str, Any]
) -> None:
    """The codes of `row` are the best ones after `history`, by one pass over all of it without a kept cache."""
    cache = model.backbone.make_cache([0])
    if isinstance(config, DelayConfig):
        hidden = model(mx.array(history)[None], cache)[:, -1]
        best = np.array(model.audio_logits(hidden).argmax(axis=-1))[0]
        sampled = row[1:] != config.audio_pad_code
        if option.get("audio_repetition_penalty", 1.0) == 1.0:
            np.testing.assert_array_equal(row[1:][sampled], best[sampled])
        return
    hidden = model(mx.array(history)[None], cache, n_vq)[:, -1]
    text, audio = model.depth_logits(hidden, mx.array(row[None, :-1]))
    assert row[0] == int(text.argmax())
    best = np.array(audio[0, :, :-1].argmax(axis=-1))
    np.testing.assert_array_equal(row[1 : 1 + n_vq], best[:n_vq])


def next_v1_5_row(
    model: MossTTSLocalV15Model,
    config: LocalV15Config,
    history: np.ndarray,
    prompt_rows: int,
    option: dict[str, Any],
) -> np.ndarray:
    """The greedy row after `history`, from one pass over all of it."""
    request = greedy(option, 1.0)
    text, audio = RowSampling.of([request.sampling.text]), RowSampling.of([request.sampling.audio])
    hidden = model(mx.array(history)[None], model.backbone.make_cache([0]), config.n_vq)[:, -1]
    generated = mx.array(history[None, prompt_rows:, 1:])
    seen = seen_in(generated, config.audio_vocab_size) if generated.shape[1] else None
    slots = mx.array([config.audio_assistant_gen_slot_token_id, config.audio_end_token_id])
    draws = mx.zeros((1, 1 + config.n_vq))
    row = model.sample_next_channels(hidden, draws, text, audio, n_vq=config.n_vq, text_choices=slots, seen=seen)
    return np.array(row)[0]


def check_prompt_logits(folder: Path) -> None:
    """Hidden states and logits of every prompt, against upstream's."""
    model, config = load(folder)
    wanted = golden(folder)
    for name in cases(folder):
        rows = mx.array(wanted[f"{name}.input_ids"])
        cache = model.backbone.make_cache([0])
        if isinstance(config, DelayConfig):
            hidden = model(rows, cache)[0]
            text, audio = model.text_logits(hidden), model.audio_logits(hidden)
            audio = mx.where(mx.isinf(audio), 0.0, audio)  # stored so
        else:
            hidden = model(rows, cache, config.n_vq)[0]
            close(hidden, wanted[f"{name}.global_hidden"])
            if isinstance(config, LocalV15Config):
                continue
            text, audio = model.depth_logits(hidden, mx.array(wanted[f"{name}.labels"][0, :, :-1]))
        close(text, wanted[f"{name}.logits_text"])
        close(audio.transpose(1, 0, 2), wanted[f"{name}.logits_audio"])


def check_greedy(folder: Path) -> None:
    """Greedy rows and start_length of every case, alone."""
    model, config = load(folder)
    wanted = golden(folder)
    for name, option in cases(folder).items():
        prompt = wanted[f"{name}.input_ids"][0]
        np.testing.assert_array_equal(run(model, config, [prompt], [option])[0], wanted[f"{name}.greedy"], name)
        assert start_length(prompt, config) == int(wanted[f"{name}.start_length"][0])


def check_uncached(folder: Path) -> None:
    """Rows made with a cache are those that follow from the whole history computed anew."""
    model, config = load(folder)
    wanted = golden(folder)
    for name, option in cases(folder).items():
        run_uncached(model, config, wanted[f"{name}.input_ids"][0], option)


def check_batch(folder: Path) -> None:
    """All cases as one batch of different prompts, lengths and penalties: each row as upstream made it alone."""
    model, config = load(folder)
    wanted = golden(folder)
    depths: dict[int, list[str]] = {}
    for name, option in cases(folder).items():
        depths.setdefault(option.get("n_vq_for_inference", config.n_vq), []).append(name)
    for names in depths.values():
        prompts = [wanted[f"{name}.input_ids"][0] for name in names]
        made = run(model, config, prompts, [cases(folder)[name] for name in names])
        for name, rows in zip(names, made, strict=True):
            np.testing.assert_array_equal(rows, wanted[f"{name}.greedy"], name)


def close(made: mx.array, wanted: np.ndarray) -> None:
    np.testing.assert_allclose(np.array(made), wanted, atol=TOLERANCE, rtol=0)
