"""What the goldens of Delay, Local and Local v1.5 ask for, without knowledge of their sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import mlx.core as mx
import numpy as np

from moss_tts.config import DelayConfig, LocalConfig, LocalV15Config, MossConfig, NanoConfig
from moss_tts.context.reading import whole
from moss_tts.evidence.comparing import close, require, same
from moss_tts.evidence.goldens import cases, golden, load
from moss_tts.rows import DelayBatch, LocalBatch, Prompts, RowBatch, RowRequest
from moss_tts.rows import run as run_rows
from moss_tts.sampling import ChannelSampling, RowSampling, Sampling, seen_in


class Upstream:
    """How upstream's code makes and returns rows of an architecture; here, of Local v1.0.

    Attributes:
        keeps_last_row: whether the row that ends speech is returned.
    """

    keeps_last_row: ClassVar[bool] = True

    def __init__(self, model: Any, config: Any) -> None:
        self.model, self.config = model, config

    @property
    def end(self) -> int:
        """The text id that ends speech."""
        return int(self.config.audio_end_token_id)

    def start(self, prompt: np.ndarray) -> int:
        """The row of a prompt (T, 1 + Q) where the rows that upstream returns begin."""
        return int(np.flatnonzero(prompt[:, 0] == self.config.audio_start_token_id)[-1])

    def start_length(self, prompt: np.ndarray) -> int:
        """What upstream calls start_length."""
        return len(prompt) - self.start(prompt) - 1

    def batch(self, prompts: Prompts, requests: list[RowRequest], n_vq: int) -> RowBatch:
        """The loop that samples as upstream does."""
        return whole(LocalBatch.reading(self.model, self.config, prompts, requests, n_vq=n_vq, any_text=True))

    def hidden(self, rows: np.ndarray, n_vq: int | None = None) -> mx.array:
        """Hidden states (B, T, D) of rows (B, T, 1 + Q), read in one pass without padding."""
        cache = self.model.backbone.make_cache([0] * len(rows))
        return self.model(mx.array(rows), cache, n_vq or self.config.n_vq)

    def check_prompt(self, wanted: Mapping[str, np.ndarray], name: str) -> None:
        """Hidden states and logits of the rows of a case; goldens of adapters have no logits."""
        hidden = self.hidden(wanted[f"{name}.input_ids"])[0]
        close(hidden, wanted[f"{name}.global_hidden"], f"hidden states of {name}")
        if f"{name}.labels" in wanted:
            self._check_logits(hidden, wanted, name)

    def _check_logits(self, hidden: mx.array, wanted: Mapping[str, np.ndarray], name: str) -> None:
        text, audio = self.model.depth_logits(hidden, mx.array(wanted[f"{name}.labels"][0, :, :-1]))
        close(text, wanted[f"{name}.logits_text"], f"text logits of {name}")
        close(audio.transpose(1, 0, 2), wanted[f"{name}.logits_audio"], f"audio logits of {name}")

    def check_row(self, past: np.ndarray, row: np.ndarray, prompt_rows: int, options: Mapping[str, Any]) -> None:  # noqa: ARG002
        """A greedy row follows from the rows before it, read in one pass without a kept cache."""
        n_vq = options.get("n_vq_for_inference", self.config.n_vq)
        hidden = self.hidden(past[None], n_vq)[:, -1]
        text, audio = self.model.depth_logits(hidden, mx.array(row[None, :-1]))
        same(row[:1], text.argmax(axis=-1), f"the text of row {len(past)}")
        same(row[1 : 1 + n_vq], audio[0, :n_vq, :-1].argmax(axis=-1), f"the codes of row {len(past)}")


class LocalV15Upstream(Upstream):
    """Local v1.5, and Nano."""

    keeps_last_row = False

    def batch(self, prompts: Prompts, requests: list[RowRequest], n_vq: int) -> RowBatch:
        """The loop that chooses between two text ids."""
        return whole(LocalBatch.reading(self.model, self.config, prompts, requests, n_vq=n_vq))

    def check_row(self, past: np.ndarray, row: np.ndarray, prompt_rows: int, options: Mapping[str, Any]) -> None:
        """The same, with the penalty on the frames that were generated."""
        config, request = self.config, greedy(options)
        hidden = self.hidden(past[None])[:, -1]
        generated = mx.array(past[None, prompt_rows:, 1:])
        made = self.model.sample_next_channels(
            hidden,
            mx.zeros((1, 1 + config.n_vq)),
            RowSampling.of([request.sampling.text]),
            RowSampling.of([request.sampling.audio]),
            n_vq=config.n_vq,
            text_choices=mx.array([config.audio_assistant_gen_slot_token_id, config.audio_end_token_id]),
            seen=seen_in(generated, config.audio_vocab_size) if generated.shape[1] else None,
        )
        same(row, made[0], f"row {len(past)}")


class DelayUpstream(Upstream):
    """Delay."""

    @property
    def end(self) -> int:
        """The text id that ends speech."""
        return int(self.config.im_end_token_id)

    def start(self, prompt: np.ndarray) -> int:
        """The third row after the last im_start."""
        return int(np.flatnonzero(prompt[:, 0] == self.config.im_start_token_id)[-1]) + 3

    def start_length(self, prompt: np.ndarray) -> int:
        """What upstream calls start_length, which counts the audio_start row."""
        return len(prompt) - self.start(prompt)

    def batch(self, prompts: Prompts, requests: list[RowRequest], n_vq: int) -> RowBatch:  # noqa: ARG002
        """The loop of the delay pattern."""
        return whole(DelayBatch.reading(self.model, self.config, prompts, requests))

    def hidden(self, rows: np.ndarray, n_vq: int | None = None) -> mx.array:  # noqa: ARG002
        """Hidden states (B, T, D) of rows (B, T, 1 + Q), which always have all codebooks."""
        return self.model(mx.array(rows), self.model.backbone.make_cache([0] * len(rows)))

    def check_prompt(self, wanted: Mapping[str, np.ndarray], name: str) -> None:
        """Logits of the rows of a case; the last audio logit, -inf, is stored as 0."""
        hidden = self.hidden(wanted[f"{name}.input_ids"])[0]
        audio = self.model.audio_logits(hidden).transpose(1, 0, 2)
        close(self.model.text_logits(hidden), wanted[f"{name}.logits_text"], f"text logits of {name}")
        close(mx.where(mx.isinf(audio), 0.0, audio), wanted[f"{name}.logits_audio"], f"audio logits of {name}")

    def check_row(self, past: np.ndarray, row: np.ndarray, prompt_rows: int, options: Mapping[str, Any]) -> None:  # noqa: ARG002
        """The same for the codes of a row; a penalty looks at more than its logits."""
        hidden = self.hidden(past[None])[:, -1]
        best = np.array(self.model.audio_logits(hidden).argmax(axis=-1))[0]
        sampled = row[1:] != self.config.audio_pad_code
        if options.get("audio_repetition_penalty", 1.0) == 1.0:
            same(row[1:][sampled], best[sampled], f"the codes of row {len(past)}")


UPSTREAM: dict[type[MossConfig], type[Upstream]] = {
    DelayConfig: DelayUpstream,
    LocalConfig: Upstream,
    LocalV15Config: LocalV15Upstream,
    NanoConfig: LocalV15Upstream,
}


def upstream(folder: Path) -> Upstream:
    """Upstream's ways with the network of a folder."""
    model, config = load(folder)
    return UPSTREAM[type(config)](model, config)


