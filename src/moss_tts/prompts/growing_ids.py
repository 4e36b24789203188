"""The ids of a text that is still being written: those of the whole text, in whatever pieces it comes."""

from __future__ import annotations

from moss_tts.prompts.messages import PromptEncoder


class GrowingIds:
    """Gives ids as soon as nothing that follows can change them, which takes a word or two.

    Args:
        encoder: the encoder of the checkpoint's prompts.

    Attributes:
        rest: the end of the text, which has no ids yet.
    """

    def __init__(self, encoder: PromptEncoder) -> None:
        self._encoder = encoder
        self.rest = ""

    def push(self, text: str) -> list[int]:
        """Take a piece of text; the ids that are known with it."""
        self.rest = self._encoder.normalised(self.rest + text)
        return self._give(self._encoder.settled(self.rest))

    def flush(self) -> list[int]:
        """The ids of the rest as it is; a word that goes on after it is cut."""
        return self._give(len(self.rest))

    def _give(self, count: int) -> list[int]:
        text, self.rest = self.rest[:count], self.rest[count:]
        return self._encoder.encode(text) if text else []
