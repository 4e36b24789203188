"""The report: an envelope that does not depend on chunks, and a page that says all and asks nobody."""

import base64
import hashlib
import itertools
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moss_tts.books.report.charts import MAX_ROWS, timestamp
from moss_tts.books.report.page import (
    SCRIPT,
    EnvelopeBuilder,
    Played,
    ReportedSegment,
    reported_segments,
    write_report,
)
from moss_tts.long_form import BoundaryMetrics, SegmentMetrics, plan_text_segments

SNAPSHOT = Path(__file__).parent / "cases" / "report.html"
RATE = 1000
CLEAN, FLAGGED = BoundaryMetrics(0.2, 1.1, False), BoundaryMetrics(2.5, 4.0, False)
PAUSE = BoundaryMetrics(9.0, 900.0, True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("reports")


def envelope_of(chunks, max_bins=64):
    builder = EnvelopeBuilder(RATE, max_bins)
    for chunk in chunks:
        builder.add(chunk)
    return builder.build()


@given(st.lists(st.integers(0, 3000), max_size=8), st.integers(0, 20_000))
def test_an_envelope_is_the_same_for_any_chunks_and_bounds_every_sample(cuts, length):
    audio = np.random.default_rng(length).normal(size=length).astype(np.float32)
    whole = envelope_of([audio])
    parts = envelope_of(np.split(audio, np.minimum(np.cumsum(cuts), length)) if cuts else [audio])
    np.testing.assert_array_equal(whole.low, parts.low)
    np.testing.assert_array_equal(whole.high, parts.high)
    assert (whole.samples, whole.width) == (parts.samples, parts.width) == (length, whole.width)
    starts = np.arange(0, length, whole.width)
    assert len(whole.low) == len(starts) <= 64
    if length:
        np.testing.assert_array_equal(whole.low, np.minimum.reduceat(audio, starts))
        np.testing.assert_array_equal(whole.high, np.maximum.reduceat(audio, starts))


def metrics_of(number, text, seconds=5.0, work=2.5, note="seam-clean", retries=0):
    samples = round(seconds * RATE)
    return SegmentMetrics(number, len(text), 0, len(text), retries, 63, samples, seconds, work, 1.0, 1.5, 0, 0, note)


def reading(texts, flagged=(), seconds=5.0):
    segments = []
    for number, text in enumerate(texts):
        seam = None if number == 0 else FLAGGED if number in flagged else CLEAN
        note = seam.note if seam else "segment-start"
        segments.append(ReportedSegment(text, metrics_of(number, text, seconds, note=note), seam))
    audio = np.sin(np.arange(round(seconds * RATE) * len(segments)))
    return segments, envelope_of([audio], max_bins=16_384)


def page_of(path, segments, envelope, title="A reading"):
    write_report(path, title, segments, envelope)
    page = path.read_text(encoding="utf-8")
    return page, ElementTree.fromstring(page.removeprefix("<!DOCTYPE html>"))


def normal_form(page):
    return ElementTree.canonicalize(page.removeprefix("<!DOCTYPE html>"), strip_text=True)


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=40), max_size=6))
def test_every_text_is_on_the_page_and_stays_text(folder, texts):
    texts = [*texts, "<script>alert(1)</script> & \"'"]
    _, root = page_of(folder / "r.html", *reading(texts), title=texts[-1])
    rows = [row for row in root.iter("tr") if row.get("id")]
    assert [row[-1].text or "" for row in rows] == texts
    assert root.find(".//h1").text == texts[-1]
    assert [script.text for script in root.iter("script")] == [SCRIPT]


@settings(max_examples=30, deadline=None)
@given(st.sets(st.integers(1, 11)), st.sampled_from([0.5, 5.0, 400.0]))
def test_flagged_seams_are_marked_and_no_others(folder, flagged, seconds):
    texts = [f"Segment {n}." for n in range(12)]
    _, root = page_of(folder / "r.html", *reading(texts, flagged, seconds))
    marks = [link for link in root.iter("a") if link.find("path[@class='mark']") is not None]
    assert {int(link.get("href").removeprefix("#segment-")) - 1 for link in marks} == flagged
    assert len(root.findall(".//path[@class='seam']")) == 11 - len(flagged)
    assert sum("▼" in "".join(row.itertext()) for row in root.iter("tr")) == len(flagged)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.3, 200), min_size=1, max_size=8))
def test_bands_cover_the_audio_once_and_in_order(folder, lengths):
    segments = [ReportedSegment(f"{n}", metrics_of(n, "x", seconds)) for n, seconds in enumerate(lengths)]
    envelope = envelope_of([np.zeros(sum(segment.metrics.emitted_samples for segment in segments))])
    _, root = page_of(folder / "r.html", segments, envelope)
    rows = [figure.find("svg") for figure in root.iter("figure")][:-1]
    assert len(rows) <= MAX_ROWS
    for row in rows:
        edges = [(float(rect.get("x")), float(rect.get("width"))) for rect in row.iter("rect")]
        assert edges[0][0] == 0
        for (left, width), (right, _) in itertools.pairwise(edges):
            assert left + width == pytest.approx(right, abs=0.11)
    assert {link.get("href") for row in rows for link in row.iter("a")} == {
        f"#segment-{n + 1}" for n in range(len(lengths))
    }


