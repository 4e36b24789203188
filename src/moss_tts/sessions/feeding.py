"""Pieces of text from an iterator into a turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Iterable, Iterator

from moss_tts.errors import TurnOverError
from moss_tts.sessions.turn import MOST_PENDING, SECONDS_BETWEEN_LOOKS, Turn
from moss_tts.text.cleanup import check_text

# A long piece goes in by parts, so that there is room for each.
_PART = MOST_PENDING // 4


def feed(turn: Turn, deltas: Iterable[str]) -> None:
    """Push what an iterator yields, and end the turn's text; an error of the iterator is the turn's."""
    try:
        for delta in deltas:
            for part in _parts(delta):
                turn.wait_for_room()
                turn.push(part)
            if turn.is_over:
                return
        turn.end()
    except TurnOverError:
        return
    except Exception as error:  # noqa: BLE001 - it is raised where the turn's sound is asked for
        turn.tell(error)


async def feed_async(turn: Turn, deltas: AsyncIterable[str]) -> None:
    """Push what an asynchronous iterator yields, and end the turn's text; an error of the iterator is the turn's."""
    try:
        async for delta in deltas:
            for part in _parts(delta):
                while not turn.wait_for_room(0):
                    await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
                turn.push(part)
        turn.end()
    except TurnOverError:
        return
    except Exception as error:  # noqa: BLE001 - it is raised where the turn's sound is asked for
        turn.tell(error)


def _parts(delta: str) -> Iterator[str]:
    text = check_text("a piece of text", delta)
    return (text[at : at + _PART] for at in range(0, len(text), _PART))
