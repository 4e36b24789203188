"""The work of `moss-tts read`: speak what is missing, write files.

Modules that speak are imported only where they are needed, so that wrong usage is told at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moss_tts.audio.m4b import is_picture
from moss_tts.audio.marking import mark_of
from moss_tts.books.chapters import Book
from moss_tts.books.planning import book_cut, long_form_options, plan_book
from moss_tts.books.voices import ONE_VOICE, BookVoices
from moss_tts.books.work_lock import work_lock
from moss_tts.cli.book_files import Destination
from moss_tts.cli.book_plan import show_notes, show_remarks
from moss_tts.cli.checking import NO_CHECK, WantedCheck
from moss_tts.cli.output_files import interruptible
from moss_tts.cli.progress import duration
from moss_tts.cli.speak_text import INTERRUPTED, Source
from moss_tts.cli.terminal import Terminal
from moss_tts.errors import RequestError
from moss_tts.long_form import TextSegment

if TYPE_CHECKING:
    from moss_tts.books.kept_segments import KeptSegments
    from moss_tts.model import Model

# A failed segment should not end a night's reading.
RETRY_ATTEMPTS = 2
# Misspoken segments that are named at the end.
MOST_NAMED = 10


@dataclass(frozen=True)
class Reading:
    """What `moss-tts read` was asked for.

    Attributes:
        book: the book.
        options: the options of generate.
        to: the files that it is written to.
        source: the source of the model.
        voices: the voices that read.
        check: whether segments are heard, and by what.
    """

    book: Book
    options: Mapping[str, Any]
    to: Destination
    source: Source
    voices: BookVoices = ONE_VOICE
    check: WantedCheck = NO_CHECK

    def plan(self, model: Model, terminal: Terminal) -> list[list[TextSegment]]:
        """The segments of each chapter; warns about what the model cannot follow."""
        preparation = model.config.text_preparation
        cut = book_cut(self.options, model.preset, model.processor.count_tokens)
        show_notes(self.book, self.options, preparation, terminal, model.preset, self.voices)
        return plan_book(self.book, self.options, preparation, cut, model.preset, self.voices)

    def language(self, model: Model) -> str | None:
        """The language of the book, by its English name or as the file spells it."""
        preparation = model.config.text_preparation
        return preparation.language if preparation is not None else self.options.get("language", self.book.language)


def with_cover(book: Book, cover: Path | None) -> Book:
    """The book with another cover, if one is given.

    Raises:
        RequestError: neither a JPEG nor a PNG.
    """
    content = None if cover is None else cover.read_bytes()
    if content is not None and not is_picture(content):
        raise RequestError(f"--cover {cover} must be a JPEG or a PNG.")
    return book if content is None else replace(book, cover=content)


def read_aloud(reading: Reading, terminal: Terminal) -> int:
    """Read a book into files, or continue an earlier reading.

    Returns:
        The exit code.

    Raises:
        MossTTSError: what went wrong. Finished segments are kept.
    """
    reading.to.check()
    reading.check.check()
    with work_lock(reading.to.work):
        return _read_aloud(reading, terminal)


def _read_aloud(reading: Reading, terminal: Terminal) -> int:
    from moss_tts.books.chapter_files import SpokenBook, write_chapter
    from moss_tts.books.reading import begin_reading, chapter_paths, cut_short, finish_book, misspoken, speak_book

    started = time.monotonic()
    reading = replace(reading, options={"long_form_retry_attempts": RETRY_ATTEMPTS, **reading.options})
    book, options, to, source = reading.book, reading.options, reading.to, reading.source
    more = reading.voices.fingerprints() | reading.check.fingerprints()
    with terminal.loading(source.model):
        kept, seed = begin_reading(to.work, book, options, source.fingerprint(), more=more, force=to.force)
        model = source.load_speech()
    check, find = reading.check.loaded(reading.language(model), terminal), to.subtitles.finder(terminal)
    plans = reading.plan(model, terminal)
    spoken = SpokenBook(
        book,
        plans,
        kept,
        long_form_options(options),
        options.get("speed", 1.0),
        to.voice,
        mark_of(source.name) if to.mark else None,
        reading.check.limit,
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
            spoken,
            options,
            seed,
            voices=reading.voices,
            check=check,
            cancel=cancel,
            on_spoken=lambda chapter, segment: advance(chapter, segment.metrics.segment_chars),
            on_chapter=write_finished,
        )
    if not finished:
        terminal.warn(f"Interrupted. Finished segments are in {to.work}; run the same command again to continue.")
        return INTERRUPTED
    finish_book(spoken, paths, to.report, to.subtitle_file(), find, to.read_along)
    seconds = sum(sum(spoken.lengths(number)) for number in range(len(plans))) / spoken.sample_rate
    took = duration(time.monotonic() - started)
    chapters = "1 chapter" if len(plans) == 1 else f"{len(plans)} chapters"
    terminal.say(f"{to.output}: {chapters}, {duration(seconds)} of audio, made in {took}, seed {seed}")
    show_remarks(book, terminal)
    bad = misspoken(spoken)
    for sentence in [*cut_short(spoken), *bad[:MOST_NAMED]]:
        terminal.warn(sentence)
    if len(bad) > MOST_NAMED:
        terminal.warn(f"{len(bad) - MOST_NAMED} more segments were misspoken: {to.times} has them, as --report does.")
    kept.remove()
    return 0


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