def test_each_segment_is_played_from_its_file(tmp_path):
    segments, envelope = reading(["One.", "Two."])
    file = tmp_path / "audio" / "01 50% & more.mp3"
    played = [replace(one, played=Played(file, 5.0 * at, 5.0 * (at + 1))) for at, one in enumerate(segments)]
    _, root = page_of(tmp_path / "r.html", played, envelope)
    links = [link.get("href") for link in root.iter("a") if link.get("class") == "play"]
    assert links == [f"audio/01%2050%25%20%26%20more.mp3#t={times}" for times in ("0.000,5.000", "5.000,10.000")]
    [policy] = [meta.get("content") for meta in root.iter("meta") if meta.get("http-equiv")]
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy


def test_the_pages_warnings_are_text(tmp_path):
    write_report(tmp_path / "r.html", "A", *reading(["One."]), ["x.xhtml <b> is broken"])
    assert '<li dir="auto">x.xhtml &lt;b&gt; is broken</li>' in (tmp_path / "r.html").read_text("utf-8")


def test_the_page_is_the_snapshot(tmp_path):
    """All but its style and its script, and blank space between elements. To renew it, write `page` to the file."""
    texts = ['It <b>began</b> & "went on".', "Then it's loud.", "“Ångström”, 第二章。"]
    segments, _ = reading(texts, flagged={1})
    file = tmp_path / "audio" / "01 I & II.mp3"
    segments[1] = replace(segments[1], chapter="I & <II>", played=Played(file, 0.0, 5.0))
    metrics = metrics_of(3, "f", work=10, note="discontinuity-flagged", retries=2)
    segments += [
        ReportedSegment("A pause.", metrics_of(2, "f", work=10, retries=1), PAUSE, "III"),
        ReportedSegment("A flag without figures.", metrics, None, "III"),
    ]
    envelope = envelope_of([np.sin(np.arange(25 * RATE) / 700) * np.linspace(0, 1, 25 * RATE)])
    write_report(tmp_path / "r.html", 'The "<Fall>"', segments, envelope, ["x.xhtml <b> is broken", "y & z"])
    page = (tmp_path / "r.html").read_text("utf-8").replace(SCRIPT, "")
    page = re.sub("sha256-[^']+", "sha256-DIGEST", page)
    page = re.sub("<style>.*</style>", "<style></style>", page, flags=re.DOTALL)
    assert normal_form(page) == normal_form(SNAPSHOT.read_text("utf-8"))


def test_the_page_needs_no_network(tmp_path):
    page, root = page_of(tmp_path / "r.html", *reading(["One.", "Two."]))
    assert not re.search(r"https?:|//\w|@import|url\(|\bsrc=", page)
    assert all(link.get("href").startswith("#") for link in root.iter("a"))
    targets = {element.get("id") for element in root.iter()}
    assert all(link.get("href")[1:] in targets for link in root.iter("a"))


def test_totals_add_up_and_drawings_have_names(tmp_path):
    segments, envelope = reading(["abc", "de"], flagged={1})
    segments = [*segments, ReportedSegment("f", metrics_of(2, "f", work=10, retries=2), PAUSE, "Two")]
    envelope = envelope_of([np.zeros(15 * RATE)])
    page, root = page_of(tmp_path / "r.html", segments, envelope)
    totals = {div[0].text: div[1].text for div in root.findall(".//dl/div")}
    assert totals == {
        "Audio": "0:15.0", "Work": "0:15.0", "Real-time factor": "1.00", "Segments": "3", "Characters": "6",
        "Flagged seams": "1", "Retries": "2", "Peak memory": "1.50 GB",
    }  # fmt: skip
    assert "2 retries, pause" in page
    assert ">Two</th>" in page
    assert all(svg.get("aria-label") and svg.get("role") for svg in root.iter("svg"))


def test_an_hour_is_less_than_a_megabyte_and_pages_are_reproducible(tmp_path):
    segments, _ = reading(["A sentence of a usual length, said calmly. " * 8] * 180, flagged=range(3, 180, 7))
    builder = EnvelopeBuilder(24_000)
    segments = [
        ReportedSegment(segment.text, metrics_of(n, segment.text, 20.0), segment.seam)
        for n, segment in enumerate(segments)
    ]
    minute = np.random.default_rng(0).normal(size=60 * 24_000).astype(np.float32)
    for _ in range(60):
        builder.add(minute)
    page, _ = page_of(tmp_path / "a.html", segments, builder.build())
    again, _ = page_of(tmp_path / "b.html", segments, builder.build())
    assert len(page.encode()) < 1_000_000
    assert page == again


def test_nothing_spoken_is_a_page_too(tmp_path):
    _, root = page_of(tmp_path / "r.html", [], envelope_of([]))
    assert not root.findall(".//tr[@id]")


def test_a_reading_that_ended_early_reports_what_was_spoken():
    plan = plan_text_segments("One is here. Two is here. Three is here.", 5, 10, 15)
    metrics = [metrics_of(n, segment.text) for n, segment in enumerate(plan)]
    reported = reported_segments(plan, metrics[:2], [CLEAN], "I")
    assert [(r.text, r.seam, r.chapter) for r in reported] == [(plan[0].text, None, "I"), (plan[1].text, CLEAN, "I")]


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0:00.0"), (59.96, "1:00.0"), (61.24, "1:01.2"), (3599.9, "59:59.9"), (3661, "1:01:01")]
)
def test_timestamps(seconds, shown):
    assert timestamp(seconds) == shown
