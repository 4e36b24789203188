"""What the golden of Realtime asks for, without knowledge of its sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from moss_tts.architectures import ARCHITECTURES, Architecture
from moss_tts.checkpoints.loading import load_architecture, load_config
from moss_tts.checkpoints.tokenizer import load_tokenizer
from moss_tts.context.kept import KeptContext
from moss_tts.context.text_column import TextColumn
from moss_tts.evidence.comparing import close, require, same
from moss_tts.evidence.goldens import cases, golden
from moss_tts.evidence.nano import DRAWS, shares
from moss_tts.prompts.messages import PromptEncoder
from moss_tts.prompts.packing import LEAD
from moss_tts.rows import Prompts, RowBatch, RowRequest
from moss_tts.rows import run as run_rows
from moss_tts.sampling import ChannelSampling, Sampling, penalise, seen_in
from moss_tts.weights.layout import read_weights

# Ends of the names of cases: with the row that follows a turn in training, with the opening of upstream's stream.
END_ROW, STREAM_OPENING = "_end_row", "_stream_opening"


class Golden:
    """A folder of this kind, and the network in it.

    Args:
        folder: the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.config: Any = load_config(folder)
        encoder = PromptEncoder.of(load_tokenizer(folder))
        self.architecture: Architecture[Any, Any] = load_architecture(
            folder, self.config, read_weights(folder), "float32"
        )
        self.packer: Any = ARCHITECTURES[type(self.config)].packer(self.config, encoder)
        self.wanted, self.cases = golden(folder), cases(folder)

    @property
    def spoken(self) -> list[str]:
        """The cases that have a prompt, a text and frames."""
        return [name for name in self.cases if f"{name}.input_ids" in self.wanted]

    def having(self, option: str) -> list[tuple[str, dict[str, Any]]]:
        """The cases that have an option, with all their options."""
        return [(name, options) for name, options in self.cases.items() if option in options]

    def text(self, name: str) -> list[int]:
        """The ids of a case's text."""
        return [int(one) for one in self.wanted[f"{name}.text_ids"]]

    def request(self, name: str, context: KeptContext | None = None) -> tuple[np.ndarray, RowRequest]:
        """The prompt of a case with the first rows of its text, and the rest as a request."""
        options, text = self.cases[name], self.text(name)
        lead = options["prefill_text"]
        prompt = np.concatenate([self.wanted[f"{name}.input_ids"][0], self.packer.reply_rows(text[:lead])])
        channel = ChannelSampling(0.0, 1.0, 0, options.get("repetition_penalty", 1.0))
        sampling = Sampling(channel, channel, options.get("repetition_window") or 0)
        return prompt, RowRequest(sampling, 0, options["limit"], (), TextColumn(text[lead:]), context)

    def batch(self, name: str, context: KeptContext | None = None) -> RowBatch:
        """A batch of one case, ready for its first frame."""
        prompt, request = self.request(name, context)
        return self.architecture.batch(Prompts.of(prompt), [request], self.config.n_vq)

    def rows(self, name: str, context: KeptContext | None = None) -> np.ndarray:
        """The rows (N, 1 + Q) of a case, the one that ends it among them."""
        return np.concatenate(list(islice(run_rows(self.batch(name, context)), self.cases[name]["limit"])))

    def context_of(self, name: str) -> KeptContext:
        """The context of a case: what the turn before it, and those before that, have left."""
        before = self.cases[name].get("after")
        if before is None:
            return KeptContext(1 + self.config.n_vq)
        context = self.context_of(before)
        self.settle(context, before, self.rows(before, context))
        return context

    def settle(self, context: KeptContext, name: str, made: np.ndarray) -> None:
        """End the turn of a case that has made these rows; the last of them is in no context."""
        context.settle(np.concatenate([self.request(name)[0], made[:-1]]))


def check_realtime_hidden(folder: Path) -> None:
    """Hidden states of all rows of a turn and of two, and the logits of frames that are given, are upstream's."""
    known = Golden(folder)
    network, wanted = known.architecture.network, known.wanted
    for name in [name.removesuffix(".rows") for name in wanted if name.endswith(".rows")]:
        hidden = network(mx.array(wanted[f"{name}.rows"]), network.backbone.make_cache([0]))[0]
        close(hidden, wanted[f"{name}.hidden"], f"hidden states of {name}")
    logits = network.depth_logits(mx.array(wanted["depth.hidden"]), mx.array(wanted["depth.labels"]))
    close(logits, wanted["depth.logits"], "logits of the depth transformer")


def check_realtime_greedy(folder: Path) -> None:
    """Greedy frames of every case, turns in one context among them, are upstream's, and end where upstream's do."""
    known = Golden(folder)
    for name in known.spoken:
        options, context, text = known.cases[name], known.context_of(name), known.text(name)
        made = known.rows(name, context)
        same(made[:, 1:], known.wanted[f"{name}.greedy"], f"greedy codes of {name}")
        ended = bool(made[-1, 1] == known.config.end_code)
        require(ended == options["ended"], f"{name} {'ended' if ended else 'did not end'} by itself.")
        lead = options["prefill_text"]
        require("quirk" in options or lead == min(LEAD, len(text)), f"{name} begins to sound after {lead} ids of text.")
        left = max(0, len(text) - lead - len(made) + 1)
        require(left == options["text_left"], f"{left} ids of the text of {name} are left.")
        known.settle(context, name, made)
        rows = options.get("context_rows", len(context.rows))
        require(len(context.rows) == rows, f"the context after {name} has {len(context.rows)} rows instead of {rows}.")


