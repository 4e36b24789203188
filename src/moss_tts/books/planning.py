"""The segments of a book. Planning needs no model, so a plan is made at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from moss_tts.audio.m4b import BITS_PER_CHANNEL
from moss_tts.books.chapters import Book, errors_name_chapter
from moss_tts.books.voices import ONE_VOICE, BookVoices, parts_of
from moss_tts.long_form import LongFormOptions, TextSegment, normalize_line_ends
from moss_tts.presets import Preset, resolve_preset
from moss_tts.prompts.options import LONG_FORM, check_options
from moss_tts.prompts.planning import BUDGETS, PlannedText, followed, plan_text, respeller_of
from moss_tts.prompts.token_budgets import Count, Cut, cut_of
from moss_tts.speaking.runaway import usual_seconds
from moss_tts.text.boundaries import BoundaryKind
from moss_tts.text.cast import Casting
from moss_tts.text.lexicon import Respeller
from moss_tts.text.preparation import TextPreparation
from moss_tts.text.voice_marks import Stretch

Options = Mapping[str, Any]

# The file with the times of segments, beside the files of chapters; it is written last.
TIMES = "segments.json"
# Bytes of a file per byte of its 16-bit samples, measured on speech at 24 kHz, mono.
SHARES = {".wav": 1.0, ".flac": 0.5, ".mp3": 0.14, ".ogg": 0.12}


def long_form_options(options: Options) -> LongFormOptions:
    """The long_form_* options among the options of generate.

    Raises:
        RequestError: a bad value.
    """
    checked = check_options(options)
    return LongFormOptions(**{name.removeprefix("long_form_"): checked[name] for name in LONG_FORM if name in checked})


def book_cut(options: Options, preset: Preset, count: Count | None) -> Cut:
    """How a variant cuts chapters, unless options say otherwise; `count` counts tokens.

    Raises:
        RequestError: a bad option.
    """
    checked = check_options(options)
    chosen = resolve_preset(checked["preset"]) if "preset" in checked else preset
    return cut_of(long_form_options(options), not checked.keys().isdisjoint(BUDGETS), chosen.pieces, count)


def plan_book(
    book: Book,
    options: Options,
    preparation: TextPreparation | None = None,
    cut: Cut | None = None,
    preset: Preset | None = None,
    voices: BookVoices = ONE_VOICE,
) -> list[list[TextSegment]]:
    """The segments of each chapter; needs no model.

    Args:
        book: what is read.
        options: the options of generate.
        preparation: how the checkpoint that reads wants its texts.
        cut: cuts chapters, by `book_cut`; None: by characters, as options say.
        preset: the variant of the checkpoint, if it is known.
        voices: the voices that read.

    Raises:
        RequestError: a bad option, or a chapter without a letter or digit.
    """
    chosen = long_form_options(options)

    @cache
    def respell(casting: Casting | None) -> Respeller | None:
        return _respell(voices.options(options, casting), preset, preparation)

    def plan(stretch: Stretch) -> PlannedText:
        return plan_text(stretch.text, chosen, preparation, cut, respell(stretch.casting))

    plans = []
    for number in range(len(book.chapters)):
        parts = parts_of(book, number, voices.cast)
        with errors_name_chapter(book, number):
            plans.append(_in_chapter(parts, plan))
    return plans


def _in_chapter(parts: Sequence[Stretch], plan: Callable[[Stretch], PlannedText]) -> list[TextSegment]:
    """The segments of the parts of a chapter; their offsets count in the text without marks."""
    segments, start = list[TextSegment](), 0
    for part in parts:
        planned = plan(part)
        if part is not parts[-1]:
            end = BoundaryKind.PARAGRAPH if part.ends_paragraph else BoundaryKind.TURN
            planned = replace(planned, segments=(*planned.segments[:-1], replace(planned.segments[-1], boundary=end)))
        segments += [
            replace(
                segment,
                start_offset=segment.start_offset + start,
                end_offset=segment.end_offset + start,
                casting=part.casting,
            )
            for segment in planned.segments
        ]
        start += len(normalize_line_ends(planned.text or "")) + (2 if part.ends_paragraph else 1)
    return segments


def _respell(options: Options, preset: Preset | None, preparation: TextPreparation | None) -> Respeller | None:
    """What replaces the words of the options' lexicons; a variant that is not known is taken to read IPA."""
    checked = check_options(options)
    chosen = resolve_preset(checked.get("preset", "moss_tts")) if preset is None or "preset" in checked else preset
    return respeller_of(checked, chosen, preparation)


def reading_notes(
    book: Book,
    options: Options,
    preparation: TextPreparation | None,
    preset: Preset | None = None,
    voices: BookVoices = ONE_VOICE,
) -> list[str]:
    """Sentences for people about options and parts of the text that the checkpoint cannot follow."""
    texts = defaultdict[Casting | None, list[str]](list)
    for number in range(len(book.chapters)):
        for part in parts_of(book, number, voices.cast):
            texts[part.casting].append(part.text)
    notes: list[str] = []
    for casting, parts in texts.items():
        given = voices.options(options, casting)
        respell = _respell(given, preset, preparation)
        notes += followed(check_options(given), preparation)[1]
        notes += plan_text("\n\n".join(parts), long_form_options(options), preparation, None, respell).notes
    return list(dict.fromkeys(notes))


@dataclass(frozen=True)
class Estimate:
    """A rough estimate of a reading.

    Attributes:
        seconds: seconds of audio.
        nbytes: bytes of the files.
        work_bytes: additional bytes that the reading takes until it is finished.
    """

    seconds: float
    nbytes: float
    work_bytes: float


def estimate(
    plans: Sequence[Sequence[TextSegment]], suffix: str, sample_rate: int, channels: int, speed: float = 1.0
) -> Estimate:
    """How long the planned segments will be, and how large as files of a format.

    Args:
        plans: the segments of each chapter.
        suffix: the suffix of the files.
        sample_rate: the sample rate, in Hz.
        channels: the channels of the audio.
        speed: how many times as fast as the model speaks it is.
    """
    seconds = sum(
        segment.silence_before + usual_seconds(segment.text) + segment.silence_after
        for plan in plans
        for segment in plan
    )
    seconds /= speed
    pcm = 2 * sample_rate * channels * seconds
    is_book = suffix == ".m4b"
    return Estimate(seconds, BITS_PER_CHANNEL / 8 * channels * seconds if is_book else SHARES[suffix] * pcm, pcm)
