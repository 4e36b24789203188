"""What the benchmarks share: timed runs, what a step costs, what the machine can read, tables and the last line."""

from __future__ import annotations

import json
import os
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

# isort: off
import moss_tts  # noqa: F401 - before mlx: it brings the fast BLAS

# isort: on
import mlx.core as mx
import numpy as np
from rich.console import Console
from rich.table import Table

from moss_tts.adapters.low_rank import Wanted
from moss_tts.architectures import Architecture
from moss_tts.rows import Prompts, RowBatch, RowRequest, run
from moss_tts.sampling import ChannelSampling, Sampling

GREEDY = ChannelSampling(0.0, 1.0, 50)
SAMPLED = ChannelSampling(1.7, 0.8, 25)


def new_batch(
    architecture: Architecture[Any, Any],
    prompt: np.ndarray,
    count: int,
    audio: ChannelSampling = GREEDY,
    adapters: Wanted = (),
) -> RowBatch:
    """A batch of `count` requests that never end, its prompt read."""
    sampling = Sampling(GREEDY, audio)
    requests = [RowRequest(sampling, seed, max_frames=10**6, adapters=adapters) for seed in range(count)]
    return architecture.batch(Prompts.of(prompt, count), requests, architecture.config.n_vq)


@dataclass(frozen=True)
class Run:
    """One timed run.

    Attributes:
        prefill: seconds until the prompt was read.
        frames: seconds of each frame after the first.
        rows: (N, B, 1 + Q) what was made.
    """

    prefill: float
    frames: list[float]
    rows: np.ndarray

    @property
    def median(self) -> float:
        """Seconds per frame."""
        return statistics.median(self.frames)


def timed_run(architecture: Architecture[Any, Any], prompt: np.ndarray, count: int, steps: int, **options: Any) -> Run:
    """Make `steps` rows of `count` requests, whose references nobody has read before."""
    architecture.prefixes.clear()
    start = time.perf_counter()
    batch = new_batch(architecture, prompt, count, **options)
    mx.eval(batch._hidden)
    prefill = time.perf_counter() - start
    stamps, rows = [], []
    for row, _ in zip(run(batch), range(steps), strict=False):
        stamps.append(time.perf_counter())
        rows.append(row)
    return Run(prefill, list(np.diff(stamps)), np.stack(rows))


# ------------------------------------------------------------------------------------- what a step costs


def primitives_of_step(batch: RowBatch) -> int:
    """Primitives in the graph of one step; the step is issued as usual afterwards."""
    issued: list[tuple[Any, ...]] = []
    mx.synchronize()
    with patch.object(mx, "async_eval", lambda *arrays: issued.append(arrays)):
        batch.step()
    with tempfile.TemporaryDirectory() as directory:
        dot = Path(directory) / "step.dot"
        mx.export_to_dot(str(dot), *[array for arrays in issued for array in arrays])
        count = len(re.findall(r"shape=rectangle", dot.read_text()))
    mx.eval([list(arrays) for arrays in issued])
    return count


class HostReads:
    """Counts how often the host waits: reads of results of an evaluation that none was read of before.

    Evaluations of a stream finish in the order they were issued, so a result of an older one than the last that
    was read is there already, and reading it is no wait.
    """

    def __init__(self) -> None:
        self.waits = 0
        self._issued, self._finished = 0, 0
        # Arrays are kept, so that an id stays theirs.
        self._known: dict[int, tuple[int, mx.array]] = {}

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count as long as this is open."""
        reads = [(np, "array"), (np, "asarray"), (mx, "eval"), (mx.array, "item"), (mx.array, "tolist")]
        with ExitStack() as stack:
            stack.enter_context(patch.object(mx, "async_eval", self._issuing(mx.async_eval)))
            for owner, name in reads:
                stack.enter_context(patch.object(owner, name, self._reading(getattr(owner, name))))
            yield

    def _issuing(self, issue: Callable[..., None]) -> Callable[..., None]:
        def wrapper(*arrays: mx.array) -> None:
            self._issued += 1
            self._known |= {id(array): (self._issued, array) for array in arrays}
            issue(*arrays)

        return wrapper

    def _reading(self, read: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **options: Any) -> Any:
            if args and isinstance(args[0], mx.array):
                of, _ = self._known.get(id(args[0]), (self._issued, None))
                self.waits += of > self._finished
                self._finished = max(self._finished, of)
            return read(*args, **options)

        return wrapper


def syncs_per_frame(batch: RowBatch, steps: int = 8) -> float:
    """How often the host waits for the device in the loop that makes rows."""
    rows, reads = run(batch), HostReads()
    with reads.counting():
        for _ in range(3):
            next(rows)
        before = reads.waits
        for _ in range(steps):
            next(rows)
    return (reads.waits - before) / steps


# ----------------------------------------------------------------------------------------------- reporting


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table on the terminal, plain text elsewhere."""
    table = Table(title=title)
    for column in columns:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(*[f"{value:.3g}" if isinstance(value, float) else str(value) for value in row])
    Console(width=None if os.isatty(1) else 160).print(table)


def print_last_line(results: dict[str, Any]) -> None:
    """One line of JSON, the last one."""
    print(json.dumps(results, default=float), flush=True)
