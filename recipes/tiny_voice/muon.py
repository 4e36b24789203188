"""Muon for the matrices inside transformer blocks, AdamW for everything else, in one optimizer.

Muon steps along the momentum with all singular values made equal; at this scale it needs about half of AdamW's
steps. The polynomial is Keller Jordan's (quintic Newton-Schulz, https://kellerjordan.github.io/posts/muon/).
"""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from . import together

QUINTIC = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


def orthogonal(x: Tensor, iterations: int = ITERATIONS) -> Tensor:
    """Matrices (N, R, C) with R <= C -> the same singular vectors, singular values near 1, in bfloat16."""
    a, b, c = QUINTIC
    x = (x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)).bfloat16()
    for _ in range(iterations):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


def is_inner(name: str, parameter: Tensor) -> bool:
    """Whether a parameter is a matrix of a transformer block."""
    return parameter.ndim == 2 and ".layers." in name


class Muon(torch.optim.Optimizer):
    """`rate` is AdamW's; Muon's is `ratio` times that. Set group["lr"] to change both."""

    def __init__(self, models: Iterable[nn.Module], rate: float, ratio: float = 10.0, decay: float = 0.05) -> None:
        named = [pair for model in models for pair in model.named_parameters()]
        inner = [p for name, p in named if is_inner(name, p)]
        outer = [p for name, p in named if not is_inner(name, p)]
        super().__init__([{"params": inner, "inner": True}, {"params": outer, "inner": False}], {"lr": rate})
        self.ratio, self.decay = ratio, decay

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            found = [p for p in group["params"] if p.grad is not None]
            (self.turn if group["inner"] else self.adam)(found, group["lr"])

    def turn(self, parameters: list[Tensor], rate: float, momentum: float = 0.95) -> None:
        """Muon: matrices of one shape are made orthogonal together, and by only one of several processes."""
        shapes: dict[tuple, list[Tensor]] = defaultdict(list)
        steps = {p: self.momentum(p, momentum) for p in parameters}
        rank, ranks = together.place()
        for p in parameters[rank::ranks]:
            shapes[tuple(p.shape)].append(p)
        for (rows, columns), group in shapes.items():
            stacked = torch.stack([steps[p] for p in group])
            turned = orthogonal(stacked) if rows <= columns else orthogonal(stacked.mT).mT
            steps |= dict(zip(group, turned.float() * max(1.0, rows / columns) ** 0.5, strict=True))
        for p, step in zip(parameters, together.gather([steps[p] for p in parameters]), strict=True):
            p.mul_(1 - rate * self.decay).sub_(step, alpha=rate * self.ratio)

    def momentum(self, p: Tensor, momentum: float) -> Tensor:
        """The gradient after one more step of Nesterov momentum."""
        state = self.state[p]
        if "exp_avg" not in state:
            state["step"], state["exp_avg"] = torch.zeros(()), torch.zeros_like(p)
        state["exp_avg"].lerp_(p.grad, 1 - momentum)
        return p.grad.lerp(state["exp_avg"], momentum)

    def adam(self, parameters: list[Tensor], rate: float, betas: tuple[float, float] = (0.9, 0.98)) -> None:
        """AdamW; only matrices decay."""
        for p in parameters:
            state = self.state[p]
            if "exp_avg_sq" not in state:
                state["step"] = torch.zeros(())
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(p), torch.zeros_like(p)
            state["step"] += 1
            mean, square = state["exp_avg"].lerp_(p.grad, 1 - betas[0]), state["exp_avg_sq"]
            square.mul_(betas[1]).addcmul_(p.grad, p.grad, value=1 - betas[1])
            count = state["step"].item()
            spread = (square / (1 - betas[1] ** count)).sqrt_().add_(1e-8)
            p.mul_(1 - rate * self.decay * (p.ndim > 1)).addcdiv_(mean, spread, value=-rate / (1 - betas[0] ** count))
