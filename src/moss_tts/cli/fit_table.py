"""How the cues of a dub came to fit, for people: a table of those that did not, and figures of all."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from moss_tts.cli.terminal import Terminal
from moss_tts.dubbing.fitting import Fit
from moss_tts.subtitles.cues import Cue
from moss_tts.text.harmless import one_line

# Tempos that nobody hears as such.
_AS_SPOKEN = 0.02


def clock(seconds: float) -> str:
    """A time of a film: 1:02:03.4."""
    tenths = round(10 * seconds)
    minutes, rest = divmod(tenths, 600)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest // 10:02d}.{rest % 10}"


def show_misfits(fits: Sequence[Fit], cues: Sequence[Cue], terminal: Terminal) -> None:
    """Print a table of the cues that end late or were cut off, with the tempo that they would have needed."""
    misfits = [(fit, cue) for fit, cue in zip(fits, cues, strict=True) if not fit.is_fit]
    lost = [fit.lost for fit, _ in misfits if fit.lost]
    if lost:
        cut = "1 cue is" if len(lost) == 1 else f"{len(lost)} cues are"
        terminal.warn(
            f"the end of {cut} cut off, by up to {max(lost):.2f} s; raise --fastest, or say it in fewer words."
        )
    if not misfits or terminal.quiet:
        return
    table = Table(title="Cues that did not fit, in seconds", title_justify="left", box=None, padding=(0, 1))
    for name in ("at", "cue", "spoken", "tempo", "needed", "late", "cut off"):
        table.add_column(name, justify="right", min_width=9 if name == "at" else 7)
    table.add_column("text", overflow="ellipsis", no_wrap=True)
    for fit, cue in misfits:
        numbers = [fit.room.seconds, fit.spoken, fit.tempo, fit.needed, fit.late, fit.lost]
        shown = [clock(fit.room.start), *(f"{number:.2f}" if number else "" for number in numbers)]
        table.add_row(*shown, Text(one_line(cue.text)))
    terminal.stdout.print(table, soft_wrap=False)


def summary_of(fits: Sequence[Fit], cues: int) -> str:
    """How many cues fit, and how far they had to be changed."""
    if not fits:
        return f"0 of {cues} cues spoken"
    tempos = [fit.tempo for fit in fits]
    changed = [tempo for tempo in tempos if abs(tempo - 1) > _AS_SPOKEN]
    told = [f"{sum(fit.is_fit for fit in fits)} of {cues} cues fit"]
    if changed:
        told.append(f"tempo of {len(changed)} changed, {min(tempos):.2f} to {max(tempos):.2f}")
    late, cut = [fit.late for fit in fits if not fit.is_fit and fit.late], [fit.lost for fit in fits if not fit.is_fit]
    if late:
        told.append(f"{len(late)} late by up to {max(late):.2f} s")
    lost = [seconds for seconds in cut if seconds]
    if lost:
        told.append(f"{len(lost)} cut off by up to {max(lost):.2f} s")
    return ", ".join(told)
