"""The work of `moss-tts read`: plan, speak what is missing, write files.

Modules that speak are imported only where they are needed, so that a plan appears at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moss_tts.audio.files import WRITABLE_FORMATS
from moss_tts.audio.marking import mark_of
from moss_tts.books.chapters import Book
from moss_tts.books.m4b import is_picture, require_av
from moss_tts.books.planning import TIMES, book_cut, estimate, long_form_options, plan_book, reading_notes
from moss_tts.books.work_lock import work_lock
from moss_tts.cli.output_files import interruptible
from moss_tts.cli.speak_text import INTERRUPTED, Source
from moss_tts.cli.subtitles import NO_SUBTITLES, WantedSubtitles, subtitle_path
from moss_tts.cli.terminal import Terminal
from moss_tts.config import MossConfig, parse_config
from moss_tts.device.memory import size
from moss_tts.errors import RequestError
from moss_tts.long_form import TextSegment
from moss_tts.presets import Preset
from moss_tts.prompts.token_budgets import Cut
from moss_tts.subtitles.formats import SUBTITLES
from moss_tts.text.preparation import TextPreparation
from moss_tts.weights.layout import read_json

if TYPE_CHECKING:
    from moss_tts.books.kept_segments import KeptSegments

# A failed segment should not end a night's reading.
RETRY_ATTEMPTS = 2
PREVIEW_CHARS = 60
# The rate of a checkpoint that is not on this machine: most of the family have it.
DEFAULT_RATE = 24_000
# The codec of this rate is stereo.
STEREO_RATE = 48_000


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
        if self.is_one_file:
            require_av()
        elif self.output.suffix.lower() in WRITABLE_FORMATS:
            raise RequestError(
                f"--output {self.output}: name an .m4b file for the whole book, or a directory for its chapters."
            )
        elif self.suffix not in WRITABLE_FORMATS:
            known = ", ".join(suffix.removeprefix(".") for suffix in WRITABLE_FORMATS)
            raise RequestError(f"--format must be one of {known}, got {self.suffix.removeprefix('.')!r}.")
        elif self.output.exists() and not self.output.is_dir():
            raise RequestError(f"--output {self.output} is a file; name a directory, or an .m4b.")
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
        for path in filter(None, (self.output, self.report, self.read_along)):
            if not path.absolute().parent.is_dir():
                raise RequestError(f"there is no directory {path.parent} for {path.name}.")


def show_plan(book: Book, options: Mapping[str, Any], model: str, to: Destination, terminal: Terminal) -> None:
    """Print the segments of each chapter: number, place in the text, length, what ends it, how it begins.

    Then how long and how large the reading will be, roughly.
    """
    config = config_of(model)
    preparation = None if config is None else config.text_preparation
    plans = plan_book(book, options, preparation, cut_of_checkpoint(model, config, options))
    for number, (chapter, plan) in enumerate(zip(book.chapters, plans, strict=True), start=1):
        terminal.say(f"chapter {number}: {chapter.title} ({_count(plan)})")
        for position, segment in enumerate(plan, start=1):
            terminal.say(
                f"  {number}.{position}  {segment.start_offset}-{segment.end_offset}  {len(segment.text)} characters, "
                f"ends at {segment.boundary.name.lower()}: {_preview(segment.text)}"
            )
    everything = [segment for plan in plans for segment in plan]
    terminal.say(f"{book.title}: {len(plans)} chapters, {_count(everything)}")
    suffix = ".m4b" if to.is_one_file else to.suffix
    rate = DEFAULT_RATE if config is None else config.sampling_rate
    channels = 2 if rate == STEREO_RATE else 1
    roughly = estimate(plans, suffix, rate, channels, options.get("speed", 1.0))
    terminal.say(
        f"roughly {in_words(roughly.seconds)} of audio; {size(roughly.nbytes)} as {suffix.removeprefix('.')}, and "
        f"{size(roughly.work_bytes)} more on disk until the reading is finished"
    )
    show_notes(book, options, preparation, terminal)
    show_remarks(book, terminal)


def config_of(model: str) -> MossConfig | None:
    """The config of a checkpoint; None for a hub id, which would have to be fetched.

    Raises:
        ConfigError: the directory holds no checkpoint of this family.
    """
    directory = Path(model)
    return parse_config(read_json(directory / "config.json")) if directory.is_dir() else None


def cut_of_checkpoint(model: str, config: MossConfig | None, options: Mapping[str, Any]) -> Cut | None:
    """How a checkpoint cuts chapters, without its weights; None where its config is not known, or it counts no tokens.

    Raises:
        CheckpointError: its variant counts tokens, and its tokenizer is missing or broken.
    """
    # What is imported below would take seconds.
    if config is None or not config.counts_tokens:
        return None
    from moss_tts.architectures import ARCHITECTURES
    from moss_tts.checkpoints.loading import find_checkpoint
    from moss_tts.checkpoints.tokenizer import load_tokenizer
    from moss_tts.checkpoints.variant import variant_of
    from moss_tts.prompts.messages import PromptEncoder

    source = find_checkpoint(model)
    preset = variant_of(source, ARCHITECTURES[type(config)].default_preset).preset
    if preset.pieces is None:
        return book_cut(options, preset, None)
    encoder = PromptEncoder.of(load_tokenizer(source.directory))
    return book_cut(options, preset, lambda text: len(encoder.encode(text)))


def in_words(seconds: float) -> str:
    """A length for people: "9 h 20 min", "3 min 5 s", "12 s"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes_left} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def show_notes(
    book: Book,
    options: Mapping[str, Any],
    preparation: TextPreparation | None,
    terminal: Terminal,
    preset: Preset | None = None,
) -> None:
    """Warn about options and text that the checkpoint cannot follow."""
    for note in reading_notes(book, options, preparation, preset):
        terminal.warn(note)


