"""A reading on one page: waveform, segments, seams, speed. One HTML file beside the audio, without network.

Its one script plays a segment from the audio files; without them, or without scripts, the rest of the page is there.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import accumulate
from pathlib import Path
from urllib.parse import quote

from moss_tts.atomic import atomic_file
from moss_tts.books.report.charts import Span, speed_chart, timestamp, waveform_rows
from moss_tts.books.report.envelope import Envelope, EnvelopeBuilder
from moss_tts.books.report.style import SCRIPT, STYLE
from moss_tts.device.memory import size
from moss_tts.long_form import BoundaryMetrics, SegmentMetrics, TextSegment

__all__ = ["Envelope", "EnvelopeBuilder", "ReportedSegment", "reported_segments", "write_report"]


@dataclass(frozen=True)
class Played:
    """Where a segment is heard: a file, and seconds in it."""

    file: Path
    start: float
    end: float


@dataclass(frozen=True)
class ReportedSegment:
    """A segment that was spoken.

    Attributes:
        text: the text as it was spoken.
        metrics: what it took.
        seam: the seam to the segment before it; None if there is none.
        chapter: the chapter it belongs to, "" outside books.
        played: where it is heard; None where it was not written to a file.
    """

    text: str
    metrics: SegmentMetrics
    seam: BoundaryMetrics | None = None
    chapter: str = ""
    played: Played | None = None

    @property
    def is_flagged(self) -> bool:
        """Whether its seam is a discontinuity."""
        return self.metrics.boundary_note == "discontinuity-flagged"

    @property
    def real_time_factor(self) -> float:
        """Seconds of audio per second of work."""
        return self.metrics.emitted_seconds / max(self.metrics.segment_latency_seconds, 1e-9)


def reported_segments(
    plan: Sequence[TextSegment],
    metrics: Sequence[SegmentMetrics],
    seams: Sequence[BoundaryMetrics],
    chapter: str = "",
) -> list[ReportedSegment]:
    """Plan, metrics and seams of one text, put together. A reading that ended early has fewer metrics."""
    return [
        ReportedSegment(plan[spoken.segment_idx].text, spoken, seam, chapter)
        for spoken, seam in zip(metrics, [None, *seams], strict=False)
    ]


def write_report(
    path: str | Path,
    title: str,
    segments: Sequence[ReportedSegment],
    envelope: Envelope,
    warnings: Sequence[str] = (),
) -> None:
    """Write the page.

    Args:
        path: the path of the HTML file.
        title: what was read.
        segments: the segments in the order of speech.
        envelope: the envelope of their joined audio.
        warnings: what was wrong with the book's file.
    """
    page = _page(title, segments, envelope, warnings, Path(path).absolute().parent)
    with atomic_file(Path(path)) as part:
        part.write_text("\n".join(page) + "\n", "utf-8", "surrogateescape")


def _page(
    title: str, segments: Sequence[ReportedSegment], envelope: Envelope, warnings: Sequence[str], folder: Path
) -> Iterator[str]:
    spans = _spans(segments)
    yield '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8"/>'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
    yield f'<meta http-equiv="Content-Security-Policy" content="{_policy()}"/>'
    yield f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>"
    yield f'<h1 dir="auto">{escape(title)}</h1>'
    yield from _totals(segments, envelope)
    if warnings:
        items = "".join(f'<li dir="auto">{escape(warning)}</li>' for warning in warnings)
        yield f"<h2>Flaws of the book's file</h2>\n<ul>{items}</ul>"
    yield "<h2>Waveform</h2>"
    yield f'<p class="legend">{_LEGEND}</p>'
    yield from waveform_rows(envelope, spans)
    yield "<h2>Real-time factor</h2>"
    yield "<p>Seconds of audio per second of work; above the line is faster than speech.</p>"
    yield speed_chart([segment.real_time_factor for segment in segments], spans)
    yield "<h2>Segments</h2>"
    yield from _table(segments, spans, folder)
    yield f"</main>\n<script>{SCRIPT}</script>\n</body>\n</html>"


def _policy() -> str:
    """Nothing runs but the page's own script, and nothing is fetched but audio beside the page."""
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'unsafe-inline'; media-src 'self' file:; script-src 'sha256-{digest}'"


_LEGEND = (
    '<span class="key band"></span> segment (point at it for its text, follow it to its row) '
    '<span class="key seam"></span> seam <span class="key flag">▼</span> seam with a discontinuity'
)


