"""The options --subtitles, --words and --recogniser: which file they name, that it can be written, what finds words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from moss_tts.cli.places import check_file
from moss_tts.cli.terminal import Terminal
from moss_tts.errors import RequestError
from moss_tts.subtitles.alignment import Find
from moss_tts.subtitles.formats import SUBTITLES
from moss_tts.subtitles.recogniser import Recogniser, check_recogniser


@dataclass(frozen=True)
class WantedSubtitles:
    """The subtitles that a command was asked for.

    Attributes:
        file: the value of --subtitles; None for none.
        words: whether the times of words are wanted.
        recogniser: the model that finds words; None is the packaged one.
    """

    file: Path | None = None
    words: bool = False
    recogniser: str | None = None

    def check(self) -> None:
        """Refuse what cannot be had, before anything is loaded.

        Raises:
            RequestError: options without the one that they belong to, or nothing that finds words.
        """
        if self.words and self.file is None:
            raise RequestError("--words adds the times of words to subtitles. Name their file with --subtitles.")
        if self.recogniser is not None and not self.words:
            raise RequestError("--recogniser chooses what finds words. Give --words as well, or leave it out.")
        if self.words:
            check_recogniser(self.recogniser)

    def finder(self, terminal: Terminal) -> Find | None:
        """What finds words, loaded; None if they are not wanted."""
        if not self.words:
            return None
        with terminal.loading("recogniser"):
            return Recogniser(self.recogniser).find


NO_SUBTITLES = WantedSubtitles()


def subtitle_path(given: Path | None, output: Path) -> Path | None:
    """The file of the subtitles; a suffix alone stands for a file beside the audio, with its name.

    Args:
        given: the value of --subtitles; None for none.
        output: the audio file.

    Raises:
        RequestError: another suffix, the audio file itself, or a place that cannot be written to.
    """
    if given is None:
        return None
    if given.name in SUBTITLES and output.name == "-":
        raise RequestError(f"--subtitles {given} has no audio file to stand beside; name a whole file.")
    path = output.with_suffix(given.name) if given.name in SUBTITLES else given
    if path.suffix.lower() not in SUBTITLES:
        raise RequestError(f"--subtitles {given} must end in {', '.join(SUBTITLES)}.")
    check_file("--subtitles", path)
    return path
