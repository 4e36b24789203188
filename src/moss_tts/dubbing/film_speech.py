"""The speech of a film: spoken cue by cue, kept until the track is written, and placed at the times of the cues."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from moss_tts.audio.files import read_audio
from moss_tts.bulk.jobs import Job
from moss_tts.bulk.kept_results import KeptResults, Row
from moss_tts.bulk.speaking import FilesOfJobs, pending_jobs, remarks_on, speak_jobs
from moss_tts.dubbing.fitting import Bounds, Fit, fitted, rooms_of, trimmed
from moss_tts.dubbing.script import SpokenCue
from moss_tts.dubbing.track import Placed
from moss_tts.dubbing.voices import Abilities, jobs_of, samples_of
from moss_tts.model import Model
from moss_tts.presets import resolve_preset
from moss_tts.speaking.jobs import Cancel
from moss_tts.subtitles.alignment import Find, with_words
from moss_tts.subtitles.cues import Cue

# Kept speech is lossless, so that a track that was interrupted is the same as one that was not.
_KEPT: Final = ".flac"
# Seconds between two voices of a cue.
_BETWEEN_PARTS: Final = 0.1


class FilmSpeech:
    """The speech of a film.

    Args:
        model: the model that speaks.
        cues: the cues with words, in the order of time.
        options: options of generate that hold for all cues.
        bounds: how far the tempo may be changed.
        directory: where speech is kept.
        checkpoint: fingerprint of what speaks.

    Attributes:
        fits: how the cues came to fit, in the order of time, once `placed` has given them.
        heard: the cues of the track, with the times at which they are heard; as fits.
        failures: the line of a cue, and why it, or a part of it, could not be spoken.
    """

    def __init__(
        self,
        model: Model,
        cues: Sequence[SpokenCue],
        options: Mapping[str, Any],
        bounds: Bounds,
        directory: Path,
        checkpoint: str,
    ) -> None:
        self._model, self._cues, self._bounds = model, cues, bounds
        self._checkpoint, self._directory = checkpoint, directory
        preset = resolve_preset(options["preset"]) if "preset" in options else model.preset
        self._abilities = Abilities.of(model, preset)
        self._rooms = rooms_of([(spoken.cue.start, spoken.end) for spoken in cues])
        self._jobs = jobs_of(cues, self._rooms, options, bounds, self._abilities.length)
        self._results = KeptResults(directory)
        self._voice = options.get("voice")
        self._rows: dict[str, Row] = {}
        self.fits: list[Fit] = []
        self.heard: list[Cue] = []
        self.failures: list[tuple[int, str]] = []

    @property
    def jobs(self) -> list[Job]:
        """What is to be spoken, in the order of time."""
        return [job for jobs in self._jobs for job in jobs]

    # -------------------------------------------------------------------------------------------- speaking

    def speak(self, at_once: int, cancel: Cancel) -> Iterator[Job]:
        """Speak what is not kept yet; returns each job that is over, also those that were over before.

        Args:
            at_once: how many are spoken at the same time.
            cancel: set it from any thread, and the work ends within a frame; finished jobs stay.
        """
        castings = {
            job.id: part.casting
            for jobs, spoken in zip(self._jobs, self._cues, strict=True)
            for job, part in zip(jobs, spoken.parts, strict=True)
        }
        samples = samples_of(self.jobs, castings) if self._abilities.reference else {}
        first = [job for job in self.jobs if samples.get(job.id)]
        yield from self._speak(first, at_once, cancel)
        if cancel.is_set():
            return
        recordings = {
            follower: self._directory / self._rows[sample]["file"]
            for sample, followers in samples.items()
            if self._rows.get(sample, {}).get("status") == "done"
            for follower in followers
        }
        rest = [
            replace(job, options={**job.options, "ref_audio": str(recordings[job.id])}) if job.id in recordings else job
            for job in self.jobs
            if job not in first
        ]
        yield from self._speak(rest, at_once, cancel)

    def _speak(self, jobs: Sequence[Job], at_once: int, cancel: Cancel) -> Iterator[Job]:
        files = FilesOfJobs(self._directory, _KEPT)
        pending, done = pending_jobs(jobs, self._results, files, self._checkpoint)
        self._rows |= {row["id"]: row for row in done}
        left = {one.job.id for one in pending}
        yield from (job for job in jobs if job.id not in left)
        for job, row in speak_jobs(self._model, pending, self._results, files, at_once, cancel):
            self._rows[job.id] = row
            yield job

    def remarks(self) -> list[str]:
        """Sentences for people about cues that were cut short, or spoken otherwise than asked; each once."""
        done = [job for job in self.jobs if self._rows[job.id]["status"] == "done"]
        return list(
            dict.fromkeys(remark for job in done for remark in remarks_on(self._rows[job.id], f"line {job.line}"))
        )

    # --------------------------------------------------------------------------------------------- placing

    @property
    def length(self) -> int:
        """The least samples of the track: up to the end of the last cue."""
        return round(max(spoken.end for spoken in self._cues) * self._model.sample_rate)

    def placed(self, find: Find | None = None) -> Iterator[Placed]:
        """The speech of each cue in the track, in the order of time; `fits`, `heard` and `failures` are filled.

        Args:
            find: finds the words of what is heard, if they are wanted.
        """
        rate = self._model.sample_rate
        self.fits, self.heard, self.failures = [], [], []
        for spoken, room, jobs in zip(self._cues, self._rooms, self._jobs, strict=True):
            audio = self._audio(jobs)
            if audio is None:
                continue
            words, fit = fitted(audio, rate, room, self._bounds)
            start = round(room.start * rate)
            self.fits.append(fit)
            cue = Cue(0.0, len(words) / rate, spoken.text, spoken.voice or self._voice)
            self.heard.append((cue if find is None else with_words(cue, words, rate, find)).shifted(start / rate))
            yield Placed(start, words)

    def _audio(self, jobs: Sequence[Job]) -> np.ndarray | None:
        """The speech of all parts of a cue, one after the other; None if none could be spoken."""
        rate, parts = self._model.sample_rate, list[np.ndarray]()
        for job in jobs:
            row = self._rows[job.id]
            if row["status"] == "failed":
                self.failures.append((job.line, row["error"]))
                continue
            waveform = read_audio(self._directory / row["file"])
            samples = waveform.samples[0] if len(waveform.samples) == 1 else waveform.samples.T
            if parts:
                parts.append(np.zeros((round(_BETWEEN_PARTS * rate), *samples.shape[1:]), samples.dtype))
            parts.append(trimmed(samples, rate))
        return np.concatenate(parts) if parts else None

    def remove(self) -> None:
        """Delete what is kept; the directory stays if it has other files."""
        for row in self._rows.values():
            if "file" in row:
                (self._directory / row["file"]).unlink(missing_ok=True)
        # A process that was killed leaves parts of files behind.
        for path in [self._results.file, *self._directory.glob(".*.incomplete")]:
            path.unlink(missing_ok=True)
        with suppress(OSError):
            self._directory.rmdir()
