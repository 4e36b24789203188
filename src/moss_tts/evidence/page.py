"""One Markdown page: a machine, what its checks found, and how fast it speaks. Made to be attached to an issue."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date

from moss_tts.bench import Bench
from moss_tts.device.memory import size
from moss_tts.evidence.checks import Finding


def page(facts: Mapping[str, str], findings: Sequence[Finding], speeds: Mapping[str, Bench | str], today: date) -> str:
    """The page.

    Args:
        facts: the machine's parts and versions, by their names.
        findings: what the checks found, in order.
        speeds: name of a checkpoint -> its figures, or a sentence on why there are none.
        today: the day of the run.
    """
    lines = [
        f"# moss_tts on {facts['device']}",
        "",
        f"Written by `moss-tts check-device` on {today:%Y-%m-%d}. **{verdict(findings)}**",
        "",
        *_table(["the machine", ""], facts.items()),
        *_failures(findings),
        *_speeds(speeds),
        "## Checks",
        "",
        "Goldens compare with what the code of OpenMOSS computed; laws compare this package with itself. The largest "
        "difference is a share of the one that is allowed; where there is none, values are equal.",
        "",
        *_table(["check", "what has to hold", "result", "largest difference", "seconds"], map(_row, findings)),
    ]
    return "\n".join(lines)


def verdict(findings: Sequence[Finding]) -> str:
    """One sentence on all checks."""
    failed = sum(not finding.holds for finding in findings)
    if not failed:
        return f"All {len(findings)} checks hold."
    return f"{failed} of {len(findings)} checks {'does' if failed == 1 else 'do'} not hold."


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield _line(heads)
    yield _line(["---"] * len(heads))
    yield from map(_line, rows)
    yield ""


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(' '.join(cell.replace('|', chr(92) + '|').split()) for cell in cells)} |"


def _row(finding: Finding) -> list[str]:
    share = "" if finding.share is None else f"{finding.share:.2%}"
    result = "holds" if finding.holds else "**does not hold**"
    return [finding.check.subject, finding.check.statement, result, share, f"{finding.seconds:.1f}"]


def _failures(findings: Sequence[Finding]) -> Iterator[str]:
    failed = [finding for finding in findings if finding.failure is not None]
    if failed:
        yield from ("## What does not hold", "")
        yield from (f"- {finding.check.subject}, {finding.check.statement} {finding.failure}" for finding in failed)
        yield ""


def _speeds(speeds: Mapping[str, Bench | str]) -> Iterator[str]:
    measured = {name: speed for name, speed in speeds.items() if isinstance(speed, Bench)}
    yield from ("## Speed", "")
    if measured:
        columns = [dict(_figures(speed)) for speed in measured.values()]
        rows = [[label, *(column[label] for column in columns)] for label in columns[0]]
        yield from _table(["", *measured], rows)
    for name, reason in speeds.items():
        if isinstance(reason, str):
            yield from (f"{name} was not measured: {reason}", "")


def _figures(speed: Bench) -> Iterator[tuple[str, str]]:
    yield "ms per frame, network", f"{1e3 * speed.row:.2f}"
    yield "ms per frame, codec", f"{1e3 * speed.codec_frame:.2f}"
    yield "ms per frame in real time", f"{1e3 / speed.frame_rate:g}"
    yield "speech as a listener has it", f"{speed.real_time_factor:.2f} x real time"
    yield "ms to the first sound", f"{1e3 * speed.first_audio:.0f}"
    yield "a frame reads", size(speed.row_bytes)
    yield "this machine reads", f"{size(speed.bandwidth)}/s"
    yield "share of the speed that memory allows", f"{speed.floor_fraction:.0%}"
    yield "loading", f"{speed.load:.1f} s"
    yield "memory, weights", size(speed.weights)
    yield "memory at most", size(speed.peak)
