"""The segments in which a text is spoken: whole, as long_form options cut it, or as the checkpoint wants its texts."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from moss_tts.errors import RequestError, first_of
from moss_tts.long_form import Continuity, LongFormOptions, TextSegment, normalize_line_ends
from moss_tts.presets import Preset
from moss_tts.prompts.messages import Message, UserMessage
from moss_tts.prompts.token_budgets import Cut, cut_of
from moss_tts.text.boundaries import BoundaryKind
from moss_tts.text.lexicon import Lexicon, Respeller, Respelt
from moss_tts.text.preparation import FOLLOWABLE, LANGUAGE_NAMES, TextPreparation
from moss_tts.text.prepared import Pause, PreparedText, prepare
from moss_tts.text.tags import PAUSE, has_words, tags_of

# The most seconds of silence between two segments, however many pauses there are.
MOST_SILENCE = 60.0
BUDGETS = ("long_form_min_chars", "long_form_target_chars", "long_form_max_chars")
_PAUSE_LINE = re.compile(rf"^[^\S\n]*{PAUSE.pattern}[^\S\n]*$", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True)
class PlannedText:
    """A text and how it is spoken.

    Attributes:
        text: the text that the model is given.
        long_form: how its segments are tied; None for a text that is spoken in one piece.
        segments: the segments of a long text; none if it is spoken in one piece.
        notes: sentences for people about what is left out or spelt otherwise.
        written: the text as the caller wrote it, if a lexicon has changed it.
    """

    text: str | None
    long_form: LongFormOptions | None = None
    segments: tuple[TextSegment, ...] = ()
    notes: tuple[str, ...] = ()
    written: str | None = None


def plan_text(
    text: str | None,
    options: LongFormOptions | None,
    preparation: TextPreparation | None,
    cut: Cut | None = None,
    respell: Respeller | None = None,
) -> PlannedText:
    """Settle how a text is spoken.

    Args:
        text: the text as the caller wrote it; None if another field carries the prompt.
        options: the options of a long text; None asks for one piece.
        preparation: how the checkpoint wants its texts; its segments replace those of the options.
        cut: cuts a long text; None: by characters, as options say.
        respell: replaces words of the text before it is cut.

    Raises:
        RequestError: there is nothing to speak.
    """
    if text is None:
        return PlannedText(None)
    check_words("text", text)
    if respell is not None:
        respelt = respell(normalize_line_ends(text))
        planned = plan_text(respelt.text if respelt.changes else text, options, preparation, cut)
        return _as_written(planned, respelt, preparation is None)
    if preparation is None:
        segments, notes = _bounded(() if options is None else plan_with_pauses(text, options, cut))
        return PlannedText(text, options, segments, notes)
    prepared = prepare(text, preparation)
    segments, notes = _bounded(plan_prepared(prepared))
    check_words("text", prepared.text)
    notes = prepared.notes + notes
    if options is None and len(segments) == 1 and not segments[0].has_silence:
        return PlannedText(prepared.text, notes=notes)
    ties = options or LongFormOptions(continuity=usual_continuity(preparation))
    return PlannedText(prepared.text, ties, segments, notes)


def _as_written(planned: PlannedText, respelt: Respelt, knows_places: bool) -> PlannedText:
    """A planned text that remembers what the caller wrote, where that is known of its segments."""
    if not respelt.changes:
        return replace(planned, notes=planned.notes + respelt.notes)
    segments = planned.segments
    if knows_places:
        segments = tuple(
            replace(part, written=respelt.written(part.start_offset, part.end_offset)) for part in segments
        )
    whole = respelt.written(0, len(respelt.text))
    return replace(planned, segments=segments, notes=planned.notes + respelt.notes, written=whole)


def respeller_of(given: Mapping[str, Any], preset: Preset, preparation: TextPreparation | None) -> Respeller | None:
    """What replaces the words of the lexicons among checked options: the voice's, then the caller's."""
    lexicons = [given["voice"].lexicon] if "voice" in given else []
    lexicons += [given["lexicon"]] if "lexicon" in given else []
    joined = Lexicon.joined(filter(None, lexicons))
    if not joined.entries:
        return None
    usual = None if preparation is None else LANGUAGE_NAMES[preparation.language][-1]
    return joined.respeller(given.get("language", usual), preset.reads_ipa and preparation is None)


def respelt_messages(messages: tuple[Message, ...], respell: Respeller | None) -> tuple[Message, ...]:
    """Messages with the words of a lexicon replaced in the texts that are to be spoken."""
    if respell is None:
        return messages
    return tuple(
        replace(message, text=respell(message.text).text)
        if isinstance(message, UserMessage) and message.text is not None
        else message
        for message in messages
    )


def unread_in(messages: tuple[Message, ...], respell: Respeller | None) -> tuple[str, ...]:
    """A sentence on words of a lexicon that messages have, and that are spoken as they are written."""
    texts = [message.text for message in messages if isinstance(message, UserMessage) and message.text is not None]
    return () if respell is None else respell("\n".join(texts)).notes


def tags_left_out(planned: PlannedText, clean_up: Callable[[str], str]) -> tuple[str, ...]:
    """A sentence on the tags in a text that its clean-up leaves out, if there are any."""
    spoken = " ".join(segment.text for segment in planned.segments) or planned.text or ""
    tags = tags_of(spoken)
    # A clean-up leaves out all of them or none.
    lost = tags if tags and not clean_up(tags[0]) else []
    return (f"This model does not act on tags; left out: {first_of(lost)}.",) if lost else ()


def _bounded(segments: tuple[TextSegment, ...]) -> tuple[tuple[TextSegment, ...], tuple[str, ...]]:
    """Segments with bounded silence, so that a number in a text cannot fill the memory; and a note where it was cut."""
    bounded = tuple(
        replace(
            segment,
            silence_before=min(segment.silence_before, MOST_SILENCE),
            silence_after=min(segment.silence_after, MOST_SILENCE),
        )
        for segment in segments
    )
    return bounded, () if bounded == segments else (
        f"A pause lasts at most {MOST_SILENCE:g} s, so longer ones were shortened.",
    )


def usual_ties(preset: Preset, preparation: TextPreparation | None) -> dict[str, Any]:
    """The default options of a long text: how its segments are linked."""
    alone = {"prefix_audio_seconds": 0.0, "prefix_audio_max_tokens": 0}
    return {"continuity": usual_continuity(preparation)} | ({} if preset.pieces is None else alone)


def usual_continuity(preparation: TextPreparation | None) -> Continuity:
    """The default link of segments: the first one's voice, unless the checkpoint follows no reference."""
    return "voice" if preparation is None or "reference" in preparation.follows else "none"


