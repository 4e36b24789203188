"""Speech that was cut short: which part of the text it was, and what helps.

Limits come from `Model.job`, which makes them, so that messages name the limits that applied.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from moss_tts.cli.output_files import Recording
from moss_tts.long_form import SegmentMetrics
from moss_tts.request import FRAME_RATE, MossNormalizedRequest
from moss_tts.text.harmless import one_line

if TYPE_CHECKING:
    from moss_tts.model import Model

MOST_NAMED = 3
# Options of commands -> what to try with them.
REMEDIES = {
    "seconds": "a greater --seconds",
    "max_tokens": "a higher --max-tokens",
    "long_form": "segments (--long-form)",
    "long_form_max_chars": "shorter segments (--long-form-max-chars)",
    "seed": "another --seed",
    "runaway_guard": "--no-runaway-guard",
}
# Options that help against each limit.
LENGTH_ASKED_FOR = ("seconds", "seed")
MOST_FRAMES = ("max_tokens", "seed")
RUNAWAY_GUARD = ("seed", "runaway_guard")


@dataclass(frozen=True)
class Part:
    """A text that is spoken in one run: a segment, or the whole text.

    Attributes:
        name: the name that people see.
        frames: frames that were made of it.
        budget: the most frames that it could take.
        helpful: options that help where the budget was too small.
    """

    name: str
    frames: int
    budget: int
    helpful: tuple[str, ...]


def what_was_cut(
    recording: Recording,
    model: Model,
    request: MossNormalizedRequest,
    metrics: Sequence[SegmentMetrics],
    flags: Set[str],
) -> list[str]:
    """Sentences for people about a recording that lacks some of its text; none if it is complete.

    Args:
        recording: the recording of the request.
        model: spoke it.
        request: what was asked for.
        metrics: the metrics of its segments; none if it was spoken in one piece.
        flags: names of the command's options, of which a sentence may speak.
    """
    sentences = []
    if recording.finish_reason == "silence":
        sentences.append(f"the model stayed silent and was stopped. {_try(RUNAWAY_GUARD, flags)}")
    if recording.finish_reason in ("length", "silence") and metrics:
        parts = [_segment(model, request, spoken) for spoken in metrics]
        cut = [part for part in parts if part.frames >= part.budget]
    elif recording.finish_reason == "length":
        cut = [_whole(model, request, sum(result.token_count for result in recording.results))]
    else:
        cut = []
    return [*sentences, *([_told(cut, len(request.plan), flags)] if cut else [])]


def _whole(model: Model, request: MossNormalizedRequest, frames: int) -> Part:
    budget, helpful = _budget(model, request)
    more = ("max_tokens", "long_form", "seed") if helpful == MOST_FRAMES and request.text else helpful
    return Part("the speech", frames, budget, more)


def _segment(model: Model, request: MossNormalizedRequest, spoken: SegmentMetrics) -> Part:
    segment = request.plan[spoken.segment_idx]
    part = replace(request, text=segment.spoken_text, tokens=request.tokens_of(segment))
    budget, helpful = _budget(model, part)
    if helpful == MOST_FRAMES and model.config.text_preparation is None:
        helpful = ("max_tokens", "long_form_max_chars", "seed")
    name = f'{spoken.segment_idx + 1} ("{one_line(segment.text)}")'
    return Part(name, spoken.prompt_tokens_generated, budget, helpful)


def _budget(model: Model, request: MossNormalizedRequest) -> tuple[int, tuple[str, ...]]:
    """The frames that a request may take, and the options that help if they are too few."""
    bare = replace(request, reference=(), prompt_audio=None, prompt_transcript=None, conversation=())
    budget = model.job(bare).request.max_frames
    if budget < request.effective_max_tokens:
        return budget, RUNAWAY_GUARD
    return budget, MOST_FRAMES if budget == request.max_tokens else LENGTH_ASKED_FOR


def _told(cut: Sequence[Part], segments: int, flags: Set[str]) -> str:
    helpful = dict.fromkeys(option for part in cut for option in part.helpful)
    if len(cut) == 1:
        budget = f"its limit of {cut[0].budget} frames ({cut[0].budget / FRAME_RATE:.1f} s)"
        subject = f"segment {cut[0].name} of {segments}" if segments else cut[0].name
        return f"{subject} stopped at {budget}, so its end may be missing. {_try(helpful, flags)}"
    names = [part.name for part in cut[:MOST_NAMED]]
    names += [f"{len(cut) - MOST_NAMED} more"] if len(cut) > MOST_NAMED else []
    subject = f"all {segments} segments" if len(cut) == segments else f"segments {_listed(names, 'and')} of {segments}"
    return f"{subject} stopped at their limits, so their ends may be missing. {_try(helpful, flags)}"


def _try(helpful: Iterable[str], flags: Set[str]) -> str:
    return f"Try {_listed([REMEDIES[option] for option in helpful if option in flags], 'or')}."


def _listed(words: Sequence[str], conjunction: str) -> str:
    """Words as a sentence lists them."""
    return " ".join([", ".join(words[:-1]), conjunction, words[-1]]) if len(words) > 1 else "".join(words)
