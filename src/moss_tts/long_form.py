"""Long texts: their options, the plan of segments, what one segment hands to the next, and what is measured of each.

Pure: no model, no generation. Seams between segments are seams.py's; its names are importable from here.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

import numpy as np

from moss_tts.audio.codes import CodeMatrix
from moss_tts.audio.seams import BoundaryMetrics, BoundaryNote, evaluate_segment_boundary, join_segments
from moss_tts.errors import RequestError
from moss_tts.sampling import mixed_seed
from moss_tts.text.boundaries import (
    Boundaries,
    BoundaryKind,
    find_boundaries,
    joins_characters,
)
from moss_tts.text.cast import Casting
from moss_tts.text.tags import SPEAKER_TAG

__all__ = [
    "BoundaryKind",
    "BoundaryMetrics",
    "ContinuityState",
    "LongFormOptions",
    "SegmentMetrics",
    "TextSegment",
    "advance_continuity_state",
    "evaluate_segment_boundary",
    "join_segments",
    "normalize_line_ends",
    "plan_text_segments",
    "retry_seed",
]

# Kinds of boundaries to cut at, best first; a hard cut is the last resort.
_SOFT_KINDS = (
    BoundaryKind.TURN,
    BoundaryKind.PARAGRAPH,
    BoundaryKind.SENTENCE,
    BoundaryKind.CLAUSE,
    BoundaryKind.WHITESPACE,
)
Continuity = Literal["voice", "continue", "none"]
CONTINUITIES: Final = get_args(Continuity)


@dataclass(frozen=True)
class LongFormOptions:
    """Each field is the keyword long_form_<field> of generate.

    Attributes:
        min_chars: the least number of characters in a segment, if the text has a boundary to end it.
        target_chars: the number of characters that a segment should have.
        max_chars: the largest number of characters in a segment.
        prefix_audio_seconds: seconds of a segment's audio that the next one is given; 0 sets no limit in seconds.
        prefix_audio_max_tokens: the same limit in frames. The smaller one applies; if both are 0, there is no prefix.
        prefix_text_chars: how many characters of the text before a segment it is given.
        retry_attempts: how often a failed segment is repeated.
        continuity: "voice" carries how the voice sounds; "continue" goes on from the previous segment, its
            text and codes as the prompt; "none" speaks each segment as if it were alone.
        crossfade_ms: how long segments overlap at seams.
        trim_silence: whether long silence at seams is shortened.
        parallel: segments spoken at the same time; if more than 1, no segment may depend on the one before.
    """

    min_chars: int = 160
    target_chars: int = 320
    max_chars: int = 520
    prefix_audio_seconds: float = 2.0
    prefix_audio_max_tokens: int = 25
    prefix_text_chars: int = 0
    retry_attempts: int = 0
    continuity: Continuity = "voice"
    crossfade_ms: float = 0.0
    trim_silence: bool = False
    parallel: int = 1

    def __post_init__(self) -> None:
        check_char_budgets(self.min_chars, self.target_chars, self.max_chars)
        for name in ("prefix_audio_seconds", "prefix_audio_max_tokens", "prefix_text_chars", "retry_attempts"):
            self._check_not_negative(name)
        self._check_not_negative("crossfade_ms")
        if self.continuity not in CONTINUITIES:
            raise RequestError(
                f"long_form_continuity must be one of {', '.join(CONTINUITIES)}, got {self.continuity!r}"
            )

        if self.parallel > 1:
            self._check_independent()

    def _check_independent(self) -> None:
        if self.continuity == "none":
            return
        if self.continuity != "voice":
            raise RequestError(
                f"long_form_parallel = {self.parallel} needs long_form_continuity = 'voice', got {self.continuity!r}: "
                "a segment that continues another has to wait for it"
            )
        for name in ("prefix_audio_seconds", "prefix_audio_max_tokens", "prefix_text_chars"):
            if getattr(self, name):
                raise RequestError(
                    f"long_form_parallel = {self.parallel} needs long_form_{name} = 0, got {getattr(self, name)!r}: "
                    "a segment with a prefix has to wait for the segment before it"
                )

    def _check_not_negative(self, name: str) -> None:
        value = getattr(self, name)
        if value < 0:
            raise RequestError(f"long_form_{name} must be at least 0, got {value!r}")

    def prefix_frames(self, frame_rate: float) -> int:
        """Frames of the previous segment that condition the next; 0 for none."""
        if self.continuity == "none":
            return 0
        limits = [self.prefix_audio_max_tokens]
        if self.prefix_audio_seconds > 0:
            limits.append(max(1, round(self.prefix_audio_seconds * frame_rate)))
        return min((limit for limit in limits if limit > 0), default=0)


def check_char_budgets(min_chars: int, target_chars: int, max_chars: int) -> None:
    """Refuse budgets that contradict each other.

    Raises:
        RequestError: unless 0 < min <= target <= max.
    """
    if not 0 < min_chars <= target_chars <= max_chars:
        raise RequestError(
            "The lengths of segments must be 0 < long_form_min_chars <= long_form_target_chars <= long_form_max_chars, "
            f"got {min_chars}, {target_chars} and {max_chars}"
        )


@dataclass(frozen=True)
class TextSegment:
    """A piece of a text, as written.

    Attributes:
        text: text[start_offset:end_offset] of the normalised text; no white space at its ends.
        start_offset: where it begins, in characters of the normalised text.
        end_offset: the offset after the last character.
        speaker: the speaker's tag at its start, "[S1]"; None if no tag came before.
        boundary: what ended it.
        silence_before: seconds of silence before its audio.
        silence_after: seconds of silence after its audio.
        written: its text as the caller wrote it, if a lexicon has changed it.
        casting: the voice that speaks it; None: the voice of the request.
    """

    text: str
    start_offset: int
    end_offset: int
    speaker: str | None
    boundary: BoundaryKind
    silence_before: float = 0.0
    silence_after: float = 0.0
    written: str | None = None
    casting: Casting | None = None

    @property
    def spoken_text(self) -> str:
        """The text that the model is given: a turn that began earlier repeats its tag, which no limit counts."""
        if self.speaker is None or self.text.startswith(self.speaker):
            return self.text
        return f"{self.speaker} {self.text}"

    @property
    def has_silence(self) -> bool:
        """Whether there is silence around its audio."""
        return self.silence_before > 0 or self.silence_after > 0

    @property
    def last_speaker(self) -> str | None:
        """The speaker's tag at its end."""
        return (SPEAKER_TAG.findall(self.text) or [self.speaker])[-1]

    @property
    def voices(self) -> tuple[Hashable, Hashable]:
        """What tells the voices apart that are heard at its start and at its end: the casting, and a speaker's tag."""
        return (self.casting, self.speaker), (self.casting, self.last_speaker)


