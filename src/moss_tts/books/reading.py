"""Reading a book aloud: chapter by chapter, each a long text of its own, in one voice, and never twice.

Each finished segment is kept on disk before the next one begins. A reading that was killed continues after the last
of them, with the same continuity and the same seeds, so that its audio is the same as without the kill.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from moss_tts.books.chapter_files import (
    SpokenBook,
    chapter_file_name,
    write_book,
    write_chapter,
    write_cues,
    write_times,
)
from moss_tts.books.chapters import Book, name_of_chapter
from moss_tts.books.kept_segments import KeptSegments
from moss_tts.books.manifest import Manifest, option_fingerprints, text_fingerprint
from moss_tts.books.narrators import BookNarrators
from moss_tts.books.planning import TIMES
from moss_tts.books.read_along import write_read_along
from moss_tts.books.report.page import Played, ReportedSegment, write_report
from moss_tts.books.voices import ONE_VOICE, BookVoices
from moss_tts.errors import GenerationError, MossTTSError, RequestError
from moss_tts.long_form import TextSegment
from moss_tts.model import Model
from moss_tts.sampling import draw_seed
from moss_tts.speaking.attempts import CUT_SHORT
from moss_tts.speaking.checking import Check, best
from moss_tts.speaking.narration import Narrator, SpokenSegment
from moss_tts.subtitles.alignment import Find
from moss_tts.text.harmless import one_line

# Options that do not change the audio: the reading continues with other values of them.
NOT_OF_THE_AUDIO = ("seed", "verbose", "stream", "streaming_interval", "long_form", "long_form_parallel")

Options = Mapping[str, Any]
NOTHING_MORE: Options = {}
OnSpoken = Callable[[int, SpokenSegment], None]


def begin_reading(
    directory: Path,
    book: Book,
    options: Options,
    checkpoint: str,
    *,
    more: Options = NOTHING_MORE,
    force: bool = False,
) -> tuple[KeptSegments, int]:
    """Open the work directory of a reading, new or begun.

    Args:
        directory: the directory of the kept segments; it is created if needed.
        book: the book that is read.
        options: the options of generate. Without a seed, a reading that was begun keeps its own.
        checkpoint: fingerprint of what speaks, see manifest.py.
        more: what else decides how the book sounds: the voices, and the check of its segments.
        force: delete the segments of another reading.

    Returns:
        The kept segments, and the seed.

    Raises:
        RequestError: the directory belongs to another text, checkpoint, seed or other options.
    """
    kept = KeptSegments(directory)
    begun = kept.manifest()
    seed = options.get("seed")
    if seed is None:
        seed = begun.seed if begun is not None else draw_seed()
    counted = {name: value for name, value in options.items() if name not in NOT_OF_THE_AUDIO} | dict(more)
    wanted = Manifest(text_fingerprint(book), checkpoint, option_fingerprints(counted), seed)
    differences = [] if begun is None else begun.differences(wanted)
    if differences and not force:
        raise RequestError(
            f"{directory} holds another reading: {'; '.join(differences)}. Use the same text and "
            "options to continue it, choose another output, or start again with force (--force)."
        )
    if begun is None or differences:
        kept.begin(wanted)
    return kept, seed


def speak_book(
    model: Model,
    spoken: SpokenBook,
    options: Options,
    seed: int,
    *,
    voices: BookVoices = ONE_VOICE,
    check: Check | None = None,
    cancel: threading.Event | None = None,
    on_spoken: OnSpoken | None = None,
    on_chapter: Callable[[int], None] | None = None,
) -> bool:
    """Speak the segments that are not kept yet, and keep them.

    Args:
        model: the model that speaks.
        spoken: the book, its plan, and where finished segments go.
        options: the options of generate, without text and seed.
        seed: the seed of the book.
        voices: the voices that its plan names.
        check: hears the segments; those that were misspoken are spoken again.
        cancel: set it from any thread, and the reading ends within a frame; finished segments stay.
        on_spoken: called with the chapter and each segment that was spoken.
        on_chapter: called with each finished chapter, even if it was finished before.

    Returns:
        Whether the whole book is spoken; False if cancelled.

    Raises:
        RequestError: options that a voice cannot have; nothing is spoken then.
        GenerationError: a segment failed all its attempts; finished segments stay.
    """
    narrators = BookNarrators(model, spoken, options, seed, voices, check, cancel)
    narrators.check_voices()
    for number in range(len(spoken.plans)):
        try:
            finished = _speak_chapter(narrators.chapter(number), spoken, number, model.sample_rate, on_spoken)
        except MossTTSError as error:
            raise GenerationError(f"{name_of_chapter(spoken.book, number)}: {error}") from error
        if not finished:
            return False
        if on_chapter is not None:
            on_chapter(number)
    return True


def _speak_chapter(
    narrator: Narrator, spoken: SpokenBook, number: int, sample_rate: int, on_spoken: OnSpoken | None
) -> bool:
    """Speak a chapter; returns whether it is finished."""
    done = 0
    while done < len(narrator.plan) and spoken.kept.holds(number, done):
        narrator.restore(spoken.kept.spoken(number, done))
        done += 1
    for segment in narrator.segments():
        spoken.kept.keep(number, segment, sample_rate)
        done += 1
        if on_spoken is not None:
            on_spoken(number, segment)
    return done == len(narrator.plan)


# ------------------------------------------------------------------------------------------------------- output


def chapter_paths(book: Book, output: Path, suffix: str) -> list[Path]:
    """The file of each chapter: in the directory `output`, or `output` itself if that is an .m4b."""
    if output.suffix.lower() == ".m4b":
        return [output] * len(book.chapters)
    return [output / chapter_file_name(number, chapter.title, suffix) for number, chapter in enumerate(book.chapters)]


def finish_book(
    spoken: SpokenBook,
    paths: list[Path],
    report: Path | None = None,
    subtitles: Path | None = None,
    find: Find | None = None,
    read_along: Path | None = None,
) -> None:
    """Write the files that need all chapters: the .m4b, subtitles, the times, the report.

    Raises:
        AudioError: the .m4b cannot be written.
    """
    is_one_file = paths[0].suffix.lower() == ".m4b"
    if is_one_file:
        write_book(spoken, paths[0])
    else:
        for number, path in enumerate(paths):
            write_chapter(spoken, number, path)
    if subtitles is not None:
        write_cues(spoken, paths, subtitles, find)
    if read_along is not None:
        write_read_along(spoken, paths, read_along)
    write_times(spoken, paths, paths[0].with_suffix(".json") if is_one_file else paths[0].parent / TIMES)
    if report is not None:
        write_report(report, spoken.book.title, reported(spoken, paths), spoken.envelope(), spoken.book.warnings)


def cut_short(spoken: SpokenBook) -> list[str]:
    """Sentences for people: the segments that ended before their text did, in spite of all attempts."""
    found = []
    for number, plan in enumerate(spoken.plans):
        for segment, planned in enumerate(plan):
            reason = spoken.kept.spoken(number, segment).finish_reason
            if reason in CUT_SHORT:
                said = f"{name_of_chapter(spoken.book, number)}, {_quoted(segment, planned)}"
                found.append(f"{said} ended {CUT_SHORT[reason]}.")
    return found


def misspoken(spoken: SpokenBook) -> list[str]:
    """Sentences for people: the segments in which a recogniser heard too many errors, in spite of all attempts."""
    found = []
    for number, plan in enumerate(spoken.plans):
        for segment, planned in enumerate(plan):
            kept = spoken.kept.spoken(number, segment)
            take = best(kept.takes)
            if take is not None and spoken.is_misspoken(kept):
                said = f"{name_of_chapter(spoken.book, number)}, {_quoted(segment, planned)}"
                attempts = "1 attempt" if len(kept.takes) == 1 else f"the best of {len(kept.takes)} attempts"
                found.append(f"{said} was heard as {one_line(take.heard)!r}: {take.word_error:.2f}, {attempts}.")
    return found


def _quoted(number: int, segment: TextSegment) -> str:
    return f"segment {number + 1} ({one_line(segment.text)!r})"


def reported(spoken: SpokenBook, paths: Sequence[Path]) -> list[ReportedSegment]:
    """All segments as the report shows them.

    Args:
        spoken: a finished book.
        paths: the file of each chapter.
    """
    rows: list[ReportedSegment] = []
    start = 0
    for number, chapter in enumerate(spoken.book.chapters):
        if number and paths[number] != paths[number - 1]:
            start = 0
        for segment, length in enumerate(spoken.lengths(number)):
            kept = spoken.kept.spoken(number, segment)
            metrics = replace(kept.metrics, emitted_samples=length, emitted_seconds=length / spoken.sample_rate)
            played = Played(paths[number], start / spoken.sample_rate, (start + length) / spoken.sample_rate)
            planned, is_misspoken = spoken.plans[number][segment], spoken.is_misspoken(kept)
            voice = None if planned.casting is None else str(planned.casting)
            rows.append(
                ReportedSegment(
                    planned.text, metrics, kept.seam, chapter.title, played, voice, kept.takes, is_misspoken
                )
            )
            start += length
    return rows
