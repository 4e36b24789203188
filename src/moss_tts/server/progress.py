"""How much of a request's text has become speech: exact between segments, an estimate inside one."""

from __future__ import annotations

from itertools import accumulate
from typing import Final

from moss_tts.diffusion.engine import SoundChunk
from moss_tts.request import FRAME_RATE, MossNormalizedRequest
from moss_tts.speaking.engine import SpeechChunk
from moss_tts.speaking.hosted_texts import SegmentChunk
from moss_tts.speaking.runaway import usual_seconds

# Only the next segment, or the end, shows that a segment is complete.
MOST_OF_A_SEGMENT: Final = 0.99


def segment_of(chunk: SpeechChunk) -> int:
    """The segment of a long text that a chunk belongs to; 0 for other texts."""
    return chunk.segment if isinstance(chunk, SegmentChunk) else 0


class Progress:
    """The progress of one request.

    Args:
        request: what is spoken.
        sample_rate: the sample rate of its chunks.
    """

    def __init__(self, request: MossNormalizedRequest, sample_rate: int) -> None:
        whole = [] if request.text is None else [request.text]
        texts = [segment.text for segment in request.plan] or whole
        self._sizes = [len(text) for text in texts]
        self._before = [0, *accumulate(self._sizes)]
        self._usual = [usual_seconds(text) / request.speed for text in texts]
        self._asked = None if request.tokens is None else request.tokens / FRAME_RATE / request.speed
        self._sample_rate = sample_rate
        self._segment, self._seconds = 0, 0.0

    def after(self, chunk: SpeechChunk) -> float | None:
        """The share of the work that is done after a chunk, 0 to 1; None if the whole length is unknown."""
        if isinstance(chunk, SoundChunk):
            return chunk.share
        segment = segment_of(chunk)
        if segment > self._segment:
            self._segment, self._seconds = segment, 0.0
        self._seconds += len(chunk.audio) / self._sample_rate
        if not self._sizes:
            return None if self._asked is None else self._share(self._asked)
        return (self._before[segment] + self._sizes[segment] * self._share(self._expected(segment))) / self._before[-1]

    def _expected(self, segment: int) -> float:
        usual = self._usual[segment]
        return usual if self._asked is None else usual * self._asked / sum(self._usual)

    def _share(self, expected: float) -> float:
        return min(MOST_OF_A_SEGMENT, self._seconds / expected)
