"""The work of `moss-tts batch`: load, speak what is not done yet, keep what is spoken.

Modules that speak take seconds to import, and are imported only where they are needed: wrong usage does not wait.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from moss_tts.audio.marking import mark_of
from moss_tts.books.work_lock import work_lock
from moss_tts.bulk.jobs import Job
from moss_tts.bulk.kept_results import RESULTS, KeptResults, Row
from moss_tts.cli.output_files import interruptible
from moss_tts.cli.places import check_directory, check_format
from moss_tts.cli.progress import duration
from moss_tts.cli.speak_text import INTERRUPTED, Source
from moss_tts.cli.subtitles import NO_SUBTITLES, WantedSubtitles
from moss_tts.cli.terminal import Terminal
from moss_tts.errors import RequestError
from moss_tts.subtitles.formats import SUBTITLES

if TYPE_CHECKING:
    from moss_tts.bulk.speaking import FilesOfJobs

FAILED = 1


@dataclass(frozen=True)
class Destination:
    """Where the files of jobs go.

    Attributes:
        output: their directory.
        suffix: the suffix of the audio.
        subtitles: the subtitles that are wanted.
        mark: whether the files say what made them.
    """

    output: Path
    suffix: str = ".wav"
    subtitles: WantedSubtitles = NO_SUBTITLES
    mark: bool = True

    def check(self) -> None:
        """Refuse what could not be written, before anything is loaded.

        Raises:
            RequestError: another format, a file in the place of the directory, or a place that does not exist.
        """
        self.subtitles.check()
        check_format(self.suffix)
        if self.subtitles.file is not None and self.subtitles.file.name not in SUBTITLES:
            raise RequestError(
                f"--subtitles {self.subtitles.file}: each job has subtitles beside its audio, so give only a suffix: "
                f"{', '.join(SUBTITLES)}."
            )
        check_directory("--output", self.output)

    def files(self, made_by: str) -> FilesOfJobs:
        """The files, made by a model of this name."""
        from moss_tts.bulk.speaking import FilesOfJobs

        subtitles = None if self.subtitles.file is None else self.subtitles.file.name
        return FilesOfJobs(
            self.output, self.suffix, mark_of(made_by) if self.mark else None, subtitles, self.subtitles.words
        )


def speak_to_files(jobs: Sequence[Job], to: Destination, source: Source, at_once: int, terminal: Terminal) -> int:
    """Speak the jobs that are not done yet; what is done stays, however the run ends.

    Returns:
        The exit code: 0, 1 if jobs have failed, 130 after Ctrl-C.

    Raises:
        MossTTSError: the model cannot be loaded, or a file cannot be written.
    """
    to.check()
    with work_lock(to.output):
        return _speak_to_files(jobs, to, source, at_once, terminal)


def _speak_to_files(jobs: Sequence[Job], to: Destination, source: Source, at_once: int, terminal: Terminal) -> int:
    results, started = KeptResults(to.output), time.monotonic()
    with terminal.loading(source.name):
        from moss_tts.bulk.speaking import pending_jobs, speak_jobs

        files = to.files(source.name)
        pending, done = pending_jobs(jobs, results, files, source.fingerprint())
        model = source.load_speech() if pending else None
    told = _Told(terminal, jobs, done)
    if model is not None:
        find = to.subtitles.finder(terminal)
        total = sum(len(job.text) for job in jobs) or 1
        spoken = total - sum(len(one.job.text) for one in pending)
        with interruptible() as cancel, terminal.working("speaking", done=spoken / total) as show:
            show(spoken / total, told.counts)
            for job, row in speak_jobs(model, pending, results, files, at_once, cancel, find):
                told.hear(job, row)
                spoken += len(job.text)
                show(spoken / total, told.counts)
    results.finish(job.id for job in jobs)
    took = time.monotonic() - started
    terminal.say(f"{to.output}: {told.counts}, {duration(told.seconds)} of audio, made in {duration(took)}")
    if told.left:
        terminal.warn(f"Interrupted. Run the same command again to speak the other {told.left}.")
        return INTERRUPTED
    if told.failed:
        terminal.warn(f"{told.failed} failed; {to.output / RESULTS} says why.")
    return FAILED if told.failed else 0


class _Told:
    """What people are told of the jobs that are over.

    Args:
        terminal: shows it.
        jobs: all jobs.
        done: the results of those that were done before.
    """

    def __init__(self, terminal: Terminal, jobs: Sequence[Job], done: Sequence[Row]) -> None:
        self._terminal, self._jobs, self._before = terminal, len(jobs), len(done)
        self._counts = Counter[str](done=len(done))
        self._remarks = set[str]()
        self.seconds = sum(row["seconds"] for row in done)

    def hear(self, job: Job, row: Row) -> None:
        """Take in the result of a job; warn if it failed, was cut short, or was spoken otherwise than asked."""
        from moss_tts.bulk.speaking import remarks_on

        self._counts[row["status"]] += 1
        where = f"line {job.line} ({job.id})" if job.id != str(job.line) else f"line {job.line}"
        if row["status"] == "failed":
            self._terminal.warn(f"{where} failed: {row['error']}")
            return
        self.seconds += row["seconds"]
        for remark in remarks_on(row, where):
            if remark not in self._remarks:  # most are the same for all jobs
                self._remarks.add(remark)
                self._terminal.warn(remark)

    @property
    def failed(self) -> int:
        """The number of jobs that failed."""
        return self._counts["failed"]

    @property
    def left(self) -> int:
        """The number of jobs that are not over."""
        return self._jobs - self._counts.total()

    @property
    def counts(self) -> str:
        """How many jobs are over, in words."""
        before = f", {self._before} of them before" if self._before else ""
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self._counts['done']} of {self._jobs} jobs done{before}{failed}"
