"""Charts of a report as SVG text: the waveform in rows, and the speed of each segment."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import numpy.typing as npt

from moss_tts.books.report.envelope import Envelope

MAX_ROWS = 24
ROW_SECONDS = (10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600)
# Units of a drawing, not pixels: it scales with the page.
ROW_WIDTH = 1000
ROW_HEIGHT = 80
# Room above a row for the marks of flagged seams.
_MARK_HEIGHT = 12
_CHART_HEIGHT = 160


@dataclass(frozen=True)
class Span:
    """A segment on the time line, in samples start..end; flagged when the seam at its start is."""

    number: int
    start: int
    end: int
    text: str
    is_flagged: bool


def timestamp(seconds: float) -> str:
    """Seconds as m:ss.s, or h:mm:ss from an hour on."""
    if seconds >= 3600:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
    minutes, tenths = divmod(round(seconds * 10), 600)
    return f"{minutes}:{tenths // 10:02d}.{tenths % 10}"


def waveform_rows(envelope: Envelope, spans: Sequence[Span]) -> Iterator[str]:
    """One drawing for each row of audio; all rows are equally long and share one scale."""
    row_seconds = _row_seconds(envelope.seconds)
    row_samples = row_seconds * envelope.sample_rate
    loudest = max(float(np.abs([*envelope.low, *envelope.high]).max(initial=0)), 1e-6)
    for row in range(max(1, math.ceil(envelope.samples / row_samples))):
        start = row * row_samples
        visible = [span for span in spans if span.start < start + row_samples and span.end > start]
        shapes = [_segment(span, start, row_samples) for span in visible]
        path = _outline(envelope, start, row_samples, loudest)
        label = f"{timestamp(row * row_seconds)}, {len(visible)} segments"
        yield (
            f"<figure><figcaption>{timestamp(row * row_seconds)}</figcaption>"
            f'<svg role="group" aria-label="Waveform from {label}" '
            f'viewBox="0 {-_MARK_HEIGHT} {ROW_WIDTH} {ROW_HEIGHT + _MARK_HEIGHT}" preserveAspectRatio="none">'
            f'{"".join(shapes)}<path class="wave" d="{path}"/></svg></figure>'
        )


def _row_seconds(seconds: float) -> int:
    """The shortest row of which MAX_ROWS hold all; beyond the last of ROW_SECONDS, whole hours."""
    fitting = (row for row in ROW_SECONDS if row * MAX_ROWS >= seconds)
    return next(fitting, 3600 * math.ceil(seconds / 3600 / MAX_ROWS))


def _segment(span: Span, row_start: int, row_samples: int) -> str:
    """A segment's part of a row: its band, the line of its seam, and its text for pointers and readers."""
    left = max(0.0, (span.start - row_start) / row_samples * ROW_WIDTH)
    right = min(float(ROW_WIDTH), (span.end - row_start) / row_samples * ROW_WIDTH)
    shade = "even" if span.number % 2 else "odd"
    flag = " (seam flagged)" if span.is_flagged else ""
    begins_here = span.start >= row_start
    return (
        f'<a href="#segment-{span.number}" aria-label="Segment {span.number}{flag}">'
        f"<title>{span.number}{flag}: {escape(span.text)}</title>"
        f'<rect class="{shade}" x="{left:.1f}" y="0" width="{right - left:.1f}" height="{ROW_HEIGHT}"/>'
        f"{_seam(left, span.is_flagged) if begins_here and span.number > 1 else ''}</a>"
    )


def _seam(x: float, is_flagged: bool) -> str:
    if not is_flagged:
        return f'<path class="seam" d="M{x:.1f} 0v{ROW_HEIGHT}"/>'
    mark = f"M{x - 5:.1f} {-_MARK_HEIGHT}h10l-5 {_MARK_HEIGHT}z"
    return f'<path class="flag" d="M{x:.1f} 0v{ROW_HEIGHT}"/><path class="mark" d="{mark}"/>'


def _outline(envelope: Envelope, start: int, samples: int, loudest: float) -> str:
    """The closed path around a stretch of waveform."""
    first = start // envelope.width
    bins = slice(first, math.ceil((start + samples) / envelope.width))
    low, high = envelope.low[bins], envelope.high[bins]
    per_column = math.ceil(samples / envelope.width / ROW_WIDTH) or 1
    columns = np.arange(0, len(low), per_column)
    if not len(columns):
        return ""
    x = np.rint(columns * envelope.width / samples * ROW_WIDTH).astype(int)
    top = _heights(np.maximum.reduceat(high, columns), loudest)
    bottom = _heights(np.minimum.reduceat(low, columns), loudest)
    # Silence stays a visible line.
    points = [*zip(x, top, strict=True), *zip(x[::-1], bottom[::-1] + 1, strict=True)]
    return "M" + "L".join(f"{px} {py}" for px, py in points) + "z"


def _heights(levels: npt.NDArray[np.float32], loudest: float) -> npt.NDArray[np.int_]:
    """Levels (N,) as heights from the top of a row."""
    middle = ROW_HEIGHT / 2
    return np.rint(middle - levels / loudest * (middle - 1)).astype(int)


def speed_chart(factors: Sequence[float], spans: Sequence[Span]) -> str:
    """A column for each segment's real-time factor, and a line at 1: as fast as speech."""
    top = max([*factors, 1.0]) * 1.1
    width = ROW_WIDTH / max(1, len(factors))
    gap = min(2.0, width / 4)
    columns = "".join(
        f'<a href="#segment-{span.number}" aria-label="Segment {span.number}: {factor:.2f}">'
        f"<title>{span.number}: {factor:.2f}</title>"
        f'<rect class="{"fast" if factor >= 1 else "slow"}" x="{at * width:.1f}" width="{width - gap:.1f}" '
        f'y="{_CHART_HEIGHT * (1 - factor / top):.1f}" height="{_CHART_HEIGHT * factor / top:.1f}"/></a>'
        for at, (factor, span) in enumerate(zip(factors, spans, strict=True))
    )
    line = _CHART_HEIGHT * (1 - 1 / top)
    return (
        f'<figure><figcaption>0 to {top:.1f}</figcaption><svg role="group" aria-label="Real-time factor of each '
        f'segment" viewBox="0 0 {ROW_WIDTH} {_CHART_HEIGHT}" preserveAspectRatio="none">{columns}'
        f'<path class="limit" d="M0 {line:.1f}h{ROW_WIDTH}"/></svg></figure>'
    )
