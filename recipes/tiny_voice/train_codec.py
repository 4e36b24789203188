"""Trains the codec on random crops of the teacher's audio. Stops at `steps` or after `minutes`, and resumes."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from . import checkpoint
from .adversary import ADVERSARIAL_WEIGHT, MATCH_WEIGHT, Adversary
from .codec import SIZES, Codec, Sizes, codec_config, parameter_count
from .curves import Curve
from .data import FRAME, open_shard
from .losses import COMMITMENT_WEIGHT, reconstruction

ADVERSARY_RATE = 3e-4


@dataclass(frozen=True)
class CodecPlan:
    """How to train; `steps` also sets the learning rate's course."""

    sizes: Sizes = SIZES
    steps: int = 12_000
    minutes: float = 1e9
    batch: int = 12
    frames: int = 20
    rate: float = 1e-3
    warmup: int = 200
    dropout: float = 0.25
    open_until: int = 900
    adversary_from: int = 10**9
    save_every: int = 250
    log_every: int = 25
    device: str = "cpu"
    loaders: int = 0
    seed: int = 0


def learning_rate(step: int, plan) -> float:
    """Linear warm-up, constant, then a linear fall to 2 % over the last 35 % of the steps."""
    fall = min(1.0, (plan.steps - step) / (0.35 * plan.steps))
    return plan.rate * min(1.0, (step + 1) / plan.warmup) * max(fall, 0.02)


class Crops(IterableDataset):
    """Endless batches (B, S) of random crops; batch n depends on (seed, n) and the shards there are, so a resumed
    run sees new ones. Shards that the data stage adds meanwhile are found."""

    RESCAN = 500

    def __init__(self, folder: Path, plan: CodecPlan, start: int) -> None:
        self.folder, self.plan, self.start = folder, plan, start
        self.shards = self.scan()

    def scan(self) -> list[Path]:
        shards = [table.with_suffix(".npy") for table in sorted(self.folder.rglob("*.tsv"))]
        if not shards:
            raise FileNotFoundError(f"no finished shard below {self.folder}: run the data stage first")
        return shards

    def __iter__(self) -> Iterator[Tensor]:
        worker = get_worker_info()
        first, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        for made, number in enumerate(count(self.start + first, stride), 1):
            yield self.batch(number)
            if made % self.RESCAN == 0:
                self.shards = self.scan()

    def batch(self, number: int) -> Tensor:
        """float32 (B, S)"""
        rng = np.random.default_rng(1_000_003 * self.plan.seed + number)
        crops = [self.crop(self.plan.frames * FRAME, rng) for _ in range(self.plan.batch)]
        return torch.from_numpy(np.stack(crops)).float() / 32768

    def crop(self, samples: int, rng: np.random.Generator) -> np.ndarray:
        audio = open_shard(self.shards[rng.integers(len(self.shards))])
        start = int(rng.integers(len(audio) - samples + 1))
        return audio[start : start + samples]


def load_ahead(source: IterableDataset, workers: int, device: str) -> Iterator:
    """`source` through `workers` processes, or in this one where there are none."""
    return iter(DataLoader(source, batch_size=None, num_workers=workers, pin_memory=device == "cuda"))


def codebooks_used(plan: CodecPlan, step: int) -> Tensor:
    """(B,): all of them; fewer for a share of the rows, so that prefixes decode; none (no quantisation) for a
    share that falls from one to zero between `open_until` / 3 and `open_until`."""
    rows, codebooks = plan.batch, plan.sizes.codebooks
    fewer = torch.randint(1, codebooks + 1, (rows,))
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
    free = [p for p in codec.parameters() if p.requires_grad]
    ours = torch.optim.AdamW(free, lr=plan.rate, betas=(0.9, 0.98), weight_decay=0.01)
    theirs = torch.optim.AdamW(adversary.parameters(), lr=ADVERSARY_RATE, betas=(0.8, 0.99))
    return Learner(codec, adversary, {"codec": ours, "adversary": theirs})


def descend(loss: Tensor, optimizer: torch.optim.Optimizer) -> Tensor:
    """One step; returns the gradient's norm before it was clipped."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], 1.0)
    optimizer.step()
    return norm


def codec_step(learner: Learner, real: Tensor, used: Tensor, adversarial: bool) -> dict[str, Tensor]:
    made, codes, commitment = learner.codec(real, used)
    loss, parts = reconstruction(made, real)
    loss = loss + COMMITMENT_WEIGHT * commitment
    if adversarial:
        parts["critics"] = learner.adversary.judge(made, real)
        descend(parts["critics"], learner.optimizers["adversary"])
        fooled, matched = learner.adversary.persuade(made, real)
        loss = loss + ADVERSARIAL_WEIGHT * fooled + MATCH_WEIGHT * matched
        parts |= {"fooled": fooled.detach(), "matched": matched.detach()}
    norm = descend(loss, learner.optimizers["codec"])
    distinct = (torch.bincount(codes[0].flatten(), minlength=1) > 0).sum().float()
    return {**parts, "commitment": commitment.detach(), "gradient": norm, "codes_in_batch": distinct}


def train_codec(data: Path, state: Path, plan: CodecPlan) -> Codec:
    """The codec after training; checkpoints and its curve lie in `state`."""
    learner = new_learner(plan)
    start = step = checkpoint.restore(state / "codec", learner.models, learner.optimizers)
    crops, curve = Crops(data, plan, start), Curve(state / "codec.jsonl", plan.log_every)
    print(f"codec: {parameter_count(learner.codec):,} parameters, {len(crops.shards)} shards, from step {start}")
    torch.set_float32_matmul_precision("high")  # TF32 where there is a GPU that has it
    feed = load_ahead(crops, plan.loaders, plan.device)
    deadline = time.monotonic() + 60 * plan.minutes
    while step < plan.steps and time.monotonic() < deadline:
        for group in learner.optimizers["codec"].param_groups:
            group["lr"] = learning_rate(step, plan)
        real = next(feed).to(plan.device, non_blocking=True)
        values = codec_step(learner, real, codebooks_used(plan, step), step >= plan.adversary_from)
        step += 1
        curve.add(step, values)
        if step % plan.save_every == 0:
            checkpoint.save(state / "codec", step, learner.models, learner.optimizers)
    checkpoint.save(state / "codec", step, learner.models, learner.optimizers)
    return learner.codec.eval()
