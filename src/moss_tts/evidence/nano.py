"""What the golden of Nano asks for, without knowledge of its sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from moss_tts.architectures import ARCHITECTURES
from moss_tts.checkpoints.loading import load_config
from moss_tts.context.reading import whole
from moss_tts.evidence.comparing import close, require, same
from moss_tts.evidence.goldens import cases, golden, load
from moss_tts.evidence.speech import greedy
from moss_tts.presets import resolve_preset
from moss_tts.prompts.messages import AssistantMessage, Message, UserMessage
from moss_tts.prompts.sentence_pieces import SentencePieceEncoder
from moss_tts.rows import LocalBatch, Prompts
from moss_tts.rows import run as run_rows
from moss_tts.sampling import ChannelSampling, RowSampling, sample, seen_in

# Cases that are no prompts.
OTHERS = {"batch", "sampling"}
DRAWS = 2000


def prompts_of(folder: Path) -> dict[str, dict[str, Any]]:
    """Options of the cases that have one prompt."""
    return {name: options for name, options in cases(folder).items() if name not in OTHERS}


def codes_of(model: Any, config: Any, prompts: Prompts, options: dict[str, Any]) -> list[np.ndarray]:
    """Greedy codes (F, Q) of each prompt, generated together."""
    n_vq = options.get("nq", config.n_vq)
    requests = [greedy(options) for _ in prompts.input_ids]
    batch = whole(LocalBatch.reading(model, config, prompts, requests, n_vq=n_vq))
    steps = np.stack(list(islice(run_rows(batch), options["max_new_frames"])), axis=1)
    ends = steps[..., 0] == config.audio_end_token_id
    lengths = [int(row.argmax()) if row.any() else len(row) for row in ends]
    return [rows[:length, 1:] for rows, length in zip(steps, lengths, strict=True)]


def check_nano_greedy(folder: Path) -> None:
    """Greedy codes of every prompt are upstream's, and end where upstream's do."""
    model, config = load(folder)
    wanted = golden(folder)
    for name, options in prompts_of(folder).items():
        (codes,) = codes_of(model, config, Prompts.of(wanted[f"{name}.input_ids"][0]), options)
        same(codes, wanted[f"{name}.greedy"], f"greedy codes of {name}")
        ended = len(codes) < options["max_new_frames"]
        require(ended == options["ended"], f"{name} {'ended' if ended else 'did not end'} by itself.")


def check_nano_logits(folder: Path) -> None:
    """Hidden states of every prompt, and the logits of rows that are given, are upstream's."""
    model, config = load(folder)
    wanted = golden(folder)
    for name, options in prompts_of(folder).items():
        n_vq = options.get("nq", config.n_vq)
        if (hidden := wanted.get(f"{name}.global_hidden")) is not None:
            rows = mx.array(wanted[f"{name}.input_ids"])
            close(model(rows, model.backbone.make_cache([0]), n_vq)[0], hidden, f"hidden states of {name}")
        labels = mx.array(wanted[f"{name}.labels"])
        text, audio = model.depth_logits(mx.array(wanted[f"{name}.depth_hidden"]), labels[:, :-1])
        close(audio.transpose(1, 0, 2)[:n_vq], wanted[f"{name}.logits_audio"], f"audio logits of {name}")
        if f"{name}.logits_text" in wanted:
            close(text, wanted[f"{name}.logits_text"], f"text logits of {name}")


def check_nano_batch(folder: Path) -> None:
    """Two prompts of different lengths as one batch: each has upstream's codes, which are pad codes after its end."""
    model, config = load(folder)
    wanted = golden(folder)
    prompts = Prompts(wanted["batch.input_ids"], wanted["batch.attention_mask"].astype(bool))
    made = codes_of(model, config, prompts, cases(folder)["batch"])
    for index, (codes, rows) in enumerate(zip(made, wanted["batch.greedy"], strict=True)):
        padding = np.full((len(rows) - len(codes), config.n_vq), config.audio_pad_code)
        same(np.concatenate([codes, padding]), rows, f"codes of prompt {index} in a batch")


def check_nano_prompts(folder: Path) -> None:
    """Every prompt is packed from its text as upstream packs it."""
    config = load_config(folder)
    packer = ARCHITECTURES[type(config)].packer(config, SentencePieceEncoder((folder / "tokenizer.model").read_bytes()))
    wanted = golden(folder)
    for name, options in prompts_of(folder).items():
        messages, mode = conversation_of(options["prompt"])
        rows = packer.pack(messages, mode, resolve_preset("nano").template, codes_given)
        same(rows, wanted[f"{name}.input_ids"][0], f"the prompt of {name}")


def conversation_of(prompt: dict[str, Any]) -> tuple[list[Message], str]:
    """The messages of a golden's prompt, and the mode in which they are packed."""
    reference = [np.array(prompt["reference"], dtype=np.int32)] if "reference" in prompt else None
    user = UserMessage(prompt.get("prompt_text", "") + prompt["text"], reference)
    if "prompt_codes" not in prompt:
        return [user], "generation"
    return [user, AssistantMessage([np.array(prompt["prompt_codes"], dtype=np.int32)])], "continuation"


def codes_given(references: Sequence[Any]) -> list[Any]:
    """References that are codes already."""
    return [reference.codes for reference in references]


def check_nano_sampling(folder: Path) -> None:
    """Each code is drawn as often as upstream's probabilities say."""
    wanted = golden(folder)
    history = mx.array(wanted["sampling.history"])[..., None]
    for name, options in cases(folder)["sampling"].items():
        tied = name == "tied"
        logits = mx.array(wanted["sampling.tied_logits" if tied else "sampling.logits"])
        seen = None if tied else seen_in(history, logits.shape[1] + 1)[..., :-1]
        drawn = shares(logits, ChannelSampling(**options), seen)
        close(drawn, wanted[f"sampling.{name}"], f"the share of each code, {name}", 2 / DRAWS)


def shares(logits: mx.array, options: ChannelSampling, seen: mx.array | None) -> np.ndarray:
    """The share (B, K) of each of K codes among draws at even distances, for logits (B, K)."""
    batch, codes = logits.shape
    at = mx.broadcast_to((mx.arange(DRAWS) + 0.5) / DRAWS, (batch, DRAWS))
    wide = mx.broadcast_to(logits[:, None], (batch, DRAWS, codes))
    drawn = np.array(sample(wide, at, RowSampling.of([options] * batch, keeps_ties=True), seen))
    return np.stack([np.bincount(row, minlength=codes) / DRAWS for row in drawn])


NANO_CHECKS: list[Callable[[Path], None]] = [
    check_nano_greedy,
    check_nano_logits,
    check_nano_batch,
    check_nano_prompts,
    check_nano_sampling,
]
