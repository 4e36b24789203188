"""The work of `moss-tts dub`: speak the cues that are missing, fit them to their times, write the track.

Modules that speak are imported only where they are needed, so that a plan appears at once.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from moss_tts.audio.marking import mark_of
from moss_tts.audio.tempo import require_tempo
from moss_tts.books.work_lock import work_lock
from moss_tts.cli.fit_table import clock, show_misfits, summary_of
from moss_tts.cli.output_files import interruptible
from moss_tts.cli.progress import duration
from moss_tts.cli.speak_text import INTERRUPTED, Source, check_output, write_cues
from moss_tts.cli.subtitles import NO_SUBTITLES, WantedSubtitles, subtitle_path
from moss_tts.cli.terminal import Terminal
from moss_tts.dubbing.fitting import Bounds
from moss_tts.dubbing.script import Script, script_of
from moss_tts.dubbing.subtitle_files import read_film
from moss_tts.dubbing.track import TRACK_FORMATS, pieces, write_track
from moss_tts.errors import RequestError, first_of
from moss_tts.text.cast import Cast
from moss_tts.voices import Voices

if TYPE_CHECKING:
    from moss_tts.dubbing.film_speech import FilmSpeech

FAILED: Final = 1
FILMS: Final = (".mp4", ".mkv", ".mov", ".webm", ".avi", ".m4v")
# Films that a track is copied into; for others its sound is encoded anew.
COPIED: Final = {".m4a": (".mp4", ".mkv", ".mov", ".avi", ".m4v"), ".mp3": (".mp4", ".mkv", ".mov", ".avi")}
MOST_SHOWN: Final = 5
MOST_WARNINGS: Final = 20


@dataclass(frozen=True)
class Destination:
    """Where a track goes.

    Attributes:
        film: the subtitles that are spoken.
        output: the file of the track.
        subtitles: the subtitles of the track that are wanted.
        mark: whether the track says what made it.
        at_once: how many cues are spoken at the same time.
    """

    film: Path
    output: Path
    subtitles: WantedSubtitles = NO_SUBTITLES
    mark: bool = True
    at_once: int = 8

    @property
    def work(self) -> Path:
        """The directory of cues that are spoken."""
        return self.output.with_name(f"{self.output.name}.work")

    def subtitle_file(self) -> Path | None:
        """The subtitles of the track.

        Raises:
            RequestError: a file that could not be written, or the subtitles that are spoken; nothing that finds words.
        """
        self.subtitles.check()
        path = subtitle_path(self.subtitles.file, self.output)
        if path is not None and path.resolve() == self.film.resolve():
            raise RequestError(f"--subtitles {path} would replace the subtitles that are spoken; name another file.")
        return path

    def muxing(self) -> str:
        """The command that puts the track into the film, which stands beside its subtitles if it is known."""
        # film.srt and film.en.srt belong to film.mp4.
        names = [self.film.stem, Path(self.film.stem).stem]
        beside = [self.film.with_name(f"{name}{suffix}") for name in names for suffix in FILMS]
        film = next((path for path in beside if path.is_file()), beside[0])
        copied = COPIED.get(self.output.suffix.lower(), ())
        codec = "copy" if film.suffix in copied else "libopus" if film.suffix == ".webm" else "aac"
        dubbed = film.with_name(f"{film.stem}.dubbed{film.suffix}")
        streams = ["-map", "0:v", "-map", "1:a", "-c:v", "copy", "-c:a", codec]
        return shlex.join(["ffmpeg", "-i", str(film), "-i", str(self.output), *streams, str(dubbed)])


def read_script(film: Path, cast: Path | None, terminal: Terminal) -> Script:
    """What is said in a film; warns of what is wrong with its file.

    Raises:
        RequestError: a file that cannot be read, or nothing to say.
    """
    read = read_film(film)
    for warning in read.warnings:
        terminal.warn(warning)
    try:
        script = script_of(read.cues, Cast() if cast is None else Cast.read(cast), [voice.name for voice in Voices()])
    except RequestError as error:
        raise RequestError(f"{film}, {error}") from error
    if not script.cues:
        raise RequestError(f"{film} has no words to speak.")
    return script


def show_script(script: Script, terminal: Terminal) -> None:
    """Print each cue with its time and its voices, and what is not said."""
    for spoken in script.cues:
        for part in spoken.parts:
            voice = "" if part.casting is None else f"{part.casting}: "
            terminal.say(f"{clock(spoken.cue.start)}  {voice}{part.text}")
    tell_left_out(script, terminal)


def tell_left_out(script: Script, terminal: Terminal) -> None:
    """Say what is not spoken."""
    for counted, sentence in (
        (script.left_out, "not spoken"),
        (script.labels, "no voice belongs to these names, which were not spoken"),
    ):
        if counted:
            names = [f"{name} ({count}x)" if count > 1 else name for name, count in counted.most_common()]
            terminal.say(f"{sentence}: {first_of(names, MOST_SHOWN)}")


def dub_film(
    script: Script, options: Mapping[str, Any], bounds: Bounds, to: Destination, source: Source, terminal: Terminal
) -> int:
    """Speak the cues of a film into a track, or continue.

    Returns:
        The exit code: 0, 1 if a cue could not be spoken, 130 after Ctrl-C.

    Raises:
        MossTTSError: what went wrong. Cues that are spoken are kept.
    """
    check_output(to.output, TRACK_FORMATS)
    to.subtitle_file()
    require_tempo()
    with work_lock(to.work):
        return _dub_film(script, options, bounds, to, source, terminal)


def _dub_film(
    script: Script, options: Mapping[str, Any], bounds: Bounds, to: Destination, source: Source, terminal: Terminal
) -> int:
    started = time.monotonic()
    with terminal.loading(source.name):
        from moss_tts.dubbing.film_speech import FilmSpeech  # it takes seconds to import, and plans do without

        model = source.load_speech()
        speech = FilmSpeech(model, script.cues, options, bounds, to.work, source.fingerprint())
    find = to.subtitles.finder(terminal)
    if not speak(speech, to, terminal):
        terminal.warn(f"Interrupted. What is spoken is in {to.work}; run the same command again to continue.")
        return INTERRUPTED
    mark = mark_of(source.name) if to.mark else None
    track = pieces(speech.placed(find), model.channels, speech.length)
    write_track(to.output, track, model.sample_rate, model.channels, to.film.stem, mark)
    if (subtitles := to.subtitle_file()) is not None:
        write_cues(speech.heard, subtitles, terminal)
    if not speech.failures:
        speech.remove()
    told = [*speech.remarks(), *(f"line {line} could not be spoken: {why}" for line, why in speech.failures)]
    for sentence in told[:MOST_WARNINGS]:
        terminal.warn(sentence)
    if len(told) > MOST_WARNINGS:
        terminal.warn(f"and {len(told) - MOST_WARNINGS} more lines like these.")
    show_misfits(speech.fits, speech.heard, terminal)
    tell_left_out(script, terminal)
    took = duration(time.monotonic() - started)
    terminal.say(f"{to.output}: {summary_of(speech.fits, len(script.cues))}, made in {took}")
    terminal.say(f"put it into the film: {to.muxing()}")
    if speech.failures:
        terminal.warn(f"Run the same command again to try these lines again; the others are kept in {to.work}.")
        return FAILED
    return 0


def speak(speech: FilmSpeech, to: Destination, terminal: Terminal) -> bool:
    """Speak what is not kept yet; whether all of it is spoken."""
    jobs = speech.jobs
    total, done = sum(len(job.text) for job in jobs), 0
    with interruptible() as cancel, terminal.working("speaking") as show:
        show(0.0, f"{len(jobs)} cues")
        for job in speech.speak(to.at_once, cancel):
            done += len(job.text)
            show(done / total, f"cue {job.id.partition('-')[0]}")
    return done == total
