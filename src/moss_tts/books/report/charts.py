"""The waveform of a report, drawn in rows: what lies where."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from moss_tts.books.report.envelope import Envelope

MAX_ROWS = 24
ROW_SECONDS = (10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600)
# Units of a drawing, not pixels: it scales with the page. The page's template names these sizes as numbers.
ROW_WIDTH = 1000
ROW_HEIGHT = 80


@dataclass(frozen=True)
class Span:
    """A segment on the time line, in samples start..end; flagged when the seam at its start is."""

    number: int
    start: int
    end: int
    text: str
    is_flagged: bool


@dataclass(frozen=True)
class Band:
    """A segment's part of a row, with the seam at its left edge if that lies in this row."""

    span: Span
    left: float
    width: float
    has_seam: bool


@dataclass(frozen=True)
class WaveformRow:
    """A row of the waveform: its start in seconds, its segments, and its outline as an SVG path."""

    start: int
    bands: list[Band]
    outline: str


def timestamp(seconds: float) -> str:
    """Seconds as m:ss.s, or h:mm:ss from an hour on."""
    if seconds >= 3600:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
    minutes, tenths = divmod(round(seconds * 10), 600)
    return f"{minutes}:{tenths // 10:02d}.{tenths % 10}"


def waveform_rows(envelope: Envelope, spans: Sequence[Span]) -> list[WaveformRow]:
    """The rows of a waveform; all rows are equally long and share one scale."""
    row_seconds = _row_seconds(envelope.seconds)
    samples = row_seconds * envelope.sample_rate
    loudest = max(float(np.abs([*envelope.low, *envelope.high]).max(initial=0)), 1e-6)
    return [
        WaveformRow(
            start=row * row_seconds,
            bands=[
                _band(span, row * samples, samples)
                for span in spans
                if span.start < (row + 1) * samples and span.end > row * samples
            ],
            outline=_outline(envelope, row * samples, samples, loudest),
        )
        for row in range(max(1, math.ceil(envelope.samples / samples)))
    ]


def _row_seconds(seconds: float) -> int:
    """The shortest row of which MAX_ROWS hold all; beyond the last of ROW_SECONDS, whole hours."""
    fitting = (row for row in ROW_SECONDS if row * MAX_ROWS >= seconds)
    return next(fitting, 3600 * math.ceil(seconds / 3600 / MAX_ROWS))


def _band(span: Span, row_start: int, row_samples: int) -> Band:
    left = max(0.0, (span.start - row_start) / row_samples * ROW_WIDTH)
    right = min(float(ROW_WIDTH), (span.end - row_start) / row_samples * ROW_WIDTH)
    return Band(span, left, right - left, has_seam=span.start >= row_start and span.number > 1)


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
