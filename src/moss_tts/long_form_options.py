"""The long_form_* options of a request: how a long text is cut, and how its segments are tied."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

from moss_tts.errors import RequestError

Continuity = Literal["voice", "continue"]
CONTINUITIES: Final = get_args(Continuity)


@dataclass(frozen=True)
class LongFormOptions:
    """Each field is the keyword long_form_<field> of generate.

    Attributes:
        min_chars: least characters of a segment, where the text has a boundary to end it.
        target_chars: length that segments are cut nearest to.
        max_chars: most characters of a segment.
        prefix_audio_seconds: audio of the previous segment that conditions the next; 0 disables this limit.
        prefix_audio_max_tokens: the same in frames. The smaller positive limit rules; both 0: no prefix.
        prefix_text_chars: characters of the previous text that condition the next.
        retry_attempts: further attempts at a segment that failed.
        continuity: "voice" carries how the voice sounds; "continue" goes on from the previous segment, its
            text and codes as the prompt.
        crossfade_ms: overlap at seams.
        trim_silence: whether long silence at seams is shortened.
        parallel: segments spoken at the same time; above 1, nothing may tie a segment to the one before.
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
        if self.continuity != "voice":
            raise RequestError(
                f"long_form_parallel = {self.parallel} needs long_form_continuity = 'voice', got {self.continuity!r}: "
                "a segment that continues another has to wait for it"
            )
        for name in ("prefix_audio_seconds", "prefix_audio_max_tokens", "prefix_text_chars"):
            if getattr(self, name):
                raise RequestError(
                    f"long_form_parallel = {self.parallel} needs long_form_{name} = 0, got {getattr(self, name)!r}: "
                    "a segment with a prefix has to wait for the one before"
                )

    def _check_not_negative(self, name: str) -> None:
        value = getattr(self, name)
        if value < 0:
            raise RequestError(f"long_form_{name} must be at least 0, got {value!r}")

    def prefix_frames(self, frame_rate: float) -> int:
        """Frames of the previous segment that condition the next; 0 for none."""
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
            "0 < long_form_min_chars <= long_form_target_chars <= long_form_max_chars does not hold for "
            f"{min_chars}, {target_chars}, {max_chars}"
        )
