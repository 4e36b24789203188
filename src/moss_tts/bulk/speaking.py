"""Jobs spoken side by side, each into files of its own; what is done already is left as it is."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moss_tts.audio.files import write_audio
from moss_tts.bulk.jobs import Job, content_of
from moss_tts.bulk.kept_results import KeptResults, Row
from moss_tts.bulk.together import Outcome, speak_together
from moss_tts.errors import MossTTSError
from moss_tts.model import Model
from moss_tts.speaking.attempts import CUT_SHORT
from moss_tts.speaking.jobs import Cancel
from moss_tts.subtitles.alignment import Find, with_words
from moss_tts.subtitles.formats import write_subtitles


@dataclass(frozen=True)
class FilesOfJobs:
    """The files that each job is written to.

    Attributes:
        directory: their directory.
        suffix: the suffix of the audio.
        mark: what the audio says of how it was made; None for nothing.
        subtitles: the suffix of the subtitles beside it; None for none.
        words: whether the subtitles have the times of words.
    """

    directory: Path
    suffix: str = ".wav"
    mark: str | None = None
    subtitles: str | None = None
    words: bool = False

    def counted(self) -> dict[str, Any]:
        """What the files of all jobs depend on."""
        return {"suffix": self.suffix, "mark": self.mark, "subtitles": self.subtitles, "words": self.words}


@dataclass(frozen=True)
class Pending:
    """A job that is still to be spoken, and the sum over its content."""

    job: Job
    content: str


def pending_jobs(
    jobs: Sequence[Job], results: KeptResults, to: FilesOfJobs, checkpoint: str
) -> tuple[list[Pending], list[Row]]:
    """The jobs that are still to be spoken, and the results of the others.

    Args:
        jobs: all jobs.
        results: the results of earlier runs.
        to: the files of jobs.
        checkpoint: fingerprint of what speaks.
    """
    pending, done = [], []
    for job in jobs:
        content = content_of(job.options, to.counted() | {"checkpoint": checkpoint})
        row = results.done(job.id, content)
        if row is None:
            pending.append(Pending(job, content))
        else:
            done.append(row)
    return pending, done


def speak_jobs(
    model: Model,
    pending: Sequence[Pending],
    results: KeptResults,
    to: FilesOfJobs,
    at_once: int,
    cancel: Cancel,
    find: Find | None = None,
) -> Generator[tuple[Job, Row], None, None]:
    """Speak jobs side by side; returns each with its result, once its files are written.

    Args:
        model: the model that speaks.
        pending: the jobs that are to be spoken.
        results: takes their results.
        to: the files of jobs.
        at_once: how many are spoken at the same time.
        cancel: set it from any thread, and the work ends within a frame; finished jobs stay.
        find: finds the words of subtitles, if they are wanted.

    Raises:
        AudioError: a file that cannot be written.
        RequestError: subtitles that cannot be written.
    """
    requests = ((one, one.job.options) for one in pending)
    for one, outcome in speak_together(model, requests, at_once, cancel):
        job = one.job
        row = {"id": job.id, "line": job.line, **_written(job, outcome, to, find), "content": one.content}
        results.add(row)
        yield job, row


def remarks_on(row: Row, where: str) -> list[str]:
    """Sentences for people about a job that is done: whether it was cut short, or spoken otherwise than asked."""
    why = CUT_SHORT.get(row["finish_reason"])
    cut = [] if why is None else [f"{where} was stopped {why}, so its end may be missing."]
    return [*cut, *row.get("notes", ())]


def _written(job: Job, outcome: Outcome, to: FilesOfJobs, find: Find | None) -> Mapping[str, Any]:
    """The result of a job, after its files are written."""
    if isinstance(outcome, MossTTSError):
        return {"status": "failed", "error": str(outcome)}
    result, notes = outcome
    audio = to.directory / f"{job.name}{to.suffix}"
    write_audio(audio, result.audio, result.sample_rate, mark=to.mark or False)
    row: Row = {"status": "done", "file": audio.name}
    if to.subtitles is not None:
        cues = [cue if find is None else with_words(cue, result.audio, result.sample_rate, find) for cue in result.cues]
        write_subtitles(audio.with_name(job.name + to.subtitles), cues)
        row["subtitles"] = job.name + to.subtitles
    told = {"seconds": round(result.samples / result.sample_rate, 3), "seed": result.seed}
    return row | told | {"finish_reason": result.finish_reason} | ({"notes": list(notes)} if notes else {})
