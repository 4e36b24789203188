"""Trains the codec on random crops of the teacher's audio. Stops at `steps` or after `minutes`, and resumes."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, groupby
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from . import checkpoint, together
from .adversary import ADVERSARIAL_WEIGHT, MATCH_WEIGHT, Adversary, critics_loss, persuasion
from .clock import Clock
from .codec import SIZES, Codec, Sizes, codec_config, parameter_count
from .curves import Curve
from .data import FRAME, open_shard
from .losses import COMMITMENT_WEIGHT, reconstruction
from .muon import Muon

ADVERSARY_RATE = 3e-4


@dataclass(frozen=True)
class CodecPlan:
    """How to train; `steps` also sets the learning rate's course.

    `batch` crops of `frames` frames a step, in each of `ranks` processes; critics join at step `adversary_from` and
    hear `heard` frames of each crop. A share `dropout` of the rows use fewer codebooks, `fewest` at least, so that
    prefixes decode. Quantisation is on for every row from step `open_until` on.
    """

    sizes: Sizes = SIZES
    steps: int = 28_000
    minutes: float = 1e9
    batch: int = 16
    frames: int = 16
    heard: int = 5
    rate: float = 1e-3
    warmup: int = 200
    dropout: float = 0.25
    fewest: int = 4
    open_until: int = 900
    adversary_from: int = 10**9
    save_minutes: float = 8
    log_every: int = 25
    device: str = "cpu"
    loaders: int = 0
    seed: int = 0
    rank: int = 0
    ranks: int = 1


def learning_rate(step: int, plan) -> float:
    """Linear warm-up, constant, then a linear fall to 2 % over the last 35 % of the steps."""
    fall = min(1.0, (plan.steps - step) / (0.35 * plan.steps))
    return plan.rate * min(1.0, (step + 1) / plan.warmup) * max(fall, 0.02)


class Crops(IterableDataset):
    """Endless batches (B, S) of random crops, all speakers alike; batch n depends on (seed, n, rank) and the shards
    there are, so a resumed run sees new ones. Shards that the data stage adds meanwhile are found."""

    RESCAN = 500

    def __init__(self, folder: Path, plan: CodecPlan, start: int) -> None:
        self.folder, self.plan, self.start = folder, plan, start
        self.shards = self.scan()

    def scan(self) -> list[list[Path]]:
        """The finished shards of each speaker."""
        tables = sorted(self.folder.rglob("*.tsv"))
        if not tables:
            raise FileNotFoundError(f"no finished shard below {self.folder}: run the data stage first")
        return [[table.with_suffix(".npy") for table in group] for _, group in groupby(tables, lambda t: t.parent)]

    def __iter__(self) -> Iterator[Tensor]:
        worker = get_worker_info()
        first, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        for made, number in enumerate(count(self.start + first, stride), 1):
            yield self.batch(number)
            if made % self.RESCAN == 0:
                self.shards = self.scan()

    def batch(self, number: int) -> Tensor:
        """float32 (B, S)"""
        rng = np.random.default_rng([self.plan.seed, number, self.plan.rank])
        crops = [self.crop(self.plan.frames * FRAME, rng) for _ in range(self.plan.batch)]
        return torch.from_numpy(np.stack(crops)).float() / 32768

    def crop(self, samples: int, rng: np.random.Generator) -> np.ndarray:
        speaker = self.shards[rng.integers(len(self.shards))]
        audio = open_shard(speaker[rng.integers(len(speaker))])
        start = int(rng.integers(len(audio) - samples + 1))
        return audio[start : start + samples]


def load_ahead(source: IterableDataset, workers: int, device: str) -> Iterator:
    """`source` through `workers` processes, or in this one where there are none."""
    return iter(DataLoader(source, batch_size=None, num_workers=workers, pin_memory=device == "cuda"))


def codebooks_used(plan: CodecPlan, step: int) -> Tensor:
    """(B,): all of them; fewer for a share of the rows, so that prefixes decode; none (no quantisation) for a
    share that falls from one to zero between `open_until` / 3 and `open_until`."""
    rows, codebooks = plan.batch, plan.sizes.codebooks
    fewer = torch.randint(min(plan.fewest, codebooks), codebooks + 1, (rows,))
    used = torch.where(torch.rand(rows) < plan.dropout, fewer, codebooks)
    share = 1.5 * (1 - step / plan.open_until)
    return torch.where(torch.rand(rows) < share, 0, used).to(plan.device)


@dataclass(frozen=True)
class Learner:
    """The codec, its critics and their optimizers."""

    codec: Codec
    adversary: Adversary
    optimizers: dict[str, torch.optim.Optimizer]

    @property
    def models(self) -> dict[str, torch.nn.Module]:
        return {"codec": self.codec, "adversary": self.adversary}


def new_learner(plan: CodecPlan) -> Learner:
    torch.manual_seed(plan.seed)
    codec, adversary = Codec(codec_config(plan.sizes)).to(plan.device), Adversary().to(plan.device)
    theirs = torch.optim.AdamW(adversary.parameters(), lr=ADVERSARY_RATE, betas=(0.8, 0.99))
    return Learner(codec, adversary, {"codec": Muon([codec], plan.rate), "adversary": theirs})


def descend(loss: Tensor, model: nn.Module, optimizer: torch.optim.Optimizer) -> Tensor:
    """One step of all processes together; returns the gradient's norm before it was clipped."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    learned = [p for p in model.parameters() if p.requires_grad]
    together.average(learned, 0.0)
    norm = nn.utils.clip_grad_norm_(learned, 1.0)
    optimizer.step()
    return norm


