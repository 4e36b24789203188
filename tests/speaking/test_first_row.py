"""A row that C draws is spoken at once; one of MLX after the next row was issued, so that the device never waits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from moss_tts.device import compiled
from moss_tts.rows import RowBatch
from moss_tts.speaking.engine import SpeechEngine


@pytest.mark.skipif(compiled.library() is None, reason="no OpenBLAS or no C compiler here")
def test_the_first_chunk_needs_one_row_of_c_and_two_of_mlx(models, monkeypatch: pytest.MonkeyPatch):
    in_c, steps_in_c = first_chunk(models["nano"], monkeypatch)
    monkeypatch.setattr(compiled, "library", lambda: None)
    in_mlx, steps_in_mlx = first_chunk(models["nano"], monkeypatch)
    assert (steps_in_c, steps_in_mlx) == (1, 2)
    np.testing.assert_array_equal(in_c.frames, in_mlx.frames)


@pytest.mark.skipif(compiled.library() is None, reason="no OpenBLAS or no C compiler here")
def test_the_backbone_reads_a_row_of_c_after_it_was_spoken(models, monkeypatch: pytest.MonkeyPatch):
    network = type(models["nano"].architecture.network)
    read, call = [], network.__call__

    def counted(self: Any, rows: Any, *arguments: Any, **options: Any) -> Any:
        read.append(rows.shape[1])
        return call(self, rows, *arguments, **options)

    monkeypatch.setattr(network, "__call__", counted)
    first_chunk(models["nano"], monkeypatch)
    assert read
    assert 1 not in read


def first_chunk(model: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, int]:
    """The first chunk of a stream, and the rows that were issued for it."""
    steps, step = [], RowBatch.step
    monkeypatch.setattr(RowBatch, "step", lambda batch: steps.append(batch) or step(batch))
    engine = SpeechEngine(model.architecture, model.codec)
    engine.submit(model.job(model.request({"text": "Hi there.", "seed": 1, "stream": True})))
    while True:
        if results := engine.step():
            return results[0][1], len(steps)
