"""Trains the Local model on the codec's codes, teacher-forced on every channel. Resumes like the codec."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from . import checkpoint, together
from .codec import Codec, parameter_count
from .curves import Curve
from .data import FRAME, Utterance, utterances
from .guide import Guide, Hints
from .model import SIZES, LocalModel, ModelSizes, local_config
from .muon import Muon
from .prompt import Lesson, RowWriter
from .tokenizer import special_ids
from .train_codec import learning_rate, load_ahead

TEXT_WEIGHT, FIRST_WEIGHT, OTHER_WEIGHT = 0.5, 1.0, 0.12
LOOK_WEIGHT, PHONEME_WEIGHT = 0.3, 0.5


@dataclass(frozen=True)
class ModelPlan:
    """How to train; `rows` bounds a batch: prompts and answers of all its examples, padding included.

    `full` is the share of frames of which every codebook is learned; of the others only the text channel and the
    first. `blurred` is the share of frames that the backbone hears wrongly, so that it relies on the text.
    With `finish` the rate falls so that training ends after `minutes`.
    """

    sizes: ModelSizes = SIZES
    steps: int = 20_000
    minutes: float = 1e9
    finish: bool = False
    rows: int = 4_096
    pool: int = 1_000
    rate: float = 2e-3
    warmup: int = 100
    joined: float = 0.0
    referred: float = 0.0
    described: float = 0.0
    full: float = 0.2
    blurred: float = 0.1
    guided: tuple[int, ...] = (1, 2, 3)
    save_every: int = 100
    log_every: int = 10
    device: str = "cpu"
    loaders: int = 0
    seed: int = 0
    rank: int = 0
    ranks: int = 1


@torch.no_grad()
def write_codes(codec: Codec, data: Path, state: Path, device: str, batch_frames: int = 4_000) -> Path:
    """Codes of every utterance, int16 (F, Q) end to end in `state`/codes.npy; codes.tsv has of each of them the
    frames, speaker, shard and text."""
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
    lines = [f"{len(codes[u])}\t{u.speaker}\t{u.shard.stem}\t{u.text}" for u in ordered]
    (state / "codes.tsv").write_text("\n".join(lines) + "\n")
    return state / "codes.npy"


class Corpus:
    """Texts with their codes, and random lessons made of them: one speaker's text, with its own voice as reference."""

    def __init__(self, state: Path, plan: ModelPlan) -> None:
        self.codes = np.load(state / "codes.npy", mmap_mode="r")
        table = [line.split("\t") for line in (state / "codes.tsv").read_text().splitlines()]
        self.texts = [text for *_, text in table]
        self.ends = np.cumsum([int(frames) for frames, *_ in table])
        self.speakers = np.array([speaker for _, speaker, *_ in table])
        self.by_speaker = {name: np.flatnonzero(self.speakers == name) for name in dict.fromkeys(self.speakers)}
        self.alignment = np.load(state / "alignment.npy", mmap_mode="r")
        self.plan = plan

    def of(self, table: np.ndarray, index: int) -> np.ndarray:
        """Utterance `index`'s part of a frame-by-frame table."""
        return np.asarray(table[self.ends[index - 1] if index else 0 : self.ends[index]], np.int32)

    def spoken(self, index: int) -> np.ndarray:
        """(F, Q), the codebooks that the model speaks."""
        return self.of(self.codes, index)[:, : self.plan.sizes.codebooks]

    def aligned(self, picked: np.ndarray) -> np.ndarray:
        """The alignment of texts joined by blanks."""
        parts, before = [], 0
        for index in picked:
            part = self.of(self.alignment, index)
            part[:, 0] += np.where(part[:, 0] >= 0, before, 0)
            parts.append(part)
            before += len(self.texts[index]) + 1
        return np.concatenate(parts)

    def lesson(self, rng: np.random.Generator) -> Lesson:
        """One sentence, or two or three in a row; sometimes with a reference, a length or a language."""
        count = int(rng.integers(2, 4)) if rng.random() < self.plan.joined else 1
        first = rng.integers(len(self.texts))
        own = self.by_speaker[self.speakers[first]]
        picked = np.array([first, *rng.choice(own, count - 1)])
        codes = np.concatenate([self.spoken(i) for i in picked])
        reference = self.excerpt(own, rng) if rng.random() < self.plan.referred else None
        fields = []
        if rng.random() < self.plan.described:
            fields.append(("Tokens", str(len(codes))))
        if rng.random() < self.plan.described:
            fields.append(("Language", "English"))
        return Lesson(" ".join(self.texts[i] for i in picked), codes, reference, tuple(fields), self.aligned(picked))

    def excerpt(self, own: np.ndarray, rng: np.random.Generator, most: int = 50) -> np.ndarray:
        """The beginning of one of the texts `own`."""
        return self.spoken(int(rng.choice(own)))[: int(rng.integers(12, most))]