def check_realtime_pieces(folder: Path) -> None:
    """A text in pieces: each gives as many frames as upstream's, and all of them are the frames of the whole text."""
    known = Golden(folder)
    for name, options in known.having("pieces"):
        text, at, made = known.text(options["of"]), 0, list[np.ndarray]()
        prompt, request = known.request(options["of"])
        column = TextColumn(ended=False)
        batch = known.architecture.batch(Prompts.of(prompt), [replace(request, column=column)], known.config.n_vq)
        for size, frames in zip(options["pieces"], options["frames_after_piece"], strict=True):
            at, before = at + size, len(made)
            column.push(text[LEAD + len(column) : at])
            if at >= LEAD:
                draw(batch, made, options["limit"])
            found = len(made) - before
            require(found == frames, f"the piece up to id {at} gives {found} frames instead of {frames}.")
        column.ended = True
        draw(batch, made, options["limit"])
        same(np.stack(made)[:, 1:], known.wanted[f"{name}.greedy"], f"greedy codes of {name}, a text in pieces")


def draw(batch: RowBatch, made: list[np.ndarray], most: int) -> None:
    """Add rows (1 + Q,) of the one request of a batch: as many as its text allows, up to the one that ends it."""
    while len(made) < most and not batch.is_stuck and not (made and batch.ended(made[-1][None])[0]):
        made.append(np.array(batch.step())[0])


def check_realtime_batch(folder: Path) -> None:
    """Cases side by side, which join one after the other: each has the frames that upstream made of it alone."""
    known = Golden(folder)
    for _, options in known.having("rows"):
        names = [*options["rows"], *(name for name in ("penalty", "plain") if name in known.cases)]
        batch = known.batch(names[0])
        for name in names[1:]:
            batch.extend(known.batch(name))
        most = max(known.cases[name]["limit"] for name in names)
        made = np.stack(list(islice(run_rows(batch), most)), axis=1)
        for name, rows in zip(names, made, strict=True):
            wanted = known.wanted[f"{name}.greedy"]
            same(rows[: len(wanted), 1:], wanted, f"greedy codes of {name} in a batch")


def check_realtime_prompts(folder: Path) -> None:
    """Every prompt is packed from words and codes as upstream packs it, and every text has upstream's ids."""
    known = Golden(folder)
    for name in known.spoken:
        same(packed(known, name), known.wanted[f"{name}.input_ids"][0], f"the prompt of {name}")
        if "segments" not in known.cases[name]:
            ids = np.array(known.packer.encoder.encode(known.cases[name]["text"]))
            same(ids, known.wanted[f"{name}.text_ids"], f"the text of {name}")


def packed(known: Golden, name: str) -> np.ndarray:
    """The prompt of a case, from its words and the codes of its recordings."""
    packer, options, wanted = known.packer, known.cases[name], known.wanted
    rows, is_first = wanted[f"{name}.input_ids"][0], options.get("after") is None
    voice = rows[rows[:, 0] == known.config.audio_user_slot_token_id, 1:]
    parts = [packer.system_rows(voice if len(voice) else None)] if is_first else []
    if name.endswith(END_ROW):
        parts.append(packer.end_of_turn_row())
    codes = wanted.get(f"{name.removesuffix(END_ROW)}.user_codes")
    if has_user := "user_text" in options or codes is not None:
        parts.append(packer.user_rows(options.get("user_text"), codes))
    parts.append(packer.reply_header(after_turn=not has_user and (not is_first or name.endswith(STREAM_OPENING))))
    return np.concatenate(parts)


def check_realtime_sampling(folder: Path) -> None:
    """Each code is drawn as often as upstream's probabilities say, and penalties weaken the same logits."""
    wanted = golden(folder)
    history = mx.array(wanted["sampler.history"])[..., None]
    for name, options in cases(folder).items():
        logits = mx.array(wanted[options.get("logits", "sampler.logits")])
        if name.startswith("sampler.") and "temperature" in options:
            drawn = shares(logits, ChannelSampling(options["temperature"], options["top_p"], options["top_k"]), None)
            close(drawn, wanted[name], f"the share of each code, {name}", 2 / DRAWS)
        elif name.startswith("sampler."):
            seen = seen_in(history[:, -(options["repetition_window"] or 0) :], logits.shape[1])[:, 0]
            close(penalise(logits, seen, mx.array(options["repetition_penalty"])), wanted[name], name)


REALTIME_CHECKS: list[Callable[[Path], None]] = [
    check_realtime_hidden,
    check_realtime_greedy,
    check_realtime_pieces,
    check_realtime_batch,
    check_realtime_prompts,
    check_realtime_sampling,
]
