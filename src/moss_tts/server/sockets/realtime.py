"""Sessions with turns: the messages of SGLang-Omni's /v1/audio/speech/realtime, and turn.interrupt."""

from __future__ import annotations

import uuid
from collections import deque
from typing import Any, ClassVar, Final

from moss_tts.server.errors import ApiError
from moss_tts.server.service import Service
from moss_tts.server.sockets.messages import (
    Configuration,
    Message,
    TurnInput,
    TurnInterrupt,
    TurnMessage,
    TurnStart,
    TurnText,
    TurnTokens,
)
from moss_tts.server.sockets.session import NORMAL, SocketClosed, SocketSession
from moss_tts.server.sockets.socket import Socket
from moss_tts.server.sockets.socket_turn import SocketTurn, SoundForm

# Turns before the present one; their identifiers cannot be used again.
TURNS_REMEMBERED: Final = 256
# Messages of a turn that may be sent again.
INPUTS_REMEMBERED: Final = 64
COMMITTED: Final = ("stop", "length", "silence", "interrupted")


class Inputs:
    """The numbered messages with a turn's text: each counts once, and in order.

    Attributes:
        next: the number of the next message.
        kind: the kind of the first one.
    """

    def __init__(self) -> None:
        self.next = 0
        self.kind: type[TurnInput] | None = None
        self._known: deque[tuple[int, int]] = deque(maxlen=INPUTS_REMEMBERED)

    def is_new(self, message: TurnInput) -> bool:
        """Whether a message is to be heeded, and not the repetition of one.

        Raises:
            ApiError: it is out of order, or repeats a number with other content.
        """
        number = message.seq_no
        if number is None or number == self.next:
            return True
        if number > self.next:
            raise ApiError(400, f"seq_no must be {self.next}, the next one; got {number}", "seq_no", "out_of_order")
        if (number, _content(message)) not in self._known:
            raise ApiError(400, f"seq_no {number} was sent before with other content", "seq_no", "out_of_order")
        return False

    def accept(self, message: TurnInput) -> int:
        """Note that a message was heeded; returns its number."""
        self._known.append((self.next, _content(message)))
        self.next += 1
        return self.next - 1


def _content(message: TurnInput) -> int:
    return hash(message.model_dump_json(exclude={"seq_no"}))