def show_remarks(book: Book, terminal: Terminal) -> None:
    """Report the parts of a book that are not read, and the faults of its file."""
    if book.left_out:
        terminal.say(f"not read: {'; '.join(book.left_out)}")
    for warning in book.warnings:
        terminal.warn(warning)


def _count(plan: Sequence[TextSegment]) -> str:
    segments = "1 segment" if len(plan) == 1 else f"{len(plan)} segments"
    return f"{segments}, {sum(len(segment.text) for segment in plan)} characters"


def _preview(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= PREVIEW_CHARS else f"{line[: PREVIEW_CHARS - 1]}…"


def with_cover(book: Book, cover: Path | None) -> Book:
    """The book with another cover, if one is given.

    Raises:
        RequestError: neither a JPEG nor a PNG.
    """
    content = None if cover is None else cover.read_bytes()
    if content is not None and not is_picture(content):
        raise RequestError(f"--cover {cover} must be a JPEG or a PNG.")
    return book if content is None else replace(book, cover=content)


def read_aloud(book: Book, options: Mapping[str, Any], to: Destination, source: Source, terminal: Terminal) -> int:
    """Read a book into files, or continue an earlier reading.

    Returns:
        The exit code.

    Raises:
        MossTTSError: what went wrong. Finished segments are kept.
    """
    to.check()
    with work_lock(to.work):
        return _read_aloud(book, options, to, source, terminal)


def _read_aloud(book: Book, options: Mapping[str, Any], to: Destination, source: Source, terminal: Terminal) -> int:
    from moss_tts.books.chapter_files import SpokenBook, write_chapter
    from moss_tts.books.reading import begin_reading, chapter_paths, cut_short, finish_book, speak_book

    started = time.monotonic()
    options = {"long_form_retry_attempts": RETRY_ATTEMPTS, **options}
    ties = long_form_options(options)
    with terminal.loading(source.model):
        kept, seed = begin_reading(to.work, book, options, fingerprint_of(source), force=to.force)
        model = source.load_speech()
    preparation = model.config.text_preparation
    cut = book_cut(options, model.preset, model.processor.count_tokens)
    plans = plan_book(book, options, preparation, cut, model.preset)
    show_notes(book, options, preparation, terminal, model.preset)
    spoken = SpokenBook(
        book, plans, kept, ties, options.get("speed", 1.0), to.voice, mark_of(source.name) if to.mark else None
    )
    paths = chapter_paths(book, to.output, to.suffix)
    if not to.is_one_file:
        to.output.mkdir(exist_ok=True)

    def write_finished(chapter: int) -> None:
        if not to.is_one_file:
            write_chapter(spoken, chapter, paths[chapter])

    with interruptible() as cancel, _progress(plans, kept, terminal) as advance:
        finished = speak_book(
            model,
            book,
            kept,
            options,
            seed,
            cancel=cancel,
            on_spoken=lambda chapter, segment: advance(chapter, segment.metrics.segment_chars),
            on_chapter=write_finished,
        )
    if not finished:
        terminal.warn(f"Interrupted. Finished segments are in {to.work}; run the same command again to continue.")
        return INTERRUPTED
    finish_book(spoken, paths, to.report, to.subtitle_file(), to.subtitles.finder(terminal), to.read_along)
    seconds = sum(sum(spoken.lengths(number)) for number in range(len(plans))) / spoken.sample_rate
    took = in_words(time.monotonic() - started)
    chapters = "1 chapter" if len(plans) == 1 else f"{len(plans)} chapters"
    terminal.say(f"{to.output}: {chapters}, {in_words(seconds)} of audio, made in {took}, seed {seed}")
    show_remarks(book, terminal)
    for segment in cut_short(spoken):
        terminal.warn(segment)
    kept.remove()
    return 0


def fingerprint_of(source: Source) -> str:
    """A fingerprint of this checkpoint, codec, type and adapters."""
    from moss_tts.books.manifest import checkpoint_fingerprint
    from moss_tts.checkpoints.adapters import find_adapters
    from moss_tts.checkpoints.loading import find_checkpoint

    directories = [find_checkpoint(source.model, revision=source.revision).directory]
    if source.codec is not None:
        directories.append(find_checkpoint(source.codec).directory)
    directories += find_adapters(dict(sorted(source.adapters.items()))).values()
    context = None if source.kv_bits is None else f"context {source.kv_bits}"
    precision = " ".join(filter(None, (source.dtype, source.codec_dtype, context)))
    return checkpoint_fingerprint(directories, precision or None)


@contextmanager
def _progress(
    plans: Sequence[Sequence[TextSegment]], kept: KeptSegments, terminal: Terminal
) -> Iterator[Callable[[int, int], None]]:
    """The progress of the reading, in characters; kept segments count as done, but not for the speed."""
    total = sum(len(segment.text) for plan in plans for segment in plan)
    before = sum(
        len(segment.text)
        for chapter, plan in enumerate(plans)
        for number, segment in enumerate(plan)
        if kept.holds(chapter, number)
    )
    done = before

    with terminal.working("reading", done=before / total) as show:

        def advance(chapter: int, characters: int) -> None:
            nonlocal done
            done += characters
            show(done / total, f"chapter {chapter + 1} of {len(plans)}")

        show(done / total, "")
        yield advance
