"""Pieces of text from an iterator into a turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Generator, Iterable, Iterator

from moss_tts.errors import TurnOverError
from moss_tts.sessions.protocol import as_failure
from moss_tts.sessions.turn import MOST_PENDING, SECONDS_BETWEEN_LOOKS, Turn
from moss_tts.text.cleanup import check_text

# A long piece goes in by parts, so that there is room for each.
_PART = MOST_PENDING // 4


def feed(turn: Turn, deltas: Iterable[str]) -> None:
    """Push what an iterator yields, and end the turn's text; an error of the iterator is the turn's.

    A generator is closed once the turn is over, so that nobody writes for no one.
    """
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
    except BaseException as error:  # noqa: BLE001 - it is raised where the turn's sound is asked for
        turn.tell(as_failure(error))
    finally:
        if isinstance(deltas, Generator):
            deltas.close()


async def feed_async(turn: Turn, deltas: AsyncIterable[str]) -> None:
    """Push what an asynchronous iterator yields, and end the turn's text; an error of the iterator is the turn's."""
    try:
        async for delta in deltas:
            for part in _parts(delta):
                while not turn.wait_for_room(0):
                    await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
                turn.push(part)
            if turn.is_over:
                return
        turn.end()
    except TurnOverError:
        return
    except BaseException as error:
        turn.tell(as_failure(error))
        if not isinstance(error, Exception):
            raise
    finally:
        if isinstance(deltas, AsyncGenerator):
            await deltas.aclose()


def _parts(delta: str) -> Iterator[str]:
    text = check_text("a piece of text", delta)
    return (text[at : at + _PART] for at in range(0, len(text), _PART))