def followed(given: Mapping[str, Any], preparation: TextPreparation | None) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The options of a request that a checkpoint follows, and a sentence for each that is left out.

    A recording that speech continues is the prompt itself, so it stays.
    """
    if preparation is None:
        return dict(given), ()
    ignored = {name for what, names in FOLLOWABLE.items() if what not in preparation.follows for name in names}
    if given.get("mode") == "continuation":
        ignored -= set(FOLLOWABLE["reference"])
    notes = [
        f"This model does not take on voices, so {given[name].name} was left out."
        if name == "voice"
        else f"This voice does not follow {name}, so it was left out."
        for name in given
        if name in ignored
    ]
    language = str(given.get("language", preparation.language)).strip().lower().split("-")[0]
    if language not in LANGUAGE_NAMES[preparation.language]:
        spoken = LANGUAGE_NAMES[preparation.language][-1].capitalize()
        notes.append(f"This voice speaks {spoken} only, so language {given['language']!r} was left out.")
    notes += [
        f"This voice chooses the length of segments itself, so {name} was left out."
        for name in BUDGETS
        if name in given
    ]
    return {name: value for name, value in given.items() if name not in ignored | {"language", *BUDGETS}}, tuple(notes)


def check_words(name: str, text: str) -> None:
    """Refuse a text without a letter or a digit.

    Raises:
        RequestError: it has neither.
    """
    if not has_words(text):
        raise RequestError(f"{name} has no letter and no digit, so there is nothing to speak: {text.strip()[:40]!r}")


def plan_with_pauses(text: str, options: LongFormOptions, cut: Cut | None = None) -> tuple[TextSegment, ...]:
    """The segments of a long text; a pause tag in a line of its own, "[pause 2s]", is silence between two of them.

    Pause tags inside a line go to the model, as the rest of the line. A stretch without a letter or digit is left out.
    """
    normalized = normalize_line_ends(text)
    cut = cut or cut_of(options, in_chars=True)
    segments: list[TextSegment] = []
    start, silence = 0, 0.0
    for pause in [*_PAUSE_LINE.finditer(normalized), None]:
        end = len(normalized) if pause is None else pause.start()
        planned = _stretch(normalized, start, end, cut, segments[-1].last_speaker if segments else None)
        if planned:
            planned[0] = replace(planned[0], silence_before=0.0 if segments else silence)
            segments += planned
            silence = 0.0
        if pause is None:
            break
        start, silence = pause.end(), silence + float(pause[1])
        if segments:
            segments[-1] = replace(segments[-1], silence_after=silence)
    return tuple(segments)


def _stretch(text: str, start: int, end: int, cut: Cut, speaker: str | None) -> list[TextSegment]:
    """The segments of text[start:end] that have words; `speaker` speaks until a tag names another."""
    planned = cut(text[start:end])
    shift = start + len(text[start:end]) - len(text[start:end].lstrip())
    last = BoundaryKind.END if end == len(text) else BoundaryKind.PARAGRAPH
    return [
        replace(
            segment,
            start_offset=segment.start_offset + shift,
            end_offset=segment.end_offset + shift,
            speaker=segment.speaker or speaker,
            boundary=last if segment.boundary is BoundaryKind.END else segment.boundary,
        )
        for segment in planned
        if has_words(segment.text)
    ]


def plan_prepared(prepared: PreparedText) -> tuple[TextSegment, ...]:
    """The segments of a prepared text; its pauses are silence between them. Offsets count in the prepared text."""
    segments: list[TextSegment] = []
    start, silence = 0, 0.0
    for part in prepared.parts:
        match part:
            case Pause(seconds) if segments:
                segments[-1] = replace(segments[-1], silence_after=segments[-1].silence_after + seconds)
            case Pause(seconds):
                silence += seconds
            case str():
                end = start + len(part)
                segments.append(TextSegment(part, start, end, None, BoundaryKind.SENTENCE, silence))
                start, silence = end + 1, 0.0
    return (*segments[:-1], *(replace(last, boundary=BoundaryKind.END) for last in segments[-1:]))
