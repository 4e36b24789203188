"""Files made of kept segments: the joined audio of chapters, in one file per chapter or one for the book.

A file depends on the kept segments alone, and only one segment at a time is in memory.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moss_tts.atomic import atomic_file
from moss_tts.audio.files import write_pieces
from moss_tts.audio.m4b import ChapterMark, Tags, is_picture, write_m4b
from moss_tts.audio.pcm import Pcm, as_float, as_pcm
from moss_tts.audio.seams import SegmentAudio, join_segments
from moss_tts.books.chapters import Book
from moss_tts.books.kept_segments import KeptSegments
from moss_tts.books.report.envelope import Envelope, EnvelopeBuilder
from moss_tts.long_form import LongFormOptions, TextSegment
from moss_tts.speaking.checking import best
from moss_tts.speaking.narration import SpokenSegment
from moss_tts.subtitles.alignment import Find, with_words
from moss_tts.subtitles.cues import Cue, CueRules
from moss_tts.subtitles.formats import SUBTITLES, write_subtitles

MAX_NAME = 60


@dataclass(frozen=True)
class SpokenBook:
    """A book with some finished chapters.

    Attributes:
        book: the book that is read.
        plans: the segments of each chapter.
        kept: the finished segments.
        options: how their seams are treated.
        speed: how many times as fast as the model speaks they are.
        voice: the name of the registered voice that reads.
        mark: what its files say of how they were made.
        limit: the errors per word above which a segment counts as misspoken; None where nothing was checked.
    """

    book: Book
    plans: Sequence[Sequence[TextSegment]]
    kept: KeptSegments
    options: LongFormOptions
    speed: float = 1.0
    voice: str | None = None
    mark: str | None = None
    limit: float | None = None

    def is_misspoken(self, segment: SpokenSegment) -> bool:
        """Whether a recogniser heard too many errors in a segment."""
        take = best(segment.takes)
        return take is not None and self.limit is not None and take.word_error > self.limit

    def audio(self, chapter: int) -> Iterator[Pcm]:
        """The audio of a finished chapter, one array for each segment, seams treated as asked for."""
        segments = range(len(self.plans[chapter]))
        if not self.options.crossfade_ms and not self.options.trim_silence:
            yield from (self.kept.pcm(chapter, segment) for segment in segments)
            return
        joined = join_segments(
            (self._segment_audio(chapter, segment) for segment in segments),
            self.sample_rate,
            crossfade_ms=self.options.crossfade_ms,
            trim_silence=self.options.trim_silence,
        )
        yield from map(as_pcm, joined)

    def _segment_audio(self, chapter: int, segment: int) -> SegmentAudio:
        return SegmentAudio(as_float(self.kept.pcm(chapter, segment)), *self.plans[chapter][segment].voices)

    def lengths(self, chapter: int) -> list[int]:
        """Samples of each segment as it is in the chapter."""
        return [len(pcm) for pcm in self.audio(chapter)]

    @property
    def sample_rate(self) -> int:
        """Samples per second."""
        return self.kept.sample_rate(0, 0)

    @property
    def channels(self) -> int:
        """Channels of the audio."""
        shape = self.kept.pcm(0, 0).shape
        return 1 if len(shape) == 1 else int(shape[1])

    def cues(self, chapter: int, find: Find | None = None) -> list[Cue]:
        """The segments of a finished chapter with their times in it, and with their words if these can be found."""
        rules = CueRules(self.sample_rate, self.speed, self.options, self.voice)
        cues, start = list[Cue](), 0
        for segment, pcm in zip(self.plans[chapter], self.audio(chapter), strict=True):
            cue = rules.cue(segment, 0, len(pcm))
            cue = cue if find is None else with_words(cue, as_float(pcm), self.sample_rate, find)
            cues.append(cue.shifted(start / self.sample_rate))
            start += len(pcm)
        return cues

    def envelope(self) -> Envelope:
        """The outline of the whole book."""
        builder = EnvelopeBuilder(self.sample_rate)
        for chapter in range(len(self.plans)):
            for pcm in self.audio(chapter):
                builder.add(as_float(pcm))
        return builder.build()


def chapter_file_name(number: int, title: str, suffix: str) -> str:
    """ "03 The Fall.mp3": the number first, so that files sort as they are read."""
    plain = " ".join(re.sub(r"[^\w\s,'’().-]", " ", title).split())[:MAX_NAME].strip(" .")
    return f"{number + 1:02d} {plain}{suffix}" if plain else f"{number + 1:02d}{suffix}"


def write_chapter(spoken: SpokenBook, chapter: int, path: Path) -> None:
    """Write a chapter as wav, flac, mp3 or ogg, by the suffix; the file appears whole or not at all.

    A file that is there already, newer than the chapter's last segment, is left as it is.

    Raises:
        AudioError: a rate or channels that the format does not have, or a place that cannot be written to.
    """
    last = spoken.kept.file(chapter, len(spoken.plans[chapter]) - 1)
    if path.is_file() and path.stat().st_mtime_ns >= last.stat().st_mtime_ns:
        return
    book = spoken.book
    tags = {
        "title": book.chapters[chapter].title,
        "album": book.title,
        "tracknumber": str(chapter + 1),
        "artist": book.author,
        "comment": spoken.mark,
    }
    write_pieces(path, spoken.audio(chapter), spoken.sample_rate, spoken.channels, tags)


def write_book(spoken: SpokenBook, path: Path) -> None:
    """Write all chapters as one .m4b.

    Raises:
        AudioError: it cannot be written, or PyAV is missing.
    """
    marks, start = [], 0
    for number, chapter in enumerate(spoken.book.chapters):
        end = start + sum(spoken.lengths(number))
        marks.append(ChapterMark(chapter.title, start, end))
        start = end
    audio = (pcm for number in range(len(spoken.plans)) for pcm in spoken.audio(number))
    book = spoken.book
    cover = book.cover if book.cover is not None and is_picture(book.cover) else None
    tags = Tags(book.title, book.author, book.language, cover, spoken.mark)
    write_m4b(path, audio, spoken.sample_rate, spoken.channels, marks, tags)


def write_cues(spoken: SpokenBook, files: Sequence[Path], path: Path, find: Find | None = None) -> None:
    """Write subtitles of a finished book.

    Args:
        spoken: a finished book.
        files: the file of each chapter; the same one for all in an .m4b.
        path: the subtitles of an .m4b; only their suffix for files that stand beside those of chapters.
        find: finds words; None leaves them out.

    Raises:
        RequestError: a place that cannot be written to.
    """
    if path.name in SUBTITLES:
        for number, file in enumerate(files):
            write_subtitles(file.with_suffix(path.name), spoken.cues(number, find))
        return
    whole, start = list[Cue](), 0
    for number in range(len(files)):
        whole += [cue.shifted(start / spoken.sample_rate) for cue in spoken.cues(number, find)]
        start += sum(spoken.lengths(number))
    write_subtitles(path, whole)


def write_times(spoken: SpokenBook, files: Sequence[Path], path: Path) -> None:
    """Write when each segment is spoken, as JSON.

    Args:
        spoken: a finished book.
        files: the file of each chapter; the same one for all in an .m4b.
        path: the path of the JSON file.
    """
    rows: list[dict[str, Any]] = []
    start = 0
    for number, chapter in enumerate(spoken.book.chapters):
        if number and files[number] != files[number - 1]:
            start = 0
        for segment, length in enumerate(spoken.lengths(number)):
            times = {"start": start / spoken.sample_rate, "end": (start + length) / spoken.sample_rate}
            rows.append(_row(spoken, number, segment) | {"file": files[number].name, "title": chapter.title} | times)
            start += length
    with atomic_file(path) as part:
        part.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", "utf-8", "surrogateescape")


def _row(spoken: SpokenBook, chapter: int, segment: int) -> dict[str, Any]:
    kept, planned = spoken.kept.spoken(chapter, segment), spoken.plans[chapter][segment]
    seam, take = kept.seam, best(kept.takes)
    return {
        "chapter": chapter + 1,
        "segment": segment + 1,
        "start_offset": planned.start_offset,
        "end_offset": planned.end_offset,
        "text": planned.text,
        "finish_reason": kept.finish_reason,
        "retries": kept.metrics.retry_count,
        "boundary_note": kept.metrics.boundary_note,
        "jump_flagged": seam is not None and seam.jump_flagged,
        "energy_flagged": seam is not None and seam.energy_flagged,
        **({} if planned.casting is None else {"voice": planned.casting.voice}),
        **({} if take is None else {"heard": take.heard, "word_error": round(take.word_error, 4)}),
    }
