"""Messages of the command line, while it works and when it is done. Progress and warnings go to stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from moss_tts.cli.output_files import Recording
from moss_tts.cli.progress import Show, showing
from moss_tts.device.memory import size
from moss_tts.text.harmless import without_controls

BYTES = (BarColumn(20), DownloadColumn())


class Terminal:
    """The output for messages, without control characters: words may come from a book or from a file's name.

    Args:
        quiet: show nothing but warnings and errors.
        verbose: show sizes and speeds as well.
        stdout: the console for results.
        stderr: the console for everything else; progress is drawn only if it is a terminal.
    """

    def __init__(
        self,
        quiet: bool = False,
        stdout: Console | None = None,
        stderr: Console | None = None,
        *,
        verbose: bool = False,
    ) -> None:
        self.quiet, self.verbose = quiet, verbose
        self.stdout = stdout or Console(highlight=False, soft_wrap=True)
        self.stderr = stderr or Console(stderr=True, highlight=False, soft_wrap=True)

    def say(self, line: str) -> None:
        """Show a result, on stdout."""
        if not self.quiet:
            self.stdout.print(without_controls(line), markup=False)

    def warn(self, line: str, level: str = "warning") -> None:
        """Show a warning, on stderr, even when quiet."""
        # One call, because a bar that is being drawn would come between two.
        self.stderr.print(Text.assemble((f"{level}:", "yellow"), " ", without_controls(line)))

    def hint(self, line: str) -> None:
        """Show what to do next, on stderr."""
        if not self.quiet:
            self.stderr.print(without_controls(line), markup=False)

    @contextmanager
    def loading(self, name: str) -> Iterator[None]:
        """Show a spinner while a checkpoint is loaded, and a bar while files are fetched for it."""
        from moss_tts.checkpoints.hub import shown_by  # plans should not wait for the hub's library

        with self._bar(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()) as bar:
            bar.add_task(f"loading {name}", total=None)

            @contextmanager
            def instead(what: str, nbytes: int) -> Iterator[Callable[[int], object]]:
                bar.stop()
                with self.downloading(what, nbytes) as show:
                    yield show
                bar.start()

            with shown_by(instead):
                yield

    @contextmanager
    def downloading(self, name: str, nbytes: int) -> Iterator[Callable[[int], object]]:
        """Say how many bytes will be fetched, and show a bar for them on a terminal."""
        if nbytes and not self.quiet:
            self.stderr.print(f"fetching {name}, {size(nbytes)}", markup=False)
        shown = (SpinnerColumn(), TextColumn("{task.percentage:.0f} %"), *BYTES, TransferSpeedColumn())
        with self._bar(*shown, TimeRemainingColumn()) as bar:
            task = bar.add_task("", total=nbytes)
            yield lambda count: bar.update(task, advance=count)

    def working(self, label: str, done: float = 0.0) -> AbstractContextManager[Show]:
        """Show the progress of a task; see progress.py."""
        return showing(self.stderr, label, done=done, quiet=self.quiet)

    @contextmanager
    def speaking(self, share: Callable[[Recording], float | None]) -> Iterator[Callable[[Recording], None]]:
        """Show the progress of speech.

        Args:
            share: gives the share of the whole that a recording is; None if that is unknown.
        """
        with self.working("speaking") as show:
            yield lambda so_far: show(
                share(so_far), f"{so_far.seconds:.1f} s of audio, {so_far.real_time_factor:.1f} x real time"
            )

    @contextmanager
    def writing(self, name: str, nbytes: int) -> Iterator[Callable[[int], None]]:
        """Show a bar for bytes while they are written."""
        with self._bar(SpinnerColumn(), TextColumn("writing {task.description}"), *BYTES, TimeElapsedColumn()) as bar:
            task = bar.add_task(name, total=nbytes)
            yield lambda count: bar.update(task, advance=count)

    def _bar(self, *columns: ProgressColumn) -> Progress:
        shown = self.stderr.is_terminal and not self.quiet
        return Progress(*columns, console=self.stderr, transient=True, disable=not shown)


def summary(path: Path, recording: Recording) -> str:
    """One line: file, duration, time taken, why it ended, and the seed that makes it again."""
    return (
        f"{path}: {recording.seconds:.2f} s of audio in {recording.compute_seconds:.2f} s "
        f"({recording.real_time_factor:.1f} x real time), finish reason: {recording.finish_reason or 'error'}, "
        f"seed {recording.results[-1].seed}"
    )


def figures(recording: Recording) -> str:
    """What --verbose adds: sizes and speeds."""
    first = recording.results[0]
    frames = sum(result.token_count for result in recording.results)
    return (
        f"prompt {first.prompt['tokens']} rows, {frames} frames "
        f"({frames / max(recording.compute_seconds, 1e-9):.1f} per second), first audio after "
        f"{first.processing_time_seconds:.2f} s, peak memory {size(1e9 * recording.results[-1].peak_memory_usage)}"
    )
