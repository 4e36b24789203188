"""Trains the Local model on the codec's codes, teacher-forced on every channel. Resumes like the codec."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from . import checkpoint
from .codec import Codec, parameter_count
from .curves import Curve
from .data import FRAME, Utterance, utterances
from .model import SIZES, LocalModel, ModelSizes, local_config
from .prompt import Lesson, RowWriter
from .tokenizer import special_ids
from .train_codec import learning_rate, load_ahead

TEXT_WEIGHT = 1.0


@dataclass(frozen=True)
class ModelPlan:
    """How to train; `rows` bounds a batch: prompts and answers of all its examples, padding included."""

    sizes: ModelSizes = SIZES
    steps: int = 20_000
    minutes: float = 1e9
    rows: int = 4_096
    pool: int = 2_000
    rate: float = 1e-3
    warmup: int = 500
    joined: float = 0.3
    referred: float = 0.15
    described: float = 0.2
    save_every: int = 500
    log_every: int = 25
    device: str = "cpu"
    loaders: int = 0
    seed: int = 0


@torch.no_grad()
def write_codes(codec: Codec, data: Path, state: Path, device: str, batch_frames: int = 4_000) -> Path:
    """Codes of every utterance, int16 (F, Q) end to end in `state`/codes.npy, with frame counts beside them."""
    torch.set_float32_matmul_precision("highest")  # near-ties between codes: the runtime computes in float32
    codec = codec.to(device).eval()
    found = sorted(utterances(data), key=lambda u: u.samples)
    codes: dict[Utterance, np.ndarray] = {}
    start = 0
    while start < len(found):
        longest = found[min(start + 256, len(found)) - 1].samples // FRAME
        group = found[start : start + max(1, min(256, batch_frames // longest))]
        audio = np.stack([np.pad(u.audio, (0, group[-1].samples - u.samples)) for u in group])
        made = codec.encode(torch.from_numpy(audio).to(device)).permute(1, 2, 0).cpu().numpy().astype(np.int16)
        codes |= {u: rows[: u.samples // FRAME] for u, rows in zip(group, made, strict=True)}
        start += len(group)
    ordered = sorted(codes, key=lambda u: (str(u.shard), u.start))
    np.save(state / "codes.npy", np.concatenate([codes[u] for u in ordered]))
    lines = [f"{len(codes[u])}\t{u.text}" for u in ordered]
    (state / "codes.tsv").write_text("\n".join(lines) + "\n")
    return state / "codes.npy"


class Corpus:
    """Texts with their codes, and random lessons made of them."""

    def __init__(self, state: Path, plan: ModelPlan) -> None:
        self.codes = np.load(state / "codes.npy", mmap_mode="r")
        table = [line.split("\t") for line in (state / "codes.tsv").read_text().splitlines()]
        self.texts = [text for _, text in table]
        self.ends = np.cumsum([int(frames) for frames, _ in table])
        self.plan = plan

    def spoken(self, index: int) -> np.ndarray:
        return np.asarray(self.codes[self.ends[index - 1] if index else 0 : self.ends[index]], np.int32)

    def lesson(self, rng: np.random.Generator) -> Lesson:
        """One sentence, or two or three in a row; sometimes with a reference, a length or a language."""
        count = int(rng.integers(2, 4)) if rng.random() < self.plan.joined else 1
        picked = rng.integers(len(self.texts), size=count)
        codes = np.concatenate([self.spoken(i) for i in picked])
        reference = self.excerpt(rng) if rng.random() < self.plan.referred else None
        fields = []
        if rng.random() < self.plan.described:
            fields.append(("Tokens", str(len(codes))))
        if rng.random() < self.plan.described:
            fields.append(("Language", "English"))
        return Lesson(" ".join(self.texts[i] for i in picked), codes, reference, tuple(fields))

    def excerpt(self, rng: np.random.Generator, most: int = 50) -> np.ndarray:
        codes = self.spoken(int(rng.integers(len(self.texts))))
        return codes[: int(rng.integers(12, most))]


class Lessons(IterableDataset):
    """Endless (rows (B, T, 1 + Q), which rows are answers (B, T)), right-padded, near `plan.rows` rows each.

    Lessons are drawn in pools, sorted by length and cut into batches, so that little is padding; those that
    share the whole template are kept apart from those with a reference or fields.
    """

    def __init__(self, corpus: Corpus, writer: RowWriter, plan: ModelPlan, start: int) -> None:
        self.corpus, self.writer, self.plan, self.start = corpus, writer, plan, start

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        worker = get_worker_info()
        for pool in count():
            yield from self.pool([self.plan.seed, self.start, worker.id if worker else 0, pool])

    def pool(self, seed: list[int]) -> Iterator[tuple[Tensor, Tensor]]:
        rng = np.random.default_rng(seed)
        lessons = [self.corpus.lesson(rng) for _ in range(self.plan.pool)]
        plain = [lesson for lesson in lessons if lesson.reference is None and not lesson.fields]
        rich = [lesson for lesson in lessons if lesson.reference is not None or lesson.fields]
        groups = [group for kind in (plain, rich) for group in self.groups(kind)]
        for index in rng.permutation(len(groups)):
            yield collate(groups[index], self.writer)

    def groups(self, lessons: list[Lesson]) -> Iterator[list]:
        pairs = [(self.writer.prompt(lesson), self.writer.answer(lesson.codes)) for lesson in lessons]
        return cut(sorted(pairs, key=lambda pair: len(pair[0]) + len(pair[1])), self.plan.rows)


def cut(pairs: list, most_rows: int) -> Iterator[list]:
    """Runs of pairs, sorted by length, whose padded size is at most `most_rows`."""
    group: list = []
    for pair in pairs:
        if group and (len(group) + 1) * (len(pair[0]) + len(pair[1])) > most_rows:
            yield group
            group = []
        group.append(pair)
    if group:
        yield group


def collate(group: list, writer: RowWriter) -> tuple[Tensor, Tensor]:
    longest = max(len(prompt) + len(answer) for prompt, answer in group)
    width = group[0][0].shape[1]
    rows = np.full((len(group), longest, width), writer.pad_code, np.int64)
    rows[..., 0] = writer.ids["pad"]
    spoken = np.zeros((len(group), longest), bool)
    for n, (prompt, answer) in enumerate(group):
        end = len(prompt) + len(answer)
        rows[n, : len(prompt)], rows[n, len(prompt) : end] = prompt, answer
        spoken[n, len(prompt) : end] = True
    return torch.from_numpy(rows), torch.from_numpy(spoken)


def lesson_loss(model: LocalModel, rows: Tensor, spoken: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean cross-entropy of the text channel plus the mean over codebooks; closing rows have no codes to learn."""
    logits, labels = model(rows, spoken), rows[spoken]
    pad_code = model.config["audio_pad_code"]
    text = F.cross_entropy(logits[0].float(), labels[:, 0])
    books = [F.cross_entropy(head.float(), labels[:, n], ignore_index=pad_code) for n, head in enumerate(logits[1:], 1)]
    audio = torch.stack(books)
    parts = {"text": text, "audio": audio.mean(), "first": books[0], "last": books[-1]}
    return TEXT_WEIGHT * text + audio.sum() / 4, {name: part.detach() for name, part in parts.items()}


