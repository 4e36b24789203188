"""The request for one segment of a text: what was spoken before it conditions how it sounds.

Continuity carries codes: nothing that was made is encoded again, and what conditions a segment is in its prompt,
never in its text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from moss_tts.audio.references import CodeArray, Joined
from moss_tts.long_form import ContinuityState, TextSegment
from moss_tts.request import MossNormalizedRequest
from moss_tts.text.tags import SPEAKER_TAG


def conditioned(request: MossNormalizedRequest, segment: TextSegment, state: ContinuityState) -> MossNormalizedRequest:
    """A long text's request as one for a segment.

    Args:
        request: the request for the text, with long_form options and with the segment's seed.
        segment: the segment.
        state: what the segments before it have handed on.
    """
    assert request.long_form is not None
    continuity = request.long_form.continuity
    request = replace(request, text=segment.spoken_text)
    if state.previous is None or continuity == "none":
        return request
    if continuity == "continue":
        assert state.previous_codes is not None
        return _continuing(request, [state.previous], state.previous_codes)
    return _in_voice(request, state)


def _in_voice(request: MossNormalizedRequest, state: ContinuityState) -> MossNormalizedRequest:
    """The voice as reference: the user's, else the first segment's; then the last frames spoken."""
    if request.prompt_audio is not None:
        return request
    assert state.voice is not None
    if not request.reference and SPEAKER_TAG.search(request.text or ""):
        # One recording cannot hold several speakers apart: continue the first segment instead.
        return _continuing(request, state.voice_of, state.voice)
    voice = request.reference or (CodeArray(state.voice),)
    # The first segment, as the voice of the second, ends with those frames already.
    repeats = not request.reference and state.previous is state.voice_of[-1]
    if len(voice) == 1 and state.prefix_codes is not None and not repeats:
        assert voice[0] is not None
        voice = (Joined((voice[0], CodeArray(state.prefix_codes))),)
    instruction = request.instruction
    if state.prefix_text:
        instruction = "\n".join(filter(None, (instruction, f"Previous text: {state.prefix_text}")))
    return replace(request, reference=voice, instruction=instruction)


def _continuing(
    request: MossNormalizedRequest, spoken: Sequence[TextSegment], codes: np.ndarray
) -> MossNormalizedRequest:
    """Continue segments: their whole text and their whole codes, so that neither is ahead of the other."""
    transcript = " ".join(segment.spoken_text for segment in spoken)
    return replace(request, prompt_audio=CodeArray(codes), prompt_transcript=transcript)
