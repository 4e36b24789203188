"""A reading on one page: waveform, segments, seams, speed. One HTML file beside the audio, without network.

Its one script plays a segment from the audio files; without them, or without scripts, the rest of the page is there.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from moss_tts.atomic import atomic_file
from moss_tts.books.report.charts import Span, timestamp, waveform_rows
from moss_tts.books.report.envelope import Envelope, EnvelopeBuilder
from moss_tts.device.memory import size
from moss_tts.long_form import BoundaryMetrics, SegmentMetrics, TextSegment
from moss_tts.speaking.checking import Take, best

__all__ = ["Envelope", "EnvelopeBuilder", "ReportedSegment", "reported_segments", "write_report"]

_TEMPLATE = Path(__file__).with_name("template")
SCRIPT = (_TEMPLATE / "page.js").read_text("utf-8")
_PAGES = Environment(
    loader=FileSystemLoader(_TEMPLATE),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_PAGES.filters["timestamp"] = timestamp


@dataclass(frozen=True)
class Played:
    """Where a segment is heard: a file, and seconds in it."""

    file: Path
    start: float
    end: float

    def address(self, folder: Path) -> str:
        """A link to it, for a page in `folder`."""
        path = os.path.relpath(self.file.absolute(), folder).replace(os.sep, "/")
        return f"{quote(path, errors='surrogateescape')}#t={self.start:.3f},{self.end:.3f}"


@dataclass(frozen=True)
class ReportedSegment:
    """A segment that was spoken.

    Attributes:
        text: the text as it was spoken.
        metrics: what it took.
        seam: the seam to the segment before it; None if there is none.
        chapter: the chapter it belongs to, "" outside books.
        played: where it is heard; None where it was not written to a file.
        voice: the voice that speaks it; None: the one of the whole text.
        takes: what a recogniser heard of each attempt at it.
        is_misspoken: whether even the best of them has too many errors.
    """

    text: str
    metrics: SegmentMetrics
    seam: BoundaryMetrics | None = None
    chapter: str = ""
    played: Played | None = None
    voice: str | None = None
    takes: Sequence[Take] = ()
    is_misspoken: bool = False

    @property
    def take(self) -> Take | None:
        """The attempt that was kept, if it was heard."""
        return best(self.takes)

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
    spans = _spans(segments)
    page = _PAGES.get_template("page.html").render(
        title=title,
        totals=_totals(segments, envelope),
        warnings=warnings,
        rows=waveform_rows(envelope, spans),
        spoken=list(zip(spans, segments, strict=True)),
        fastest=max((segment.real_time_factor for segment in segments), default=1.0) or 1.0,
        sample_rate=envelope.sample_rate,
        folder=Path(path).absolute().parent,
        script=SCRIPT,
        digest=base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode(),
    )
    with atomic_file(Path(path)) as part:
        part.write_text(page, "utf-8", "surrogateescape")


def _spans(segments: Sequence[ReportedSegment]) -> list[Span]:
    """Where each segment lies in the audio."""
    ends = list(accumulate(segment.metrics.emitted_samples for segment in segments))
    starts = [0, *ends][: len(ends)]
    return [
        Span(number, start, end, segment.text, segment.is_flagged)
        for number, (start, end, segment) in enumerate(zip(starts, ends, segments, strict=True), start=1)
    ]


def _totals(segments: Sequence[ReportedSegment], envelope: Envelope) -> dict[str, str]:
    metrics = [segment.metrics for segment in segments]
    work = sum(spoken.segment_latency_seconds for spoken in metrics)
    audio = sum(spoken.emitted_seconds for spoken in metrics)
    return {
        "Audio": timestamp(envelope.seconds),
        "Work": timestamp(work),
        "Real-time factor": f"{audio / work:.2f}" if work else "–",
        "Segments": str(len(segments)),
        "Characters": f"{sum(spoken.segment_chars for spoken in metrics):,}",
        "Flagged seams": str(sum(segment.is_flagged for segment in segments)),
        "Retries": str(sum(spoken.retry_count for spoken in metrics)),
        **_checked(segments),
        "Peak memory": size(1e9 * max((spoken.total_peak_memory_gb for spoken in metrics), default=0)),
    }


def _checked(segments: Sequence[ReportedSegment]) -> dict[str, str]:
    """Figures of the check, where segments were heard."""
    heard = [take for segment in segments if (take := segment.take) is not None]
    if not heard:
        return {}
    mean = sum(take.word_error for take in heard) / len(heard)
    return {"Misspoken": str(sum(segment.is_misspoken for segment in segments)), "Mean word error": f"{mean:.3f}"}
