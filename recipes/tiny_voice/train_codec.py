"""Trains the codec on random crops of the teacher's audio. Stops at `steps` or after `minutes`, and resumes."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from . import checkpoint
from .codec import Codec, Sizes, codec_config, parameter_count
from .curves import Curve
from .data import FRAME, open_shard
from .losses import COMMITMENT_WEIGHT, reconstruction


@dataclass(frozen=True)
class CodecPlan:
    """How to train; `steps` also sets the learning rate's course."""

    sizes: Sizes = Sizes()
    steps: int = 12_000
    minutes: float = 1e9
    batch: int = 12
    frames: int = 20
    rate: float = 1e-3
    warmup: int = 200
    dropout: float = 0.25
    adversary_from: int = 10**9
    save_every: int = 250
    log_every: int = 25
    device: str = "cpu"
    seed: int = 0


def learning_rate(step: int, plan) -> float:
    """Linear warm-up, constant, then a linear fall to 2 % over the last 35 % of the steps."""
    fall = min(1.0, (plan.steps - step) / (0.35 * plan.steps))
    return plan.rate * min(1.0, (step + 1) / plan.warmup) * max(fall, 0.02)


class Crops:
    """Random crops of whole shards; which ones depends on (seed, step) alone, so a resumed run sees new ones."""

    def __init__(self, folder: Path) -> None:
        self.shards = [table.with_suffix(".npy") for table in sorted(folder.rglob("*.tsv"))]
        if not self.shards:
            raise FileNotFoundError(f"no finished shard below {folder}: run the data stage first")

    def batch(self, rows: int, samples: int, seed: int) -> Tensor:
        """float32 (B, S)"""
        rng = np.random.default_rng(seed)
        return torch.from_numpy(np.stack([self.crop(samples, rng) for _ in range(rows)])).float() / 32768

    def crop(self, samples: int, rng: np.random.Generator) -> np.ndarray:
        audio = open_shard(self.shards[rng.integers(len(self.shards))])
        start = int(rng.integers(len(audio) - samples + 1))
        return audio[start : start + samples]


def codebooks_used(rows: int, codebooks: int, dropout: float, device: str) -> Tensor:
    """(B,): all of them, or for a share `dropout` of the rows any smaller number, so that prefixes decode."""
    fewer = torch.randint(1, codebooks + 1, (rows,), device=device)
    return torch.where(torch.rand(rows, device=device) < dropout, fewer, codebooks)


def codec_optimizer(codec: Codec, plan: CodecPlan) -> torch.optim.AdamW:
    free = [p for p in codec.parameters() if p.requires_grad]
    return torch.optim.AdamW(free, lr=plan.rate, betas=(0.9, 0.98), weight_decay=0.01)


def codec_step(codec: Codec, real: Tensor, used: Tensor, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    made, codes, commitment = codec(real, used)
    loss, parts = reconstruction(made, real)
    optimizer.zero_grad(set_to_none=True)
    (loss + COMMITMENT_WEIGHT * commitment).backward()
    norm = torch.nn.utils.clip_grad_norm_([p for p in codec.parameters() if p.requires_grad], 1.0)
    optimizer.step()
    distinct = torch.tensor(float(len(torch.unique(codes[0]))))
    return {**parts, "commitment": commitment.detach(), "gradient": norm, "codes_in_batch": distinct}


def train_codec(data: Path, state: Path, plan: CodecPlan) -> Codec:
    """The codec after training; checkpoints and its curve lie in `state`."""
    torch.manual_seed(plan.seed)
    codec = Codec(codec_config(plan.sizes)).to(plan.device)
    optimizer = codec_optimizer(codec, plan)
    start = checkpoint.restore(state / "codec", {"codec": codec}, {"codec": optimizer})
    crops, curve = Crops(data), Curve(state / "codec.jsonl", plan.log_every)
    print(f"codec: {parameter_count(codec):,} parameters, {len(crops.shards)} shards, from step {start}")
    deadline = time.monotonic() + 60 * plan.minutes
    step = start
    while step < plan.steps and time.monotonic() < deadline:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, plan)
        real = crops.batch(plan.batch, plan.frames * FRAME, 1_000_003 * plan.seed + step).to(plan.device)
        used = codebooks_used(plan.batch, codec.codebooks, plan.dropout, plan.device)
        values = codec_step(codec, real, used, optimizer)
        step += 1
        curve.add(step, values)
        if step % plan.save_every == 0:
            checkpoint.save(state / "codec", step, {"codec": codec}, {"codec": optimizer})
    checkpoint.save(state / "codec", step, {"codec": codec}, {"codec": optimizer})
    return codec.eval()
