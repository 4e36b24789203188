"""The share of a text that is spoken, estimated from the audio so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, takewhile
from typing import Any

from moss_tts.cli.output_files import Recording
from moss_tts.long_form import TextSegment
from moss_tts.request import FRAME_RATE

# What 150 English words a minute are; used until the first segment has shown how fast this voice is.
CHARACTERS_PER_SECOND = 14.0


def share_of(options: Mapping[str, Any], plan: Sequence[TextSegment]) -> Callable[[Recording], float | None]:
    """A function that gives the share of a recording of a request; None if the whole is unknown.

    Args:
        options: the options of generate.
        plan: the segments of its text.
    """
    seconds, speed = _seconds_asked_for(options), options.get("speed", 1.0)
    if seconds is not None:
        return lambda recording: min(recording.seconds * speed / seconds, 1.0)
    return PlanShare(plan, speed) if plan else lambda recording: None  # noqa: ARG005


def _seconds_asked_for(options: Mapping[str, Any]) -> float | None:
    if (tokens := options.get("tokens")) is not None:
        return float(tokens / FRAME_RATE)
    return options.get("duration_s", options.get("seconds"))


class PlanShare:
    """The share of a plan's characters; inside a segment, as many as its seconds of audio usually hold."""

    def __init__(self, plan: Sequence[TextSegment], speed: float = 1.0) -> None:
        self._usual_rate = CHARACTERS_PER_SECOND * speed
        self._ends = list(accumulate(len(segment.text) for segment in plan))

    def __call__(self, recording: Recording) -> float | None:
        """The share that a recording is."""
        if not recording.results:
            return None
        index = recording.results[-1].segment_idx
        done = self._ends[index - 1] if index else 0
        inside = sum(
            result.samples / result.sample_rate
            for result in takewhile(lambda result: result.segment_idx == index, reversed(recording.results))
        )
        before = recording.seconds - inside
        rate = done / before if done and before else self._usual_rate
        return min(done + rate * inside, self._ends[index]) / self._ends[-1]