class RealtimeSession(SocketSession):
    """A session with turns that its client begins, cancels and interrupts; each piece of text is acknowledged."""

    kinds: ClassVar = {
        "turn.start": TurnStart,
        "input.text": TurnText,
        "input.tokens": TurnTokens,
        "input.done": TurnInput,
        "turn.cancel": TurnMessage,
        "turn.interrupt": TurnInterrupt,
        "session.close": Message,
    }

    def __init__(self, service: Service, socket: Socket) -> None:
        super().__init__(service, socket)
        self._id = uuid.uuid4().hex[:16]
        self._turn_ids: deque[str] = deque(maxlen=TURNS_REMEMBERED)
        self._inputs = Inputs()
        # The last turn, which can be interrupted until the next one begins.
        self._last: SocketTurn | None = None

    def form_of(self, configuration: Configuration) -> SoundForm:
        """The form of the sound: while it is made, as PCM if nothing else is asked for."""
        sound = configuration.sound
        if sound.stream_audio is False:
            message = "stream_audio must be true here: the sound of a turn is sent while it is made"
            raise ApiError(400, message, "stream_audio", "invalid_value")
        return SoundForm(sound.response_format or "pcm", whole=False)

    async def configured(self) -> None:
        """Tell the client what it can do."""
        session = self.session.session
        await self._socket.send(
            {
                "type": "session.configured",
                "session_id": self._id,
                "response_format": self.format,
                "sample_rate": session.sample_rate,
                "stream_audio": True,
                "input_modes": ["text", "tokens"] if session.takes_tokens else ["text"],
                "max_active_turns": 1,
                "seed": session.seed,
                "warnings": self.warnings,
            }
        )

    async def handle(self, message: Message) -> None:
        """Do what a message asks for.

        Raises:
            ApiError: it cannot be done.
            SocketClosed: the session ends.
        """
        match message:
            case TurnStart():
                await self._start(message)
            case TurnInput():
                await self._take(message)
            case TurnInterrupt():
                await self._interrupt(message)
            case TurnMessage():
                self._active(message).stop("client_cancelled")
            case _:
                await self._close()

    async def _start(self, message: TurnStart) -> None:
        if self.active is not None:
            text = f"turn {self._turn_ids[-1]!r} is not over yet; wait for its turn.done, or cancel it"
            raise ApiError(400, text, "turn_id", "turn_active")
        if message.turn_id in self._turn_ids:
            raise ApiError(400, "turn_id was used before in this session; take another one", "turn_id", "turn_id_used")
        user = message.user
        audio = None if user is None or user.audio is None else await self._service.user_audio(user.audio)
        turn = self.session.session.turn(user_text=None if user is None else user.text, user_audio=audio)
        self._turn_ids.append(message.turn_id)
        self._inputs = Inputs()
        await self._socket.send({"type": "turn.started", **self._facts(), "next_seq_no": 0})
        self._last = self.begin(turn)

    async def _take(self, message: TurnInput) -> None:
        turn = self._active(message)
        number = self._accepted(turn, message) if self._inputs.is_new(message) else message.seq_no
        await self._socket.send(
            {
                "type": "input.ack",
                "turn_id": message.turn_id,
                "accepted_seq_no": number,
                "next_seq_no": self._inputs.next,
            }
        )

    def _accepted(self, turn: SocketTurn, message: TurnInput) -> int:
        if isinstance(message, TurnText | TurnTokens):
            if self._inputs.kind not in (None, type(message)):
                raise ApiError(400, "a turn takes input.text or input.tokens, not both", "type", "mixed_input")
            if isinstance(message, TurnText):
                turn.text.put(message.text)
            else:
                turn.put_tokens(message.token_ids)
            self._inputs.kind = type(message)
        else:
            turn.text.end()
        return self._inputs.accept(message)

    async def _interrupt(self, message: TurnInterrupt) -> None:
        heard = message.heard_ms / 1000
        if self.active is None and self._last is not None and message.turn_id == self._turn_ids[-1]:
            # All of its sound was sent, but not heard.
            self._last.stop("interrupted", heard)
            await self._socket.send({"type": "turn.done", **self._facts(), "committed": True, "reason": "interrupted"})
        else:
            self._active(message).stop("interrupted", heard)

    async def _close(self) -> None:
        if self.active is not None:
            self.active.stop("session_closed")
            await self.over()
        await self._socket.send({"type": "session.closed", "session_id": self._id})
        raise SocketClosed(NORMAL)

    def _active(self, message: TurnMessage) -> SocketTurn:
        """The turn that a message is for."""
        if self.active is None:
            raise ApiError(400, f"no turn is active: {message.type} comes after turn.start", "type", "no_turn")
        if message.turn_id != self._turn_ids[-1]:
            text = f"turn {self._turn_ids[-1]!r} is active, not {message.turn_id[:60]!r}"
            raise ApiError(400, text, "turn_id", "no_turn")
        return self.active

    def _facts(self) -> dict[str, Any]:
        turn_id = self._turn_ids[-1]
        return {"session_id": self._id, "turn_id": turn_id, "request_id": f"{self._id}:{turn_id}"}

    async def sound_begins(self, turn: SocketTurn) -> None:
        """Tell the client that sound follows."""
        facts = self._facts()
        await self._socket.send(
            {
                "type": "audio.start",
                "id": facts["request_id"],
                "turn_id": facts["turn_id"],
                "format": self.format,
                "sample_rate": self.session.session.sample_rate,
                "channels": turn.channels,
            }
        )

    async def turn_ended(self, turn: SocketTurn) -> None:
        """Tell the client how a turn ended."""
        facts = self._facts()
        await self._socket.send(
            {
                "type": "audio.done",
                "id": facts["request_id"],
                "turn_id": facts["turn_id"],
                "total_chunks": turn.messages,
                "total_bytes": turn.bytes,
                "error": turn.error is not None,
            }
        )
        notes = {"warnings": list(turn.turn.notes)} if turn.turn.notes else {}
        await self._socket.send(
            {"type": "turn.done", **facts, "committed": turn.reason in COMMITTED, "reason": turn.reason, **notes}
        )
