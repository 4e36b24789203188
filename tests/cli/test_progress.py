"""How far a long task is: percent and time left on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import io
import re
import time
from contextlib import nullcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from moss_tts.cli.output_files import Recording
from moss_tts.cli.progress import Lines, rough_duration, showing
from moss_tts.cli.shares import PlanShare, share_of
from moss_tts.long_form import TextSegment
from moss_tts.result import GenerationResult
from moss_tts.text.boundaries import BoundaryKind


def plan_of(lengths: list[int]) -> list[TextSegment]:
    return [TextSegment("x" * length, 0, length, None, BoundaryKind.SENTENCE) for length in lengths]


def chunk(segment: int, seconds: float) -> GenerationResult:
    return GenerationResult.of(
        np.zeros(round(1000 * seconds), np.float32),
        sample_rate=1000,
        frames=1,
        prompt_rows=1,
        seconds=1.0,
        peak_memory=0,
        streaming=True,
        finish_reason=None,
        seed=1,
        segment_idx=segment,
    )


# ------------------------------------------------------------------------------------------------------ shares


@given(st.lists(st.tuples(st.integers(1, 200), st.lists(st.floats(0.01, 5), min_size=1, max_size=4)), min_size=1))
def test_the_share_of_a_plan_grows_and_is_exact_between_segments(segments):
    lengths = [length for length, _ in segments]
    share = PlanShare(plan_of(lengths))
    results: tuple[GenerationResult, ...] = ()
    shares = []
    for index, (_, chunks) in enumerate(segments):
        for seconds in chunks:
            results = (*results, chunk(index, seconds))
            shares.append(share(Recording(results, None)))
            assert sum(lengths[:index]) / sum(lengths) <= shares[-1] <= sum(lengths[: index + 1]) / sum(lengths)
    assert shares == sorted(shares)


def test_inside_a_segment_the_seconds_count_as_those_before_did():
    share = PlanShare(plan_of([100, 100]))
    results = (chunk(0, 10.0), chunk(1, 5.0))  # 10 characters a second
    assert share(Recording(results, None)) == pytest.approx(0.75)


def test_a_length_that_is_asked_for_is_the_whole():
    for options in ({"seconds": 4.0}, {"duration_s": 4.0}, {"tokens": 50}):
        assert share_of(options, ())(Recording((chunk(0, 1.0),), None)) == pytest.approx(0.25)
    assert share_of({}, ())(Recording((chunk(0, 1.0),), None)) is None


# ------------------------------------------------------------------------------------------------------ showing


def screen_of(is_terminal: bool, width: int = 80, quiet: bool = False) -> str:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=is_terminal, width=width)
    with showing(console, "speaking", quiet=quiet) as show:
        for tenths in range(1, 10):
            show(tenths / 10, "123.4 s of audio, 1.8 x real time")
            time.sleep(0.02)
    return screen.getvalue()


def test_a_terminal_shows_percent_and_time_left_within_80_characters():
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen_of(True))
    last = [line for line in re.split(r"[\r\n]", shown) if "speaking" in line][-1]
    assert "90%" in last
    assert re.search(r"\d:\d\d:\d\d left", last)
    assert "123.4 s of audio, 1.8 x real time" in last


def test_elsewhere_and_when_quiet_nothing_is_drawn():
    assert screen_of(False) == ""
    assert screen_of(True, quiet=True) == ""


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def lines_of(shares: list[float | None], seconds: float, done: float = 0.0) -> list[str]:
    """The lines of a task whose shares come so many seconds apart."""
    clock, said = Clock(), list[str]()
    lines = Lines(said.append, "reading", done, clock)
    for share in shares:
        clock.now += seconds
        lines.show(share, "chapter 2 of 14")
    return said


def test_a_log_gets_a_line_now_and_then():
    assert lines_of([count / 100 for count in range(1, 101)], seconds=0.5) == []  # done in less than a minute
    said = lines_of([count / 1000 for count in range(1, 1001)], seconds=30)
    assert 15 <= len(said) <= 20
    assert said[0] == "reading: chapter 2 of 14, 5% done, about 7 h 55 min left"
    assert len(lines_of([None] * 100, seconds=30)) == 50


def test_what_was_done_before_is_no_speed():
    (line,) = lines_of([0.6], seconds=60, done=0.5)
    assert line.endswith("60% done, about 4 min left")


@pytest.mark.parametrize(("seconds", "words"), [(41.6, "42 s"), (720, "12 min"), (12_000, "3 h 20 min")])
def test_rough_durations_are_words(seconds, words):
    assert rough_duration(seconds) == words


def test_a_long_text_is_shown_with_its_share(run, monkeypatch):
    """The packaged voice cuts its texts itself; a terminal shows how far it is."""
    from moss_tts.cli import terminal

    shares: list[float | None] = []
    monkeypatch.setattr(
        terminal.Terminal, "working", lambda *_, **__: nullcontext(lambda share, _: shares.append(share))
    )
    ended = run("say", "It was late. " * 12, "--seed", 1)
    assert ended.code == 0
    assert len(shares) > 2
    assert None not in shares
    assert shares == sorted(shares)
    assert shares[-1] > 0.9
