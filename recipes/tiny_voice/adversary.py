"""Critics, which make noise sound like noise and hide the seams between patches, as no distance does.

Three judge patches of complex spectra, five judge the waveform folded at a period, as in HiFi-GAN: a decoder of
10 ms patches is heard in its periods. All of them are narrow, hear a random part of each crop, and compute in
bfloat16: so they cost about as much as the codec itself. B batch, S samples.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from .losses import magnitude, spectrum

WINDOWS = (2048, 1024, 512)
PERIODS = (2, 3, 5, 7, 11)
# Where the mel distance weighs one.
ADVERSARIAL_WEIGHT, MATCH_WEIGHT = 0.1, 0.6


class SpectrumCritic(nn.Module):
    """Judges patches of one resolution's complex spectrum, its magnitude compressed to a square root."""

    def __init__(self, window: int, width: int = 32) -> None:
        super().__init__()
        self.window = window
        widths = (2, width, width, width, width)
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(a, b, (3, 7), stride=(1, 2), padding=(1, 3))) for a, b in pairwise(widths)
        )
        self.verdict = weight_norm(nn.Conv2d(width, 1, 3, padding=1))

    def view(self, wave: Tensor) -> Tensor:
        """(B, S) -> (B, 2, T, bins)"""
        spec = spectrum(wave, self.window)
        return torch.view_as_real(spec * magnitude(spec) ** -0.5).permute(0, 3, 1, 2)


class PeriodCritic(nn.Module):
    """Judges the waveform as `period` slower ones, each made of every `period`-th sample."""

    def __init__(self, period: int, widths: tuple[int, ...] = (16, 64, 128, 256)) -> None:
        super().__init__()
        self.period = period
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv1d(a, b, 5, stride=3, padding=2)) for a, b in pairwise((1, *widths))
        )
        self.verdict = weight_norm(nn.Conv1d(widths[-1], 1, 3, padding=1))

    def view(self, wave: Tensor) -> Tensor:
        """(B, S) -> (B * period, 1, S / period)"""
        whole = wave[:, : wave.shape[1] // self.period * self.period]
        return whole.unflatten(1, (-1, self.period)).mT.flatten(0, 1)[:, None]


class Adversary(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.critics = nn.ModuleList([*map(SpectrumCritic, WINDOWS), *map(PeriodCritic, PERIODS)])

    def forward(self, wave: Tensor) -> list[tuple[Tensor, list[Tensor]]]:
        """(B, S) -> of each critic its verdicts, and what each of its layers saw."""
        return [self.judge(critic, wave) for critic in self.critics]

    def judge(self, critic: nn.Module, wave: Tensor) -> tuple[Tensor, list[Tensor]]:
        with torch.autocast(wave.device.type, enabled=False):
            x = critic.view(wave.float())
        seen = []
        for layer in critic.layers:
            x = F.leaky_relu(layer(x), 0.1)
            seen.append(x)
        return critic.verdict(x).float(), seen


Judgement = list[tuple[Tensor, list[Tensor]]]


def critics_loss(made: Judgement, real: Judgement) -> Tensor:
    """The critics' own loss (hinge): tell real from made."""
    losses = [F.relu(1 - b).mean() + F.relu(1 + a).mean() for (a, _), (b, _) in zip(made, real, strict=True)]
    return torch.stack(losses).mean()


def persuasion(made: Judgement, real: Judgement) -> tuple[Tensor, Tensor]:
    """The codec's loss: sound real to every critic, and look like the original to each of their layers."""
    fooled = torch.stack([-verdict.mean() for verdict, _ in made]).mean()
    pairs = [pair for (_, a), (_, b) in zip(made, real, strict=True) for pair in zip(a, b, strict=True)]
    matched = [(a.float() - b.detach()).abs().mean() / b.detach().float().abs().mean() for a, b in pairs]
    return fooled, torch.stack(matched).mean()
