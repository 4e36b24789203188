"""Text on standard input while it is written: bytes to text to turns, in a thread of its own."""

from __future__ import annotations

import codecs
import io
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from moss_tts.errors import RequestError, TurnOverError

if TYPE_CHECKING:
    from moss_tts.sessions.session import Session
    from moss_tts.sessions.turn import Turn

# Bytes that are read at most at a time.
_BLOCK = 2**12
_BLANK_LINE = re.compile(r"\n[^\S\n]*\n\s*")
# White space that may become a blank line; what stands before it goes on its way.
_OPEN_END = re.compile(r"\n\s*\Z")


def reader_of_stdin() -> Callable[[], bytes]:
    """Reads what is there on standard input, waiting for some; b"" at its end.

    Raises:
        RequestError: there is no standard input.
    """
    if sys.stdin is None:
        raise RequestError("There is no text to follow, because standard input is closed. Give the text with a pipe.")
    stream = sys.stdin.buffer
    try:
        descriptor = stream.fileno()
    except io.UnsupportedOperation:
        return lambda: stream.read(_BLOCK)
    # Not by the stream: it has a lock, which Python wants at exit while a thread still waits for bytes.
    return lambda: os.read(descriptor, _BLOCK)


def decoded(read: Callable[[], bytes]) -> Iterator[str]:
    """Text of UTF-8 bytes, as soon as they make characters.

    Raises:
        RequestError: other bytes.
    """
    decoder, at = codecs.getincrementaldecoder("utf-8-sig")(), 0
    while True:
        block = read()
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            # The decoder keeps the bytes of an incomplete character, and drops a byte order mark.
            place = at + len(block) - len(error.object) + error.start
            raise RequestError(f"standard input is not UTF-8 text: {error.reason} at byte {place}.") from error
        at += len(block)
        if text:
            yield text
        if not block:
            return


def split_turns(pieces: Iterator[str]) -> Iterator[str | None]:
    """Pieces of text, and None where a turn ends: at each blank line, and at the end."""
    held = ""
    for piece in pieces:
        *turns, text = _BLANK_LINE.split(held + piece)
        for turn in turns:
            yield turn
            yield None
        open_end = _OPEN_END.search(text)
        at = open_end.start() if open_end else len(text)
        held = text[at:]
        yield text[:at]
    yield None


class IncomingTurns:
    """Turns of a session, begun and filled while their text comes.

    Args:
        session: speaks.
        pieces: the text, with None at the end of each turn.
        user: what the user said before the first turn, as options of Session.turn.

    Attributes:
        first_text: perf_counter when the first text came; None before it.
    """

    def __init__(self, session: Session, pieces: Iterator[str | None], user: Mapping[str, Any] | None = None) -> None:
        self._session, self._pieces, self._user = session, pieces, user or {}
        self._turn: Turn | None = None
        self._turns: SimpleQueue[Turn | Exception | None] = SimpleQueue()
        self._free = threading.Semaphore(1)
        self.first_text: float | None = None
        threading.Thread(target=self._fill, name="text", daemon=True).start()

    def next(self) -> Turn | None:
        """The next turn that has begun; None at the end of the text. `done` must be called before the one after it.

        Raises:
            RequestError: the text is no text.
        """
        turn = self._turns.get()
        if isinstance(turn, Exception):
            raise turn
        return turn

    def done(self) -> None:
        """Let the next turn begin. What follows of the text of one that was stopped is left out."""
        self._free.release()

    def _fill(self) -> None:
        try:
            for piece in self._pieces:
                if piece is None:
                    self._end()
                else:
                    self._push(piece)
            self._turns.put(None)
        except Exception as error:  # noqa: BLE001 - it is raised where the next turn is asked for
            self.tell(error)

    def tell(self, error: Exception) -> None:
        """Fail the turn that has begun, or the next one."""
        if self._turn is not None:
            self._turn.tell(error)
        self._turns.put(error)

    def _push(self, text: str) -> None:
        if self._turn is None:
            text = text.lstrip()
        if not text:
            return
        self.first_text = self.first_text or time.perf_counter()
        turn = self._turn or self._begun()
        turn.wait_for_room()
        try:
            turn.push(text)
        except TurnOverError:
            return

    def _begun(self) -> Turn:
        self._free.acquire()
        self._turn, self._user = self._session.turn(**self._user), {}
        self._turns.put(self._turn)
        return self._turn

    def _end(self) -> None:
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.end()
