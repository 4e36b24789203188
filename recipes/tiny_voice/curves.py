"""Training curves: one JSON object a line, and a picture of them."""

import json
import time
from collections import defaultdict
from pathlib import Path

from torch import Tensor


class Curve:
    """Averages what it is given and writes a line every `every` steps."""

    def __init__(self, path: Path, every: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.every = path, every
        self.sums: dict[str, float] = defaultdict(float)
        self.seen, self.since = 0, time.monotonic()

    def add(self, step: int, values: dict[str, Tensor | float]) -> None:
        for name, value in values.items():
            self.sums[name] += value.detach() if isinstance(value, Tensor) else value
        self.seen += 1
        if step % self.every == 0:
            self.write(step)

    def write(self, step: int) -> None:
        now = time.monotonic()
        means = {name: round(float(total) / self.seen, 5) for name, total in self.sums.items()}
        line = {"step": step, **means, "seconds_per_step": round((now - self.since) / self.seen, 4)}
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(line, flush=True)
        self.sums.clear()
        self.seen, self.since = 0, now


def plot(path: Path, picture: Path) -> None:
    """One panel for each value logged in `path`."""
    from matplotlib import pyplot

    lines = [json.loads(line) for line in path.read_text().splitlines()]
    names = [name for name in lines[-1] if name not in ("step", "seconds_per_step")]
    figure, axes = pyplot.subplots(1, len(names), figsize=(4 * len(names), 3), squeeze=False)
    for axis, name in zip(axes[0], names, strict=True):
        points = [(line["step"], line[name]) for line in lines if name in line]
        axis.plot(*zip(*points, strict=True), linewidth=1)
        axis.set(title=name, xlabel="step")
    figure.tight_layout()
    figure.savefig(picture, dpi=80)
    pyplot.close(figure)
