"""What is said about speech that was cut short: the right segments, and advice that the command can follow."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from moss_tts.cli.cut_short import REMEDIES
from moss_tts.model import Model
from moss_tts.prompts.options import OPTIONS
from moss_tts.speaking import jobs

TEXT = "It was a bright cold day in April. The clocks were striking thirteen. Nobody seemed to mind it at all. "
SEGMENTS = {
    "long_form": True,
    "long_form_min_chars": 20,
    "long_form_target_chars": 30,
    "long_form_max_chars": 40,
}


def flags_of(options: dict[str, object]) -> list[str]:
    return [
        part
        for name, value in options.items()
        for part in ([f"--{name.replace('_', '-')}"] + ([] if value is True else [str(value)]))
    ]


def named(sentence: str) -> list[int]:
    """The segments that a sentence names, from 1."""
    return [int(number) for number in re.findall(r'(\d+) \("', sentence)]


def partly_cut(model: Model, options: dict[str, object]) -> tuple[int, list[int], int]:
    """A seed with which some segments are cut and others are not; those, from 1; and how many segments there are."""
    for seed in range(30):
        spoken = list(model.narrator(model.request({"text": TEXT, "seed": seed, **options})).segments())
        cut = [segment.metrics.segment_idx + 1 for segment in spoken if segment.finish_reason == "length"]
        if 0 < len(cut) < len(spoken):
            return seed, cut, len(spoken)
    raise AssertionError(f"no seed cuts a part of the segments with {options}")


@pytest.mark.parametrize(
    ("limit", "advice"),
    [
        ({"max_tokens": 9}, "--long-form-max-chars"),
        ({"max_tokens": 20}, "--max-tokens"),
        ({"tokens": 9}, "--seconds"),
        ({"seconds": 0.4}, "--seconds"),
        ({}, "--no-runaway-guard"),
    ],
)
def test_the_segments_named_are_those_that_were_cut(run, checkpoints, delay_model, monkeypatch, limit, advice):
    monkeypatch.setattr(jobs, "longest_plausible_seconds", lambda text: 1.0 + len(text) / 40)
    monkeypatch.setattr("moss_tts.cli.cut_short.MOST_NAMED", 100)
    seed, cut, segments = partly_cut(delay_model, {**SEGMENTS, **limit})
    options = {"seed": seed, **SEGMENTS, **limit}
    ended = run("generate", TEXT, "-m", checkpoints["delay"], *flags_of(options))
    assert ended.code == 0
    (warning,) = [line for line in ended.err.splitlines() if "stopped at" in line]
    assert named(warning) == cut
    assert f"of {segments} stopped at" in warning
    assert advice in warning
    assert "--seed" in warning


def test_a_text_in_one_piece_is_told_its_budget_and_what_helps(run, checkpoints):
    ended = run("generate", "Hello.", "-m", checkpoints["delay"], "--seed", 1, "--max-tokens", 2)
    assert "the speech stopped at its limit of 2 frames (0.2 s)" in ended.err
    for advice in ("--max-tokens", "--long-form", "--seed"):
        assert advice in ended.err


def test_many_segments_are_counted(run, checkpoints):
    ended = run("generate", TEXT * 3, "-m", checkpoints["delay"], "--max-tokens", 2, "--seed", 1, *flags_of(SEGMENTS))
    assert re.search(
        r"warning: (all \d+ segments|segments (\d+ \(.*?\), ){3}and \d+ more of \d+) stopped", ended.err
    ) or (re.search(r"and \d+ more of \d+ stopped", ended.err))


def test_say_speaks_of_its_own_options_alone(run, monkeypatch):
    monkeypatch.setattr(jobs, "longest_plausible_seconds", lambda _: 0.4)
    ended = run("say", "Hello there.", "--seed", 1)
    assert "Try another --seed." in ended.err
    assert set(re.findall(r"--[\w-]+", ended.err)) == {"--seed"}


def test_live_speech_is_told_of_too(run, checkpoints):
    ended = run("generate", "Hello.", "-m", checkpoints["delay"], "--seed", 1, "--max-tokens", 2, "--stream")
    assert "the speech stopped at its limit of 2 frames" in ended.err
    assert Path("speech.wav").is_file()


def test_remedies_are_options():
    assert REMEDIES.keys() <= OPTIONS.keys()
    for name, words in REMEDIES.items():
        assert name.replace("_", "-") in words.replace("no-runaway", "runaway")