def _spans(segments: Sequence[ReportedSegment]) -> list[Span]:
    """Where each segment lies in the audio."""
    ends = list(accumulate(segment.metrics.emitted_samples for segment in segments))
    starts = [0, *ends][: len(ends)]
    return [
        Span(number, start, end, segment.text, segment.is_flagged)
        for number, (start, end, segment) in enumerate(zip(starts, ends, segments, strict=True), start=1)
    ]


def _totals(segments: Sequence[ReportedSegment], envelope: Envelope) -> Iterator[str]:
    metrics = [segment.metrics for segment in segments]
    work = sum(spoken.segment_latency_seconds for spoken in metrics)
    audio = sum(spoken.emitted_seconds for spoken in metrics)
    figures = {
        "Audio": timestamp(envelope.seconds),
        "Work": timestamp(work),
        "Real-time factor": f"{audio / work:.2f}" if work else "–",
        "Segments": str(len(segments)),
        "Characters": f"{sum(spoken.segment_chars for spoken in metrics):,}",
        "Flagged seams": str(sum(segment.is_flagged for segment in segments)),
        "Retries": str(sum(spoken.retry_count for spoken in metrics)),
        "Peak memory": size(1e9 * max((spoken.total_peak_memory_gb for spoken in metrics), default=0)),
    }
    yield '<dl class="totals">'
    yield from (f"<div><dt>{name}</dt><dd>{figure}</dd></div>" for name, figure in figures.items())
    yield "</dl>"


def _table(segments: Sequence[ReportedSegment], spans: Sequence[Span], folder: Path) -> Iterator[str]:
    fastest = max((segment.real_time_factor for segment in segments), default=1.0) or 1.0
    yield '<table>\n<thead><tr><th scope="col">No.</th><th scope="col">Listen</th>'
    yield '<th scope="col">Start</th><th scope="col">Length</th>'
    yield '<th scope="col">Real-time factor</th><th scope="col">Seam</th><th scope="col">Text</th></tr></thead>'
    yield "<tbody>"
    chapter = ""
    start = 0.0
    for segment, span in zip(segments, spans, strict=True):
        if segment.chapter != chapter:
            chapter = segment.chapter
            yield f'<tr><th scope="rowgroup" colspan="7" dir="auto">{escape(chapter)}</th></tr>'
        yield _row(segment, span, start, fastest, folder)
        start += segment.metrics.emitted_seconds
    yield "</tbody>\n</table>"


def _row(segment: ReportedSegment, span: Span, start: float, fastest: float, folder: Path) -> str:
    factor = segment.real_time_factor
    retries = segment.metrics.retry_count
    notes = f"{retries} {'retry' if retries == 1 else 'retries'}, " if retries else ""
    bar = f'<span class="bar" style="width:{100 * factor / fastest:.0f}%"></span>'
    return (
        f'<tr id="segment-{span.number}"><th scope="row">{span.number}</th>'
        f"<td>{_button(segment.played, span.number, folder)}</td><td>{timestamp(start)}</td>"
        f"<td>{segment.metrics.emitted_seconds:.1f} s</td>"
        f'<td class="speed">{factor:.2f}{bar}</td><td>{notes}{_seam(segment)}</td>'
        f'<td dir="auto">{escape(segment.text)}</td></tr>'
    )


def _button(played: Played | None, number: int, folder: Path) -> str:
    """A link that plays a segment here, and opens its file where scripts do not run."""
    if played is None:
        return ""
    address = quote(os.path.relpath(played.file.absolute(), folder).replace(os.sep, "/"), errors="surrogateescape")
    times = f"{played.start:.3f},{played.end:.3f}"
    return f'<a class="play" href="{escape(address)}#t={times}" aria-label="Play segment {number}">▶</a>'


def _seam(segment: ReportedSegment) -> str:
    """The seam before a segment, in words."""
    seam = segment.seam
    if seam is None:
        return {"segment-start": "start", "seam-clean": "clean"}.get(segment.metrics.boundary_note, "▼ flagged")
    if seam.is_pause:
        return "pause"
    figures = f"jump {seam.normalized_jump:.2f}, level ×{seam.energy_ratio:.1f}"
    return f'<strong class="flag">▼ {figures}</strong>' if segment.is_flagged else figures
