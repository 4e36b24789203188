"""What stands between a turn, which any thread uses, and the model that speaks it in the device thread.

A kind of model that has sessions implements Conversation and SpokenTurn. All their methods are called in the host's
thread, one after the other and between two rows of its batch, in the order in which callers asked for them; none of
them may wait. Sound goes out by TurnListener.tell; while a turn has no text to speak, it has nothing on the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from moss_tts.audio.references import Reference
from moss_tts.errors import GenerationError
from moss_tts.speaking.engine import SpeechChunk

# Characters that an id of the model's tokenizer counts as.
CHARACTERS_PER_ID = 4
# What a turn fails with where nothing of its text can be spoken.
NO_WORDS = "the text of the turn has no word that can be spoken."


@dataclass(frozen=True)
class UserTurn:
    """What the other side of the conversation said before a turn.

    Attributes:
        text: its words; None where they are not known.
        audio: its recording; None without one.
    """

    text: str | None = None
    audio: Reference | None = None


class TurnListener(Protocol):
    """Takes what a turn makes; any thread may call it, and nothing of it waits."""

    def tell(self, part: SpeechChunk | Exception, segment: int = 0) -> None:
        """Hand over sound that became due, or the error that ends the turn.

        The last chunk, which may be empty, has a finish_reason, and no other one has. The context must be settled
        before it goes out. After an error, `cancel` of the turn is called.
        """
        ...

    def note(self, sentence: str) -> None:
        """Tell people about something that is done otherwise than asked."""
        ...

    def has_room(self) -> bool:
        """Whether nearly all of the sound was taken; until then, further frames should wait as codes."""
        ...


class SpokenTurn(Protocol):
    """A turn as a model speaks it."""

    @property
    def pending(self) -> int:
        """Characters of text that are not spoken yet; a token id counts as CHARACTERS_PER_ID."""
        ...

    @property
    def text_left(self) -> str:
        """The text that is not spoken to its end."""
        ...

    def push(self, text: str) -> None:
        """Take a piece of text, as long as a caller likes; never called after `end`."""
        ...

    def push_tokens(self, ids: Sequence[int]) -> None:
        """Take ids of the model's tokenizer.

        Raises:
            RequestError: the model takes no ids, or not these.
        """
        ...

    def flush(self) -> None:
        """Speak what is there without waiting for more text."""
        ...

    def end(self) -> None:
        """Speak what is there, and then end."""
        ...

    def cancel(self) -> None:
        """End at once and leave the context as it was before the turn, even if the turn has just ended by itself."""
        ...

    def interrupt(self, heard_seconds: float) -> None:
        """End at once and keep in the context what was heard: the first seconds of the turn's sound.

        It is called after the turn's end, too: the listener may be behind.
        """
        ...


class Conversation(Protocol):
    """The context that the turns of a session share."""

    @property
    def takes_tokens(self) -> bool:
        """Whether a turn takes ids of the model's tokenizer in place of text."""
        ...

    @property
    def takes_user(self) -> bool:
        """Whether the prompt has a place for what the user said."""
        ...

    def begin(self, user: UserTurn, listener: TurnListener) -> SpokenTurn:
        """Begin a turn; the one before it is over.

        Raises:
            RequestError: the model has no place for what the user said.
            AudioError: a recording that cannot be used.
        """
        ...

    def close(self) -> None:
        """Free the context; no turn is being spoken."""
        ...


def as_failure(error: BaseException) -> Exception:
    """The error that a turn fails with: one that would end a thread or a task must not end the listener's."""
    return error if isinstance(error, Exception) else GenerationError(f"the turn was ended by {error!r}")