Batch = tuple[Tensor, Tensor, Hints]


class Lessons(IterableDataset):
    """Endless (rows (B, T, 1 + Q), which rows are answers (B, T), hints), right-padded, near `plan.rows` rows each.

    Lessons are drawn in pools, sorted by length and cut into batches, so that little is padding; those that
    share the whole template are kept apart from those with a reference or fields.
    """

    def __init__(self, corpus: Corpus, writer: RowWriter, plan: ModelPlan, start: int) -> None:
        self.corpus, self.writer, self.plan, self.start = corpus, writer, plan, start

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        for pool in count():
            yield from self.pool([self.plan.seed, self.start, worker.id if worker else 0, pool, self.plan.rank])

    def pool(self, seed: list[int]) -> Iterator[Batch]:
        rng = np.random.default_rng(seed)
        lessons = [self.corpus.lesson(rng) for _ in range(self.plan.pool)]
        plain = [lesson for lesson in lessons if lesson.reference is None and not lesson.fields]
        rich = [lesson for lesson in lessons if lesson.reference is not None or lesson.fields]
        groups = [group for kind in (plain, rich) for group in self.groups(kind)]
        for index in rng.permutation(len(groups)):
            yield collate(groups[index], self.writer)

    def groups(self, lessons: list[Lesson]) -> Iterator[list]:
        rows = [(self.writer.prompt(x), self.writer.answer(x.codes), *hints(x, self.writer)) for x in lessons]
        return cut(sorted(rows, key=lambda row: len(row[0]) + len(row[1])), self.plan.rows)


def hints(lesson: Lesson, writer: RowWriter) -> tuple[np.ndarray, np.ndarray]:
    """Of each answer row: the row of the prompt it says (F + 1,), its phonemes (F + 1, .); -1 where unknown."""
    letter_rows, letters = writer.letter_rows(lesson), lesson.alignment[:, 0]
    looks = np.where(letters >= 0, letter_rows[letters], -1)
    closing = letter_rows[len(lesson.text)] if letters[-1] >= 0 else -1
    return np.append(looks, closing), np.pad(lesson.alignment[:, 1:], ((0, 1), (0, 0)), constant_values=-1)


def cut(rows: list, most_rows: int) -> Iterator[list]:
    """Runs of lessons, sorted by length, whose padded size is at most `most_rows`."""
    group: list = []
    for row in rows:
        if group and (len(group) + 1) * (len(row[0]) + len(row[1])) > most_rows:
            yield group
            group = []
        group.append(row)
    if group:
        yield group


def collate(group: list, writer: RowWriter) -> Batch:
    longest = max(len(prompt) + len(answer) for prompt, answer, *_ in group)
    rows = np.full((len(group), longest, group[0][0].shape[1]), writer.pad_code, np.int64)
    rows[..., 0] = writer.ids["pad"]
    spoken = np.zeros((len(group), longest), bool)
    looks = np.full((len(group), longest), -1, np.int64)
    phonemes = np.full((len(group), longest, group[0][3].shape[1]), -1, np.int64)
    for n, (prompt, answer, look, phoneme) in enumerate(group):
        said = slice(len(prompt), len(prompt) + len(answer))
        rows[n, : len(prompt)], rows[n, said] = prompt, answer
        spoken[n, said], looks[n, said], phonemes[n, said] = True, look, phoneme
    as_hints = Hints(torch.from_numpy(looks), torch.from_numpy(phonemes))
    return torch.from_numpy(rows), torch.from_numpy(spoken), as_hints


def blur(rows: Tensor, spoken: Tensor, share: float) -> Tensor:
    """`rows` with a share of the answers' codes taken from other frames."""
    codes = rows[spoken][:, 1:]
    wrong = torch.rand(len(codes), 1, device=rows.device) < share
    shuffled = codes[torch.randperm(len(codes), device=rows.device)]
    heard = rows.clone()
    heard[spoken] = torch.cat([rows[spoken][:, :1], torch.where(wrong, shuffled, codes)], 1)
    return heard


