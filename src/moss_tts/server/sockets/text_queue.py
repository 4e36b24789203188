"""The text of a turn on its way from a client, which may be ahead of what the turn takes."""

from __future__ import annotations

import asyncio
from typing import Self

from moss_tts.server.errors import ApiError


def text_ended() -> ApiError:
    """The answer to text after the end of a turn's text."""
    return ApiError(400, "the text of this turn has ended, so it takes no more", "type", "text_ended")


class TextQueue:
    """Iterates over pieces of text as they come. Taking one in never waits, so that other messages are read meanwhile.

    Args:
        most: the most characters of the whole text.

    Attributes:
        text: all that came.
        ended: whether no more comes.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._pieces: asyncio.Queue[str | None] = asyncio.Queue()
        self.text = ""
        self.ended = False

    def put(self, text: str) -> None:
        """Take a piece in.

        Raises:
            ApiError: the text would be too long, or has ended.
        """
        if self.ended:
            raise text_ended()
        if len(self.text) + len(text) > self._most:
            raise ApiError(
                400,
                f"the text of a turn may have {self._most} characters; it has {len(self.text)}, and these "
                f"{len(text)} were not taken",
                "text",
                "string_above_max_length",
            )
        self.text += text
        if text:
            self._pieces.put_nowait(text)

    def end(self) -> None:
        """Take in that no more comes.

        Raises:
            ApiError: it has ended.
        """
        if self.ended:
            raise text_ended()
        self.ended = True
        self._pieces.put_nowait(None)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        """The next piece; waits for it."""
        piece = await self._pieces.get()
        if piece is None:
            raise StopAsyncIteration
        return piece
