"""What a seed determines: codes bit for bit, samples to a bound, whatever runs beside a request."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from moss_tts.speaking.driving import merged
from moss_tts.speaking.engine import Run, SpeechChunk, SpeechEngine

# Of full scale, or of the loudest sample beyond it; docs/long-form.md and docs/performance.md say so.
SAMPLES_AGREE_TO = 1e-6
TEXTS = ["Hi.", "The rain had stopped before anyone noticed it.", "One.", "She closed the book, and looked up.", "Why?"]
# Steps after which each request of a batch joins it.
JOINS = [3, 0, 9, 0, 14]


def requests(stream: bool) -> list[dict[str, Any]]:
    """Requests that sample, of different lengths."""
    return [
        {"text": text, "seed": seed, "max_tokens": 12 + 9 * seed, "runaway_guard": False, "stream": stream}
        for seed, text in enumerate(TEXTS)
    ]


def spoken(model: Any, asked: list[dict[str, Any]], joins: list[int]) -> list[SpeechChunk]:
    """What requests speak that join a batch after so many steps."""
    engine = SpeechEngine(model.architecture, model.codec)
    runs: dict[Run, int] = {}
    chunks: list[list[SpeechChunk]] = [[] for _ in asked]
    step = 0
    while step <= max(joins) or not engine.idle:
        for index, join in enumerate(joins):
            if join == step:
                runs[engine.submit(model.job(model.request(asked[index])))] = index
        for run, chunk in engine.step():
            assert isinstance(chunk, SpeechChunk)
            chunks[runs[run]].append(chunk)
        step += 1
    return [merged(parts) for parts in chunks]


@pytest.mark.parametrize("name", ["delay", "local", "nano", "local_v1_5", "realtime"])
def test_neither_neighbours_nor_chunks_change_a_speech(models, name):
    model = models[name]
    alone = [spoken(model, [one], [0])[0] for one in requests(stream=False)]
    others = [spoken(model, [one], [0])[0] for one in requests(stream=True)]
    for together in (others, spoken(model, requests(False), JOINS), spoken(model, requests(True), JOINS)):
        for one, other in zip(alone, together, strict=True):
            np.testing.assert_array_equal(one.frames, other.frames)
            assert one.finish_reason == other.finish_reason
            scale = max(1.0, np.abs(one.audio).max())
            assert np.abs(one.audio - other.audio).max() <= SAMPLES_AGREE_TO * scale
    assert sum(len(one.frames) for one in alone) > 40
