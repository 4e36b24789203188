"""Metrics say what they said before a library wrote them: names, kinds, labels and values."""

from types import SimpleNamespace

from prometheus_client.parser import text_string_to_metric_families

from moss_tts.server.metrics import BUCKETS, OUTCOMES, Metrics

KINDS = {
    "moss_tts_requests": {"counter", "gauge"},
    "moss_tts_frames": {"counter"},
    "moss_tts_audio_seconds": {"counter"},
    "moss_tts_sessions": {"gauge"},
    "moss_tts_memory_bytes": {"gauge"},
    "moss_tts_model_loaded": {"gauge"},
    "moss_tts_model_requests": {"gauge"},
    "moss_tts_model_loads": {"gauge"},
    "moss_tts_first_audio_seconds": {"histogram"},
    "moss_tts_request_seconds": {"histogram"},
}


def buckets(name: str, under: dict[float, int], count: int, total: float) -> dict[str, float]:
    """Samples of a histogram; `under` has the counts of buckets that are not empty."""
    samples = {f"{name}_bucket{{le={bound}}}": float(under.get(bound, 0)) for bound in BUCKETS}
    return samples | {f"{name}_bucket{{le=+Inf}}": count, f"{name}_count": count, f"{name}_sum": total}


def test_metrics_are_what_they_were() -> None:
    metrics = Metrics()
    metrics.ended("ok", 0.3)
    metrics.ended("ok", 70.0)
    metrics.ended("cancelled")
    metrics.ended("timeout", 1.0)
    metrics.first_audio(20.0)
    metrics.spoke(10, 0.8)
    models = [SimpleNamespace(name="big", state="loading", users=4, loads=1)]
    text = metrics.text(running=2, waiting=3, sessions=4, memory=123_456_789, models=models)
    families = list(text_string_to_metric_families(text))
    assert {name: {f.type for f in families if f.name == name} for name in (f.name for f in families)} == KINDS
    found = {}
    for sample in (sample for family in families for sample in family.samples):
        labels = ",".join(f"{key}={value}" for key, value in sample.labels.items())
        found[sample.name + (f"{{{labels}}}" if labels else "")] = sample.value
    outcomes = dict.fromkeys(OUTCOMES, 0) | {"ok": 2, "cancelled": 1, "timeout": 1}
    assert found == {
        **{f"moss_tts_requests_total{{outcome={outcome}}}": count for outcome, count in outcomes.items()},
        "moss_tts_requests{state=running}": 2,
        "moss_tts_requests{state=waiting}": 3,
        "moss_tts_frames_total": 10,
        "moss_tts_audio_seconds_total": 0.8,
        "moss_tts_sessions": 4,
        "moss_tts_memory_bytes": 123_456_789,
        "moss_tts_model_loaded{model=big}": 0,
        "moss_tts_model_requests{model=big}": 4,
        "moss_tts_model_loads{model=big}": 1,
        **buckets("moss_tts_first_audio_seconds", {30.0: 1, 60.0: 1}, 1, 20.0),
        **buckets("moss_tts_request_seconds", {bound: 1 for bound in BUCKETS if bound >= 0.5}, 2, 70.3),
    }
