"""The files that `moss-tts read` writes: where they stand, and that they can be written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from moss_tts.audio.files import WRITABLE_FORMATS
from moss_tts.audio.m4b import require_av
from moss_tts.books.planning import TIMES
from moss_tts.cli.places import check_beside, check_directory, check_file, check_format
from moss_tts.cli.subtitles import NO_SUBTITLES, WantedSubtitles, subtitle_path
from moss_tts.errors import RequestError
from moss_tts.subtitles.formats import SUBTITLES


@dataclass(frozen=True)
class Destination:
    """The files that a book is written to.

    Attributes:
        output: an .m4b, or a directory for one file per chapter.
        suffix: the suffix of the files in it.
        report: HTML page to write, if any.
        read_along: EPUB with the sound to write, if any.
        subtitles: the subtitles that are wanted.
        force: delete the segments of another reading.
        voice: the name of the registered voice that reads, for subtitles.
        mark: whether the files say what made them.
    """

    output: Path
    suffix: str = ".mp3"
    report: Path | None = None
    read_along: Path | None = None
    subtitles: WantedSubtitles = NO_SUBTITLES
    force: bool = False
    voice: str | None = None
    mark: bool = True

    @property
    def is_one_file(self) -> bool:
        """Whether the book is one .m4b."""
        return self.output.suffix.lower() == ".m4b"

    @property
    def work(self) -> Path:
        """The directory of finished segments."""
        return self.output.with_name(f"{self.output.name}.work")

    def subtitle_file(self) -> Path | None:
        """The subtitles of the .m4b; for chapters, the suffix of the files beside theirs.

        Raises:
            RequestError: a file that could not be written.
        """
        self.subtitles.check()
        file = self.subtitles.file
        if file is None or self.is_one_file:
            path = subtitle_path(file, self.output)
            if path is not None and path == self.times:
                raise RequestError(f"--subtitles {path} would replace the segments of the reading; name another file.")
            return path
        if file.name not in SUBTITLES:
            raise RequestError(
                f"--subtitles {file}: the subtitles of chapters stand beside their files, so give only a "
                f"suffix: {', '.join(SUBTITLES)}."
            )
        return Path(file.name)

    @property
    def times(self) -> Path:
        """The file with the times of segments."""
        return self.output.with_suffix(".json") if self.is_one_file else self.output / TIMES

    @property
    def is_finished(self) -> bool:
        """Whether a reading has ended here: the times of its segments are written last, and nothing is kept of it."""
        return self.times.is_file() and not self.work.exists()

    def check(self) -> None:
        """Refuse files that could not be written, before anything is loaded.

        Raises:
            RequestError: another format, or a place that does not exist.
            AudioError: an .m4b without PyAV.
        """
        self.check_places()
        if self.is_finished and not self.force:
            raise RequestError(
                f"{self.output} holds a finished reading. Name another --output, or replace it with --force."
            )
        self.subtitle_file()
        if self.read_along is not None and (self.is_one_file or self.suffix != ".mp3"):
            raise RequestError(
                "--read-along holds the chapters as mp3. Name a directory as --output, and leave --format at mp3."
            )
        if self.read_along is not None and self.read_along.suffix.lower() != ".epub":
            raise RequestError(f"--read-along {self.read_along} must end in .epub.")

    def check_places(self) -> None:
        """Refuse formats that are not written, and places that cannot be written to.

        Raises:
            RequestError: one of these.
            AudioError: an .m4b without PyAV.
        """
        if self.is_one_file:
            require_av()
        elif self.output.suffix.lower() in WRITABLE_FORMATS:
            raise RequestError(
                f"--output {self.output}: name an .m4b file for the whole book, or a directory for its chapters."
            )
        else:
            check_format(self.suffix)
        (check_file if self.is_one_file else check_directory)("--output", self.output)
        check_beside("--output", self.work)
        for option, path in {"--report": self.report, "--read-along": self.read_along}.items():
            if path is not None:
                check_file(option, path)
