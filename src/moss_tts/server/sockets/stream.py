"""Sessions without turns: the messages of vLLM-Omni's /v1/audio/speech/stream. Each input.done ends an utterance."""

from __future__ import annotations

from typing import ClassVar

from moss_tts.server.errors import ApiError
from moss_tts.server.service import Service
from moss_tts.server.sockets.messages import Configuration, Message, Text
from moss_tts.server.sockets.session import NORMAL, SocketClosed, SocketSession
from moss_tts.server.sockets.socket import Socket
from moss_tts.server.sockets.socket_turn import SocketTurn, SoundForm


class StreamSession(SocketSession):
    """A session in which an utterance is a turn, and begins with its first text."""

    kinds: ClassVar = {"input.text": Text, "input.done": Message, "session.close": Message}

    def __init__(self, service: Service, socket: Socket) -> None:
        super().__init__(service, socket)
        self._utterances = 0

    def form_of(self, configuration: Configuration) -> SoundForm:
        """The form of the sound: with stream_audio while it is made, as PCM; otherwise a whole WAV file."""
        sound = configuration.sound
        return SoundForm(sound.response_format or ("pcm" if sound.stream_audio else "wav"), not sound.stream_audio)

    async def configured(self) -> None:
        """Tell nothing: this protocol has no message for it."""

    async def reconfigure(self, configuration: Configuration) -> None:
        """Take another session.config between two utterances.

        Raises:
            ApiError: it comes within one, or cannot be followed.
        """
        if self.active is not None and not self.active.text.ended:
            raise ApiError(400, "session.config cannot come between input.text and input.done", "type", "turn_active")
        await self.over()
        await self._configure(configuration)

    async def handle(self, message: Message) -> None:
        """Do what a message asks for, after the utterance before it.

        Raises:
            ApiError: it cannot be done.
            SocketClosed: the session ends.
        """
        if self.active is not None and self.active.text.ended:
            await self.over()
        if isinstance(message, Text):
            if message.text:
                (self.active or self.begin(self.session.session.turn())).text.put(message.text)
        elif message.type == "session.close":
            raise SocketClosed(NORMAL)
        elif self.active is not None:
            self.active.text.end()
        else:
            await self._utterance_done(0)

    async def sound_begins(self, turn: SocketTurn) -> None:
        """Tell the client that sound follows."""
        await self._socket.send(
            {
                "type": "audio.start",
                "utterance_index": self._utterances,
                "sentence_index": 0,
                "sentence_text": turn.text.text,
                "format": self.format,
                "sample_rate": self.session.session.sample_rate,
                "channels": turn.channels,
            }
        )

    async def turn_ended(self, turn: SocketTurn) -> None:
        """Tell the client how an utterance ended."""
        await self._socket.send(
            {
                "type": "audio.done",
                "utterance_index": self._utterances,
                "sentence_index": 0,
                "total_bytes": turn.bytes,
                "error": turn.error is not None,
            }
        )
        await self._utterance_done(1, turn.turn.notes)

    async def _utterance_done(self, sentences: int, notes: tuple[str, ...] = ()) -> None:
        index, self._utterances = self._utterances, self._utterances + 1
        warnings = [*self.warnings, *notes]
        facts = {"utterance_index": index, "total_sentences": sentences} | ({"warnings": warnings} if warnings else {})
        await self._socket.send({"type": "session.done", **facts})