def normalize_line_ends(text: str) -> str:
    """The text that offsets of a plan count in: CRLF as LF, no white space at the ends."""
    return text.replace("\r\n", "\n").strip()


def plan_text_segments(
    text: str, min_chars: int = 160, target_chars: int = 320, max_chars: int = 520
) -> list[TextSegment]:
    """Cut a text into segments that can be spoken one by one.

    Text within max_chars is one segment. Otherwise a segment ends at the best kind of boundary that lies
    min_chars..max_chars behind its start, of that kind at the one nearest target_chars, the later of two.
    A turn of a dialogue that fits max_chars is never split, even if the segment before it gets short.
    Markup, a wide gap or a wordless end of the text can leave no place to cut: then a segment is shorter than
    min_chars or longer than max_chars.

    Returns:
        Segments in order, which hold every character of the text that is not white space between them.
    """
    check_char_budgets(min_chars, target_chars, max_chars)
    normalized = normalize_line_ends(text)
    return list(_segments(normalized, min_chars, target_chars, max_chars))


def _segments(text: str, min_chars: int, target_chars: int, max_chars: int) -> Iterator[TextSegment]:
    boundaries = find_boundaries(text)
    start = 0
    while start < len(text):
        if len(text) - start <= max_chars:
            end, kind = len(text), BoundaryKind.END
        else:
            window = _Window(start, start + min_chars, start + target_chars, start + max_chars)
            end, kind = _choose_cut(boundaries, window)
        yield TextSegment(text[start:end], start, end, boundaries.speaker_at(start), kind)
        start = boundaries.skip_space(end)


@dataclass(frozen=True)
class _Window:
    """Where the segment that begins at start may end: low..high, best at target."""

    start: int
    low: int
    target: int
    high: int


def _choose_cut(boundaries: Boundaries, window: _Window) -> tuple[int, BoundaryKind]:
    for kind in _SOFT_KINDS:
        cut = boundaries.nearest(kind, window.low, window.high, window.target)
        if cut is None and kind is BoundaryKind.TURN:
            cut = _before_whole_turn(boundaries, window)
        if cut is not None:
            return cut, kind
    return _hard_cut(boundaries, window)


def _before_whole_turn(boundaries: Boundaries, window: _Window) -> int | None:
    """The start of the turn that spans the whole window, if it fits into a segment of its own."""
    cut = boundaries.last_before(BoundaryKind.TURN, window.low, window.start)
    if cut is None:
        return None
    longest = boundaries.skip_space(cut) + window.high - window.start
    return cut if boundaries.turn_end(cut) <= longest else None


