"""What happens on a server, in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
OUTCOMES = ("ok", "cancelled", "rejected", "overloaded", "timeout", "failed")

# Every counter would have a second line with the time of its start.
disable_created_metrics()


class ModelFigures(Protocol):
    """What is counted of a model."""

    name: str
    users: int
    loads: int

    @property
    def state(self) -> str:
        """Where it is."""
        ...


class Metrics:
    """Counters since the start. Every request for speech has one outcome; a turn of a session counts as one."""

    def __init__(self) -> None:
        # The client refuses a gauge "requests" beside a counter "requests_total" in one registry.
        total, now = self._registries = CollectorRegistry(), CollectorRegistry()
        ended = Counter(
            "moss_tts_requests_total", "Requests for speech, by how they ended.", ["outcome"], registry=total
        )
        self._ended = {outcome: ended.labels(outcome) for outcome in OUTCOMES}
        self._frames = Counter("moss_tts_frames_total", "Frames of audio made.", registry=total)
        self._audio = Counter("moss_tts_audio_seconds_total", "Seconds of audio made.", registry=total)
        self._first = Histogram(
            "moss_tts_first_audio_seconds", "From a request to its first audio.", buckets=BUCKETS, registry=total
        )
        self._whole = Histogram(
            "moss_tts_request_seconds", "From a request to its last byte.", buckets=BUCKETS, registry=total
        )
        self._requests = Gauge("moss_tts_requests", "Requests for speech that are not over.", ["state"], registry=now)
        self._sessions = Gauge("moss_tts_sessions", "Sessions over WebSockets that are open.", registry=now)
        self._memory = Gauge("moss_tts_memory_bytes", "Memory that MLX holds.", registry=now)
        self._loaded = Gauge("moss_tts_model_loaded", "Whether a model is in memory.", ["model"], registry=now)
        self._uses = Gauge("moss_tts_model_requests", "Requests that keep a model in memory.", ["model"], registry=now)
        self._loads = Gauge(
            "moss_tts_model_loads", "How often a model was loaded since the start.", ["model"], registry=now
        )

    def ended(self, outcome: str, seconds: float | None = None) -> None:
        """Count a request that has ended; `seconds` are given only for requests that were let in."""
        self._ended[outcome].inc()
        if seconds is not None and outcome == "ok":
            self._whole.observe(seconds)

    def first_audio(self, seconds: float) -> None:
        """Count a request that has its first audio."""
        self._first.observe(seconds)

    def spoke(self, frames: int, seconds: float) -> None:
        """Count audio that was made."""
        self._frames.inc(frames)
        self._audio.inc(seconds)

    def text(self, running: int, waiting: int, sessions: int, memory: int, models: Iterable[ModelFigures] = ()) -> str:
        """All of it in Prometheus' text format.

        Args:
            running: requests being spoken.
            waiting: requests waiting for a place.
            sessions: sessions that are open.
            memory: bytes that MLX holds.
            models: the models of the server.
        """
        for model in models:
            self._loaded.labels(model.name).set(model.state == "loaded")
            self._uses.labels(model.name).set(model.users)
            self._loads.labels(model.name).set(model.loads)
        self._requests.labels("running").set(running)
        self._requests.labels("waiting").set(waiting)
        self._sessions.set(sessions)
        self._memory.set(memory)
        return "".join(generate_latest(registry).decode() for registry in self._registries)
