"""Reading a book aloud: chapter by chapter, each a long text of its own, in one voice, and never twice.

Each finished segment is kept on disk before the next one begins. A reading that was killed continues after the last
of them, with the same continuity and the same seeds, so that its audio is the same as without the kill.
"""

from __future__ import annotations

import hashlib
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
from moss_tts.books.chapters import Book
from moss_tts.books.kept_segments import KeptSegments
from moss_tts.books.manifest import Manifest, option_fingerprints, text_fingerprint
from moss_tts.books.planning import TIMES, name_of_chapter
from moss_tts.books.read_along import write_read_along
from moss_tts.books.report.page import Played, ReportedSegment, write_report
from moss_tts.errors import GenerationError, MossTTSError, RequestError
from moss_tts.model import Model
from moss_tts.result import shortened
from moss_tts.sampling import MAX_SEED, draw_seed
from moss_tts.speaking.attempts import CUT_SHORT
from moss_tts.speaking.narration import SpokenSegment
from moss_tts.subtitles.alignment import Find
from moss_tts.text.tags import SPEAKER_TAG

# Options that choose the voice; without any, the first segment of the book sets it.
VOICE_OPTIONS = ("ref_audio", "reference", "dialogue_speakers", "mode")
# Options that do not change the audio: the reading continues with other values of them.
NOT_OF_THE_AUDIO = ("seed", "verbose", "stream", "streaming_interval", "long_form", "long_form_parallel")

Options = Mapping[str, Any]
OnSpoken = Callable[[int, SpokenSegment], None]


def begin_reading(
    directory: Path, book: Book, options: Options, checkpoint: str, *, force: bool = False
) -> tuple[KeptSegments, int]:
    """Open the work directory of a reading, new or begun.

    Args:
        directory: the directory of the kept segments; it is created if needed.
        book: the book that is read.
        options: the options of generate. Without a seed, a reading that was begun keeps its own.
        checkpoint: fingerprint of what speaks, see manifest.py.
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
    counted = {name: value for name, value in options.items() if name not in NOT_OF_THE_AUDIO}
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
    book: Book,
    kept: KeptSegments,
    options: Options,
    seed: int,
    *,
    cancel: threading.Event | None = None,
    on_spoken: OnSpoken | None = None,
    on_chapter: Callable[[int], None] | None = None,
) -> bool:
    """Speak the segments that are not kept yet, and keep them.

    Args:
        model: the model that speaks.
        book: the book that is read.
        kept: where finished segments go.
        options: the options of generate, without text and seed.
        seed: the seed of the book.
        cancel: set it from any thread, and the reading ends within a frame; finished segments stay.
        on_spoken: called with the chapter and each segment that was spoken.
        on_chapter: called with each finished chapter, even if it was finished before.

    Returns:
        Whether the whole book is spoken; False if cancelled.

    Raises:
        GenerationError: a segment failed all its attempts; finished segments stay.
    """
    for number in range(len(book.chapters)):
        try:
            finished = _speak_chapter(model, book, number, kept, options, seed, cancel, on_spoken)
        except MossTTSError as error:
            raise GenerationError(f"{name_of_chapter(book, number)}: {error}") from error
        if not finished:
            return False
        if on_chapter is not None:
            on_chapter(number)
    return True


def _speak_chapter(
    model: Model,
    book: Book,
    number: int,
    kept: KeptSegments,
    options: Options,
    seed: int,
    cancel: threading.Event | None,
    on_spoken: OnSpoken | None,
) -> bool:
    """Speak a chapter; returns whether it is finished."""
    text = book.chapters[number].text
    given = {name: value for name, value in options.items() if name not in ("text", "seed")}
    given |= {"text": text, "seed": chapter_seed(seed, number), "long_form": True, **_voice(given, text, number, kept)}
    narrator = model.narrator(model.request(given), cancel=cancel)
    done = 0
    while done < len(narrator.plan) and kept.holds(number, done):
        narrator.restore(kept.spoken(number, done))
        done += 1
    for spoken in narrator.segments():
        kept.keep(number, spoken, model.sample_rate)
        done += 1
        if on_spoken is not None:
            on_spoken(number, spoken)
    return done == len(narrator.plan)


def chapter_seed(seed: int, chapter: int) -> int:
    """The seed of a chapter; the first has the book's, so that a book of one chapter is a long text."""
    if chapter == 0:
        return seed
    key = f"chapter/{seed}/{chapter}".encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest()) % (MAX_SEED + 1)


def _voice(options: Options, text: str, chapter: int, kept: KeptSegments) -> dict[str, Any]:
    """The voice of the book as a reference, if the caller gave none."""
    given = any(options.get(name) is not None for name in VOICE_OPTIONS)
    if given or chapter == 0 or SPEAKER_TAG.search(text):
        return {}
    codes = kept.spoken(0, 0).codes
    return {"reference": codes} if len(codes) else {}


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
                why = {"length": "at its limit", "silence": "because the model stayed silent"}[reason]
                text = shortened(planned.text)
                found.append(f"{name_of_chapter(spoken.book, number)}, segment {segment + 1} ({text!r}) ended {why}.")
    return found


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
            rows.append(ReportedSegment(spoken.plans[number][segment].text, metrics, kept.seam, chapter.title, played))
            start += length
    return rows