def _hard_cut(boundaries: Boundaries, window: _Window) -> tuple[int, BoundaryKind]:
    reach = max(window.target - window.low, window.high - window.target)
    for distance in range(reach + 1):
        for cut in (window.target + distance, window.target - distance):
            if window.low <= cut <= window.high and boundaries.may_cut(cut):
                return cut, BoundaryKind.HARD
    return _outside(boundaries, window)


def _outside(boundaries: Boundaries, window: _Window) -> tuple[int, BoundaryKind]:
    """A cut outside of a window that may not be cut: before it, or else right after it."""
    for kind in _SOFT_KINDS:
        cut = boundaries.last_before(kind, window.low, window.start)
        if cut is not None:
            return cut, kind
    length = len(boundaries.text)
    cut = next((at for at in range(window.high + 1, length) if boundaries.may_cut(at)), length)
    return cut, BoundaryKind.END if cut == length else BoundaryKind.HARD


@dataclass(frozen=True, eq=False)
class ContinuityState:
    """What the segments spoken so far hand to the next one. Codes, never waveforms: nothing is re-encoded.

    Attributes:
        voice: codes (F, Q) of the first segment, the voice where the user gave none.
        voice_of: the segments that these are the codes of.
        previous: the last segment; with its codes the prompt of one that continues it.
        previous_codes: its codes (F, Q), whole.
        prefix_codes: its last frames (F, Q), as many as the options allow; None for none.
        prefix_text: its last words, for conditioning only.
    """

    voice: CodeMatrix | None = None
    voice_of: tuple[TextSegment, ...] = ()
    previous: TextSegment | None = None
    previous_codes: CodeMatrix | None = None
    prefix_codes: CodeMatrix | None = None
    prefix_text: str = ""


def advance_continuity_state(
    state: ContinuityState,
    segment: TextSegment,
    codes: CodeMatrix,
    options: LongFormOptions,
    frame_rate: float,
    least_voice: float = 0.0,
) -> ContinuityState:
    """The state after a segment was spoken as codes (F, Q), F > 0, at frame_rate frames a second.

    The voice takes in further segments until it has `least_voice` seconds.
    """
    assert len(codes), "a segment without frames was not spoken"
    frames = options.prefix_frames(frame_rate)
    voice, voice_of = state.voice, state.voice_of
    if voice is None or len(voice) < least_voice * frame_rate:
        voice = codes if voice is None else np.concatenate([voice, codes])
        voice_of = (*voice_of, segment)
    return replace(
        state,
        voice=voice,
        voice_of=voice_of,
        previous=segment,
        previous_codes=codes,
        prefix_codes=codes[-frames:] if frames else None,
        prefix_text=_last_words(segment.text, 0 if options.continuity == "none" else options.prefix_text_chars),
    )


def _last_words(text: str, chars: int) -> str:
    """The end of a text: at most `chars` characters, beginning with a word where there is one."""
    if chars >= len(text):
        return text
    start = len(text) - chars
    cuts = [at for at in range(start, len(text)) if not joins_characters(text, at)]
    words = [at for at in cuts if text[at - 1].isspace()]
    return text[(words or cuts or [len(text)])[0] :].strip()


def retry_seed(seed: int, segment_idx: int, attempt: int) -> int:
    """The seed of one attempt at one segment, below 2**32.

    The first attempt at the first segment has the request's own seed, so a text of one segment sounds as it
    does without long form. All others are mixed: neighbouring seeds, segments and attempts share nothing.
    """
    if segment_idx == 0 and attempt == 0:
        return seed
    return mixed_seed(seed, segment_idx, attempt)


@dataclass(frozen=True)
class SegmentMetrics:
    """What one segment was and what it took.

    Attributes:
        segment_idx: number in the plan.
        segment_chars: characters of its text, a repeated speaker tag not counted.
        start_offset: where it begins in the normalised text.
        end_offset: the offset after its last character.
        retry_count: attempts after the first one.
        prompt_tokens_generated: frames made.
        emitted_samples: per channel.
        emitted_seconds: seconds of audio.
        segment_latency_seconds: seconds from its start to its last sample, with failed attempts.
        segment_peak_memory_gb: peak while it was made.
        total_peak_memory_gb: peak of the request so far.
        prefix_audio_samples: audio of the prefix that conditioned it.
        prefix_text_chars: characters of the text that conditioned it.
        boundary_note: how it joins the segment before it.
    """

    segment_idx: int
    segment_chars: int
    start_offset: int
    end_offset: int
    retry_count: int
    prompt_tokens_generated: int
    emitted_samples: int
    emitted_seconds: float
    segment_latency_seconds: float
    segment_peak_memory_gb: float
    total_peak_memory_gb: float
    prefix_audio_samples: int
    prefix_text_chars: int
    boundary_note: BoundaryNote
