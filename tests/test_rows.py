"""Requests that join and leave a running batch: each gets the rows it gets alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from golden_models import golden, left_padded, load
from moss_tts.architectures import ARCHITECTURES
from moss_tts.rows import RowRequest, run
from moss_tts.sampling import ChannelSampling, Sampling

GOLDEN = Path(__file__).parent / "golden"
STEPS = 12


def request(seed: int, penalty: float) -> RowRequest:
    audio = ChannelSampling(0.9 if seed % 2 else 0.0, 0.9, 5 + seed, penalty)
    return RowRequest(Sampling(ChannelSampling(1.2, 0.95, 20), audio), seed, max_frames=1000)


def alone(architecture, prompt, asked) -> list[np.ndarray]:
    batch = architecture.batch(left_padded([prompt], architecture.config), [asked], architecture.config.n_vq)
    return [rows[0] for rows, _ in zip(run(batch), range(STEPS), strict=False)]


@pytest.mark.parametrize("name", ["delay", "local", "local_v1_5"])
def test_requests_join_and_leave_undisturbed(name: str) -> None:
    network, config = load(GOLDEN / name)
    architecture = ARCHITECTURES[type(config)](config, network)
    wanted = golden(GOLDEN / name)
    prompts = [wanted[f"{case}.input_ids"][0] for case in ("start", "cont", "start")]
    requests = [request(1, 1.0), request(2, 1.3), request(3, 1.0)]
    batch = architecture.batch(left_padded(prompts[:1], config), requests[:1], config.n_vq)
    members, made = [0], {0: [], 1: [], 2: []}

    def advance(steps: int) -> None:
        for _ in range(steps):
            for member, row in zip(members, np.array(batch.step()), strict=True):
                made[member].append(row)

    advance(3)
    batch.extend(architecture.batch(left_padded(prompts[1:2], config), requests[1:2], config.n_vq))
    members = [0, 1]
    advance(2)
    batch.extend(architecture.batch(left_padded(prompts[2:], config), requests[2:], config.n_vq))
    members = [0, 1, 2]
    advance(2)
    batch.select([2, 1])
    members = [2, 1]
    advance(3)
    for member, rows in made.items():
        expected = alone(architecture, prompts[member], requests[member])
        # A request that has ended goes on in its row; what comes after is nobody's.
        assert len(rows) >= 5
        np.testing.assert_array_equal(rows[: len(expected)], expected[: len(rows)])
