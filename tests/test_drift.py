"""evals/drift.py: nothing drifts from itself, more bits drift less, and what is read is what upstream reads."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "evals"))

import drift

from moss_tts.evidence.goldens import golden

GOLDEN = Path(__file__).parent / "golden"


def test_nothing_drifts_from_itself():
    logits = np.random.default_rng(0).standard_normal((3, 200)).astype(np.float32)
    same = drift.compared([(logits, logits[:, None])], [(logits, logits[:, None])])
    assert same == {"top25_text": 1.0, "top25_audio": 1.0, "top1_audio": 1.0, "kl_audio": 0.0}
    assert drift.top_shared(logits, -logits) < 0.5
    assert drift.divergence(logits, -logits) > 0


def test_likeliest_choices_are_counted():
    ones = np.arange(400.0)[None]
    shifted = np.roll(ones, 5, axis=1)
    assert drift.top_shared(ones, shifted) == (drift.TOP - 5) / drift.TOP


@pytest.mark.parametrize("name", ["delay", "local"])
def test_logits_of_rows_are_upstreams(name):
    """A golden's prompt, read as if its second half had been made."""
    wanted = golden(GOLDEN / name)
    rows = wanted["start.input_ids"][0]
    architecture = drift.network_of(GOLDEN / name)
    text, _ = architecture.teacher_forced_logits(rows[:10], rows[10:])
    # Also Local's: its text channel comes before any code of the row.
    np.testing.assert_allclose(text, wanted["start.logits_text"][9:-1], atol=1e-4)


def test_v1_5_chooses_what_it_chose():
    """Greedy codes are the likeliest of the logits that were read for them."""
    architecture = drift.network_of(GOLDEN / "local_v1_5")
    prompt = golden(GOLDEN / "local_v1_5")["start.input_ids"][0]
    greedy = drift.ChannelSampling(0.0, 1.0, 0)
    rows = architecture.generate_rows(prompt, drift.RowRequest(drift.Sampling(greedy, greedy), 0, 5))
    _, audio = architecture.teacher_forced_logits(prompt, rows)
    np.testing.assert_array_equal(audio.argmax(axis=-1), rows[:, 1:])


def test_it_ends_with_its_line(capsys):
    arguments = ["--model", str(GOLDEN / "local_v1_5"), "--group-size", "32", "--frames", "6", "--recipe", "8", "3"]
    assert drift.main(arguments) == 0
    eight, three = json.loads(capsys.readouterr().out.splitlines()[-1])["recipes"]
    assert eight["kl_audio"] < three["kl_audio"]
    assert eight["mb"] > three["mb"]
