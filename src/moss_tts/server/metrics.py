"""What happens on a server, as Prometheus reads it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
OUTCOMES = ("ok", "cancelled", "rejected", "overloaded", "timeout", "failed")


class Histogram:
    """Seconds of something."""

    def __init__(self) -> None:
        self._counts = [0] * len(BUCKETS)
        self._count, self._sum = 0, 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self._count += 1
        self._sum += seconds
        for index, bound in enumerate(BUCKETS):
            self._counts[index] += seconds <= bound

    def lines(self, name: str) -> Iterator[str]:
        """The lines of Prometheus' text format."""
        for bound, count in zip(BUCKETS, self._counts, strict=True):
            yield f'{name}_bucket{{le="{bound}"}} {count}'
        yield f'{name}_bucket{{le="+Inf"}} {self._count}'
        yield f"{name}_sum {self._sum:.6f}"
        yield f"{name}_count {self._count}"


class Metrics:
    """Counters since the start. Every request for speech has one outcome."""

    def __init__(self) -> None:
        self._outcomes: Counter[str] = Counter(dict.fromkeys(OUTCOMES, 0))
        self._first, self._whole = Histogram(), Histogram()
        self.frames, self.audio_seconds = 0, 0.0

    def ended(self, outcome: str, seconds: float | None = None) -> None:
        """A request is over; seconds only of those that were let in."""
        assert outcome in OUTCOMES
        self._outcomes[outcome] += 1
        if seconds is not None and outcome == "ok":
            self._whole.add(seconds)

    def heard(self, seconds: float) -> None:
        """The first audio of a request is there."""
        self._first.add(seconds)

    def spoke(self, frames: int, seconds: float) -> None:
        """So much audio was made."""
        self.frames += frames
        self.audio_seconds += seconds

    def text(self, running: int, waiting: int, memory: int) -> str:
        """All of it in Prometheus' text format.

        Args:
            running: requests being spoken.
            waiting: requests waiting for a place.
            memory: bytes that MLX holds.
        """
        return "\n".join(self._lines({"running": running, "waiting": waiting}, memory)) + "\n"

    def _lines(self, requests: dict[str, int], memory: int) -> Iterator[str]:
        yield from _head("moss_tts_requests_total", "counter", "Requests for speech, by how they ended.")
        for outcome, count in self._outcomes.items():
            yield f'moss_tts_requests_total{{outcome="{outcome}"}} {count}'
        yield from _head("moss_tts_requests", "gauge", "Requests for speech that are not over.")
        for state, count in requests.items():
            yield f'moss_tts_requests{{state="{state}"}} {count}'
        yield from _head("moss_tts_frames_total", "counter", "Frames of audio made.")
        yield f"moss_tts_frames_total {self.frames}"
        yield from _head("moss_tts_audio_seconds_total", "counter", "Seconds of audio made.")
        yield f"moss_tts_audio_seconds_total {self.audio_seconds:.3f}"
        yield from _head("moss_tts_memory_bytes", "gauge", "Memory that MLX holds.")
        yield f"moss_tts_memory_bytes {memory}"
        for name, histogram, about in (
            ("moss_tts_first_audio_seconds", self._first, "From a request to its first audio."),
            ("moss_tts_request_seconds", self._whole, "From a request to its last byte."),
        ):
            yield from _head(name, "histogram", about)
            yield from histogram.lines(name)


def _head(name: str, kind: str, about: str) -> tuple[str, str]:
    return f"# HELP {name} {about}", f"# TYPE {name} {kind}"
