"""Lessons beside the codes, from the teacher's alignment; nothing of them is exported.

Some attention heads learn to look at the text token that is being said and at the next one, and a linear layer
reads the phonemes of the coming frame from the backbone's last state. Without them a small model takes most of
its training to find out that text has anything to do with sound.
B batch, T rows, H heads, K keys.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .alignment import INSIDE, PHONEMES
from .model import LocalModel

HEADS = (0, 2)  # of two different key heads: the token being said, and the one after it
IGNORED = -100


@dataclass(frozen=True)
class Hints:
    """For each row to be predicted: the row of the text token it says, and its phonemes; UNKNOWN elsewhere."""

    looks: Tensor  # (B, T)
    phonemes: Tensor  # (B, T, len(INSIDE))

    def to(self, device: str) -> "Hints":
        return Hints(self.looks.to(device), self.phonemes.to(device))


class Guide(nn.Module):
    def __init__(self, model: LocalModel, layers: tuple[int, ...]) -> None:
        super().__init__()
        self.hear = nn.Linear(model.config["hidden_size"], len(INSIDE) * PHONEMES)
        self.watched = [model.model.language_model.layers[n].self_attn for n in layers]
        for attention in self.watched:
            attention.recorded = []

    def __repr__(self) -> str:
        return f"Guide({len(self.watched)} layers)"

    def phoneme_loss(self, hidden: Tensor, hints: Hints) -> Tensor:
        """hidden (B, T - 1, D), of the row before each."""
        wanted = hints.phonemes[:, 1:]
        known = wanted[..., 0] >= 0
        guessed = self.hear(hidden[known]).view(-1, PHONEMES)
        return mean_loss(guessed, wanted[known].flatten())

    def look_loss(self, hints: Hints) -> Tensor:
        """How far the watched heads are from looking where they should: cross-entropy of their attention."""
        losses = [self.one_look(*attention.recorded, hints.looks[:, 1:]) for attention in self.watched]
        return torch.stack(losses).mean()

    def one_look(self, q: Tensor, k: Tensor, looks: Tensor) -> Tensor:
        """q (B, H, T', head) of the last T' rows, k (B, H / 2, K, head)."""
        rows, keys = q.shape[2], k.shape[2]
        looks = looks[:, -rows:]
        seen = torch.ones(rows, keys, dtype=torch.bool, device=q.device).tril(keys - rows)
        losses = []
        for ahead, head in enumerate(HEADS):
            scores = q[:, head] @ k[:, head * k.shape[1] // q.shape[1]].mT / q.shape[-1] ** 0.5
            scores = scores.masked_fill(~seen, -torch.inf)
            wanted = torch.where(looks >= 0, looks + ahead, IGNORED)
            losses.append(mean_loss(scores.flatten(0, 1), wanted.flatten()))
        return torch.stack(losses).mean()


def mean_loss(logits: Tensor, wanted: Tensor) -> Tensor:
    """Cross-entropy over those not IGNORED; zero where there are none."""
    total = F.cross_entropy(logits, wanted, ignore_index=IGNORED, reduction="sum")
    return total / (wanted != IGNORED).sum().clamp(min=1)