def train_model(state: Path, tokenizer: Tokenizer, codec_config: dict, plan: ModelPlan) -> LocalModel:
    """The model after training on `state`/codes.npy; checkpoints and its curve lie in `state`."""
    torch.manual_seed(plan.seed)
    quantizer = codec_config["quantizer_kwargs"]
    books, codes = quantizer["num_quantizers"], quantizer["codebook_size"]
    config = local_config(plan.sizes, special_ids(tokenizer), tokenizer.get_vocab_size(), books, codes)
    model = LocalModel(config).to(plan.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=plan.rate, betas=(0.9, 0.98), weight_decay=0.05)
    start = step = checkpoint.restore(state / "model", {"model": model}, {"model": optimizer})
    writer = RowWriter(tokenizer, config["audio_pad_code"])
    feed = load_ahead(Lessons(Corpus(state, plan), writer, plan, step), plan.loaders, plan.device)
    curve = Curve(state / "model.jsonl", plan.log_every)
    print(f"model: {parameter_count(model):,} parameters, from step {start}")
    deadline = time.monotonic() + 60 * plan.minutes
    while step < plan.steps and time.monotonic() < deadline:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, plan)
        rows, spoken = (tensor.to(plan.device, non_blocking=True) for tensor in next(feed))
        with torch.autocast(plan.device, torch.bfloat16, enabled=plan.device == "cuda"):
            loss, parts = lesson_loss(model, rows, spoken)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        curve.add(step, {**parts, "gradient": norm})
        if step % plan.save_every == 0:
            checkpoint.save(state / "model", step, {"model": model}, {"model": optimizer})
    checkpoint.save(state / "model", step, {"model": model}, {"model": optimizer})
    return model.eval()