def lesson_loss(model: LocalModel, guide: Guide, batch: Batch, plan: ModelPlan) -> tuple[Tensor, dict[str, Tensor]]:
    """Weighted cross-entropies of text, codes and hints; closing rows have no codes to learn."""
    rows, spoken, hints = batch
    hidden = model.model(blur(rows, spoken, plan.blurred)[:, :-1])
    before, said = hidden[spoken[:, 1:]], rows[spoken]
    losses = code_losses(model, before, said, plan.full)
    losses |= {"look": guide.look_loss(hints), "phoneme": guide.phoneme_loss(hidden, hints)}
    weights = {"text": TEXT_WEIGHT, "first": FIRST_WEIGHT, "look": LOOK_WEIGHT, "phoneme": PHONEME_WEIGHT}
    loss = sum(weights[name] * losses[name] for name in weights) + OTHER_WEIGHT * torch.stack(losses["others"]).sum()
    parts = {name: losses[name].detach() for name in weights}
    return loss, parts | {"second": losses["others"][0].detach(), "last": losses["others"][-1].detach()}


def code_losses(model: LocalModel, before: Tensor, said: Tensor, full: float) -> dict:
    """Of the text channel, the first codebook, and the `others`, which a share `full` of the frames teach."""
    pad_code = model.config["audio_pad_code"]
    text, first = model.depth_logits(before, said[:, :2])
    losses = {"text": F.cross_entropy(text.float(), said[:, 0])}
    losses["first"] = F.cross_entropy(first.float(), said[:, 1], ignore_index=pad_code)
    frames = (said[:, 1] != pad_code).nonzero()[:, 0]
    picked = frames[torch.randperm(len(frames), device=frames.device)[: max(1, int(full * len(frames)))]]
    heads = model.depth_logits(before[picked], said[picked])
    losses["others"] = [F.cross_entropy(head.float(), said[picked, n]) for n, head in enumerate(heads) if n > 1]
    return losses


def train_model(state: Path, tokenizer: Tokenizer, codec_config: dict, plan: ModelPlan) -> LocalModel:
    """The model after training on `state`/codes.npy; checkpoints and its curve lie in `state`."""
    torch.manual_seed(plan.seed)
    codes = codec_config["quantizer_kwargs"]["codebook_size"]
    config = local_config(plan.sizes, special_ids(tokenizer), tokenizer.get_vocab_size(), codes)
    model = LocalModel(config).to(plan.device)
    guide = Guide(model, [n for n in plan.guided if n < plan.sizes.layers]).to(plan.device)
    learned = [*model.parameters(), *guide.parameters()]
    both, optimizer = {"model": model, "guide": guide}, Muon([model, guide], plan.rate)
    optimizers = dict.fromkeys(both, optimizer)
    start = step = checkpoint.restore(state / "model", both, optimizers)
    together.join(plan.rank, plan.ranks, state / "meeting")
    torch.manual_seed(plan.seed + 1_000 * plan.rank + start)
    writer = RowWriter(tokenizer, config["audio_pad_code"])
    feed = load_ahead(Lessons(Corpus(state, plan), writer, plan, step), plan.loaders, plan.device)
    curve = Curve(state / "model.jsonl", plan.log_every)
    print(f"model: {parameter_count(model):,} parameters, from step {start}")
    began, gone = time.monotonic(), 0.0
    while step < plan.steps and gone < 1:
        for group in optimizer.param_groups:
            group["lr"] = timed_rate(step, gone, plan)
        batch = tuple(part.to(plan.device) for part in next(feed))
        with torch.autocast(plan.device, torch.bfloat16, enabled=plan.device == "cuda"):
            loss, parts = lesson_loss(model, guide, batch, plan)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        gone = together.average(learned, (time.monotonic() - began) / (60 * plan.minutes))
        norm = torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        step += 1
        if plan.rank > 0:
            continue
        curve.add(step, {**parts, "gradient": norm})
        if step % plan.save_every == 0:
            checkpoint.save(state / "model", step, both, optimizers)
    if plan.rank == 0:
        checkpoint.save(state / "model", step, both, optimizers)
    return model.eval()


def timed_rate(step: int, gone: float, plan: ModelPlan) -> float:
    """The learning rate at a step, or with `plan.finish` at the share of the time that is gone."""
    if not plan.finish:
        return learning_rate(step, plan)
    course = replace(plan, steps=1_000_000)
    return learning_rate(int(gone * 1_000_000), course) * min(1.0, (step + 1) / plan.warmup)