def codec_step(learner: Learner, real: Tensor, used: Tensor, heard: int) -> dict[str, Tensor]:
    """One step of the codec, and of the critics where they hear any frames."""
    device = real.device.type
    with torch.autocast(device, torch.bfloat16):
        made, codes, commitment = learner.codec(real, used)
    loss, parts = reconstruction(made, real)
    loss = loss + COMMITMENT_WEIGHT * commitment
    if heard:
        advice, said = debate(learner, made, real, heard)
        loss, parts = loss + advice, parts | said
    norm = descend(loss, learner.codec, learner.optimizers["codec"])
    together.copy_first(list(learner.codec.codebook_state()))
    distinct = (torch.bincount(codes[0].flatten(), minlength=1) > 0).sum().float()
    return {**parts, "commitment": commitment.detach(), "gradient": norm, "codes_in_batch": distinct}


def debate(learner: Learner, made: Tensor, real: Tensor, heard: int) -> tuple[Tensor, dict[str, Tensor]]:
    """The critics hear a part of each crop, say how it should change, and learn.

    They compute once for both ends: the first return value's gradient on the codec is what they say.
    """
    first = int(torch.randint(made.shape[1] - heard * FRAME + 1, ()))
    made, real = (wave[:, first : first + heard * FRAME] for wave in (made, real))
    alone = made.detach().requires_grad_()
    with torch.autocast(real.device.type, torch.bfloat16):
        about_made, about_real = learner.adversary(alone), learner.adversary(real)
    fooled, matched = persuasion(about_made, about_real)
    wish = ADVERSARIAL_WEIGHT * fooled + MATCH_WEIGHT * matched
    (gradient,) = torch.autograd.grad(wish, alone, retain_graph=True)
    own = critics_loss(about_made, about_real)
    descend(own, learner.adversary, learner.optimizers["adversary"])
    said = {"critics": own.detach(), "fooled": fooled.detach(), "matched": matched.detach()}
    return (made * gradient).sum(), said


def train_codec(data: Path, state: Path, plan: CodecPlan) -> Codec:
    """The codec after training; checkpoints and its curve lie in `state`."""
    learner = new_learner(plan)
    start = step = checkpoint.restore(state / "codec", learner.models, learner.optimizers)
    together.join(plan.rank, plan.ranks, state / "meeting")
    torch.manual_seed(plan.seed + 1_000 * plan.rank + start)
    crops, curve = Crops(data, plan, start), Curve(state / "codec.jsonl", plan.log_every)
    print(f"codec: {parameter_count(learner.codec):,} parameters, {len(crops.shards)} speakers, from step {start}")
    torch.set_float32_matmul_precision("high")  # TF32 where there is a GPU that has it
    feed = load_ahead(crops, plan.loaders, plan.device)
    saved, clock = time.monotonic(), Clock(plan.minutes)
    while step < plan.steps and not together.any_of(clock.over):
        for group in learner.optimizers["codec"].param_groups:
            group["lr"] = learning_rate(step, plan)
        real = next(feed).to(plan.device, non_blocking=True)
        heard = plan.heard if step >= plan.adversary_from else 0
        values = codec_step(learner, real, codebooks_used(plan, step), heard)
        step += 1
        if plan.rank > 0:
            continue
        curve.add(step, values)
        if time.monotonic() > saved + 60 * plan.save_minutes:
            checkpoint.save(state / "codec", step, learner.models, learner.optimizers)
            saved = time.monotonic()
    clock.release()
    if plan.rank == 0:
        checkpoint.save(state / "codec", step, learner.models, learner.optimizers)
    return learner.codec.eval()
