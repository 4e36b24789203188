"""The checks of a machine: each fails where it should, and says why."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from moss_tts.checkpoints.demo import ARCHITECTURE_KEYS
from moss_tts.errors import CheckFailedError
from moss_tts.evidence.checks import Check, all_checks, examine, without_folders
from moss_tts.evidence.comparing import close, measured, require, same
from moss_tts.evidence.kinds import CHECKS
from moss_tts.evidence.laws import MODEL_LAWS, PRODUCT_LAWS
from moss_tts.evidence.sounds import requests_of

TESTS = Path(__file__).parents[1]


def test_numbers_that_are_close_pass_and_are_measured():
    with measured() as shares:
        close(mx.array([1.0, 2.0]), np.array([1.0, 2.00005]), "sums")
        close(np.zeros(2), np.array([1e-6, 0.0]), "sums", 1e-5)
    assert shares == [pytest.approx(0.5, rel=0.01), pytest.approx(0.1)]


@pytest.mark.parametrize("made", [[1.0, 2.1], [1.0, np.nan]])
def test_numbers_that_are_not_close_are_counted(made):
    with pytest.raises(CheckFailedError, match=r"^sums: 1 of 2 numbers differ by more than 0\.0001; the largest diff"):
        close(np.array(made), np.array([1.0, 2.0]), "sums")


def test_the_allowed_difference_may_be_that_of_each_number():
    close(np.array([1.0, 2.1]), np.array([1.0, 2.0]), "sums", np.array([0.0, 0.2]) + 1e-9)
    with pytest.raises(CheckFailedError, match=r"by more than 0\.01"):
        close(np.array([1.0, 2.1]), np.array([1.0, 2.0]), "sums", np.array([0.2, 0.01]))


def test_values_that_differ_are_named():
    same(np.arange(3), mx.arange(3), "rows")
    with pytest.raises(CheckFailedError, match=r"1 of 4 values differ; the first, at \(1, 0\), is 9 instead of 2\."):
        same(np.array([[0, 1], [9, 3]]), np.array([[0, 1], [2, 3]]), "rows")
    for compare in (same, close):
        with pytest.raises(CheckFailedError, match=r"rows: the shape is \(3,\) instead of \(2,\)\."):
            compare(np.arange(3), np.arange(2), "rows")


def test_sounds_without_a_description_are_left_out_wherever_they_are():
    options = {"prompt": ["Rain", " ", "Wind"], "seconds": 1, "num_inference_steps": 1, "cfg_scale": 4.0}
    options |= {"sigma_shift": 5.0, "negative_prompt": "", "append_duration_suffix": True}
    requests = requests_of(options, np.arange(3.0).reshape(3, 1, 1))
    assert {place: (one["ambient_sound"], one["noise"].item()) for place, one in requests.items()} == {
        0: ("Rain", 0.0),
        2: ("Wind", 2.0),
    }


@pytest.mark.parametrize("law", PRODUCT_LAWS)
def test_laws_of_products(law):
    law()


def test_every_golden_kind_and_architecture_has_its_checks(tmp_path):
    checks = all_checks(tmp_path)
    subjects = {check.subject for check in checks}
    folders = [path.name for path in (TESTS / "golden").iterdir() if path.is_dir()]
    adapted = [path.name for path in (TESTS / "golden_adapters").iterdir() if path.is_dir()]
    assert subjects == {
        "products",
        *(f"law of {name}" for name in ARCHITECTURE_KEYS),
        *(f"golden {name}" for name in folders),
        *(f"golden {name} with adapters" for name in adapted),
    }
    assert all(check.statement.endswith(".") for check in checks)
    assert len(CHECKS) >= 5
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ARCHITECTURE_KEYS)
def test_laws_hold_for_every_architecture(name, tmp_path):
    found = [examine(check) for check in all_checks(tmp_path) if check.subject == f"law of {name}"]
    assert len(found) == len(MODEL_LAWS)
    assert [finding.failure for finding in found if not finding.holds] == []


def failing(error: Exception) -> Check:
    def run() -> None:
        raise error

    return Check("law of x", "It holds.", run)


def test_a_check_that_fails_is_a_finding():
    found = examine(failing(CheckFailedError("rows: 1 of 2 values differ.")))
    assert (found.holds, found.failure) == (False, "rows: 1 of 2 values differ.")
    broken = examine(failing(RuntimeError("[metal] cannot build /home/ann lee/x/kernel.metal here")))
    assert broken.failure is not None
    assert broken.failure.startswith("RuntimeError: [metal] cannot build")
    passed = examine(Check("law of x", "It holds.", lambda: require(True, "")))
    assert (passed.holds, passed.failure, passed.share) == (True, None, None)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("/home/ann/models/MOSS-TTS: no config.json.", "MOSS-TTS: no config.json."),
        ("cannot read '/Users/ann/a/b.npy' or /var/x/y/.", "cannot read 'b.npy' or ."),
        ("3 GB/s of and/or; 1/2", "3 GB/s of and/or; 1/2"),
    ],
)
def test_pages_name_no_folders(text, wanted):
    assert without_folders(text) == wanted
