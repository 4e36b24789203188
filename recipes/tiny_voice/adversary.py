"""Critics of spectra at three resolutions. They make noise sound like noise, which no distance does; they cost
several times the codec itself, so they join late and are meant for a GPU."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from .losses import magnitude, spectrum

WINDOWS = (2048, 512, 128)
# DAC's proportions (mel 15 : match 2 : adversarial 1), in units where the mel distance weighs one.
ADVERSARIAL_WEIGHT, MATCH_WEIGHT = 0.03, 0.06


class Critic(nn.Module):
    """Judges patches of one resolution's complex spectrum, its magnitude compressed to a square root."""

    def __init__(self, window: int, width: int = 32) -> None:
        super().__init__()
        self.window = window
        widths = (2, width, width, width, width)
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(a, b, (3, 7), stride=(1, 2), padding=(1, 3))) for a, b in pairwise(widths)
        )
        self.verdict = weight_norm(nn.Conv2d(width, 1, 3, padding=1))

    def forward(self, wave: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(B, S) -> verdicts (B, 1, T, bands), and what each layer saw."""
        spec = spectrum(wave, self.window)
        x = torch.view_as_real(spec * magnitude(spec) ** -0.5).permute(0, 3, 1, 2)
        seen = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.1)
            seen.append(x)
        return self.verdict(x), seen


class Adversary(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.critics = nn.ModuleList(Critic(window) for window in WINDOWS)

    def judge(self, made: Tensor, real: Tensor) -> Tensor:
        """The critics' own loss (hinge): tell real from made."""
        losses = []
        for critic in self.critics:
            losses.append(F.relu(1 - critic(real)[0]).mean() + F.relu(1 + critic(made.detach())[0]).mean())
        return torch.stack(losses).mean()

    def persuade(self, made: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """The codec's loss: sound real to every critic, and look like the original to each of their layers."""
        fooled, matched = [], []
        for critic in self.critics:
            verdict, seen = critic(made)
            with torch.no_grad():
                wanted = critic(real)[1]
            fooled.append(-verdict.mean())
            matched += [(a - b).abs().mean() / b.abs().mean() for a, b in zip(seen, wanted, strict=True)]
        return torch.stack(fooled).mean(), torch.stack(matched).mean() * len(WINDOWS)