def greedy(options: Mapping[str, Any]) -> RowRequest:
    """A request that takes the likeliest of everything, with a case's penalty."""
    audio = ChannelSampling(0.0, 1.0, 0, options.get("audio_repetition_penalty", 1.0))
    return RowRequest(Sampling(ChannelSampling(0.0, 1.0, 50), audio), seed=0, max_frames=2**30)


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


def run(ways: Upstream, prompts: list[np.ndarray], options: list[dict[str, Any]]) -> list[np.ndarray]:
    """Rows of each prompt, as upstream returns them, generated together."""
    n_vq = options[0].get("n_vq_for_inference", ways.config.n_vq)
    budget = [option["max_new_tokens"] for option in options]
    batch = ways.batch(left_padded(prompts, ways.config), [greedy(option) for option in options], n_vq)
    steps = list(islice(run_rows(batch), max(budget)))
    return [
        np.stack([*prompt[ways.start(prompt) :], *until_the_end(ways, [step[row] for step in steps[: budget[row]]])])
        for row, prompt in enumerate(prompts)
    ]


def until_the_end(ways: Upstream, rows: list[np.ndarray]) -> Iterator[np.ndarray]:
    """The rows that upstream returns, of those that the loop makes."""
    for row in rows:
        ends = row[0] == ways.end
        if not ends or ways.keeps_last_row:
            yield row
        if ends:
            return


def check_prompt_logits(folder: Path) -> None:
    """Hidden states and logits of every prompt are upstream's."""
    ways, wanted = upstream(folder), golden(folder)
    for name in cases(folder):
        ways.check_prompt(wanted, name)


def check_greedy(folder: Path) -> None:
    """Greedy rows of every prompt are upstream's."""
    ways, wanted = upstream(folder), golden(folder)
    for name, option in cases(folder).items():
        prompt = wanted[f"{name}.input_ids"][0]
        same(run(ways, [prompt], [option])[0], wanted[f"{name}.greedy"], f"greedy rows of {name}")
        length, right = ways.start_length(prompt), int(wanted[f"{name}.start_length"][0])
        require(length == right, f"start_length of {name} is {length} instead of {right}.")


def check_uncached(folder: Path) -> None:
    """Rows made with a cache follow from the whole history computed anew."""
    ways, wanted = upstream(folder), golden(folder)
    for name, option in cases(folder).items():
        prompt = wanted[f"{name}.input_ids"][0]
        history = np.concatenate([prompt[: ways.start(prompt)], run(ways, [prompt], [option])[0]])
        for position in range(len(prompt), len(history)):
            ways.check_row(history[:position], history[position], len(prompt), option)


def check_batch(folder: Path) -> None:
    """All cases as one batch of different prompts, lengths and penalties: each row as upstream made it alone."""
    ways, wanted = upstream(folder), golden(folder)
    depths: dict[int, list[str]] = {}
    for name, option in cases(folder).items():
        depths.setdefault(option.get("n_vq_for_inference", ways.config.n_vq), []).append(name)
    for names in depths.values():
        prompts = [wanted[f"{name}.input_ids"][0] for name in names]
        made = run(ways, prompts, [cases(folder)[name] for name in names])
        for name, rows in zip(names, made, strict=True):
            same(rows, wanted[f"{name}.greedy"], f"rows of {name} in a batch")


SPEECH_CHECKS: list[Callable[[Path], None]] = [check_prompt_logits, check_greedy, check_uncached, check_batch]
