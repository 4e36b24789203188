"""What an operator decides. Every limit has a number here, so that nothing a client sends can grow without one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from moss_tts.errors import RequestError, shown
from moss_tts.strict import is_integer, is_number
from moss_tts.text.lexicon import Lexicon

MiB = 2**20


@dataclass(frozen=True)
class Settings:
    """Settings of a server.

    Attributes:
        max_batch: requests that each model speaks side by side.
        max_waiting: requests that may wait for a place; those after them are told to come back later.
        timeout_s: the time limit of a request, from its arrival to its last byte.
        grace_s: running requests may go on for so long when the server is stopped.
        max_body: bytes of a request's body.
        idle_s: a connection may be without a request; the headers of one must be there by then.
        body_timeout_s: the time limit for a request's body to arrive.
        reader_timeout_s: the time limit for a client to take the next 64 KiB of its answer.
        max_chars: the most characters of all texts of a request together.
        max_prompt: rows of a prompt: tokens of texts and of the template around each message, frames of recordings.
        max_frames: the most frames that a request may ask for with max_tokens.
        max_reference_s: the most seconds of all recordings of a request together.
        max_sessions: sessions over WebSockets that may be open together; 0 refuses them.
        session_idle_s: a session may be without a message while no sound is made for it.
        turn_timeout_s: the time limit of a turn, from its beginning to its last sound.
        session_timeout_s: after this time a session ends with its turn.
        max_voices: the most voices that clients may register.
        api_key: clients must send it as bearer token; None lets everybody in.
        hosts: names by which this server may be called besides addresses and private names; "*" is any (gate.py says
            why not all are).
        cors_origins: other sites; their pages may call this server.
        voice: spoken with where a request names none of its own; None is the model's choice.
        lexicons: the lexicons that requests may name.
        voices: directory of the registered voices.
        keep_alive_s: a model that nobody uses leaves memory after this time; None is never.
        max_loaded: the most models that are in memory.
        max_memory: bytes that the models in memory may take together; None sets no limit.
    """

    max_batch: int = 16
    max_waiting: int = 64
    timeout_s: float = 600.0
    grace_s: float = 30.0
    max_body: int = 32 * MiB
    idle_s: float = 10.0
    body_timeout_s: float = 60.0
    reader_timeout_s: float = 60.0
    max_chars: int = 20_000
    max_prompt: int = 8192
    max_frames: int = 4096
    max_reference_s: float = 120.0
    max_sessions: int = 16
    session_idle_s: float = 300.0
    turn_timeout_s: float = 600.0
    session_timeout_s: float = 3600.0
    max_voices: int = 1000
    api_key: str | None = None
    hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    voice: str | None = None
    lexicons: Mapping[str, Lexicon] = field(default_factory=dict)
    voices: Path = Path("voices")
    keep_alive_s: float | None = None
    max_loaded: int = 16
    max_memory: int | None = None

    def __post_init__(self) -> None:
        """Refuse numbers that are none, and a key that nobody chose.

        Raises:
            RequestError: a number is none, or the key is empty, as from a variable that was never set.
        """
        for name, value in vars(self).items():
            fits = is_number(value) and value >= 0 if isinstance(value, float) else is_integer(value, most=2**62)
            if isinstance(value, int | float) and not fits:
                raise RequestError(f"{name} must be a number of at least 0 that is not endless, got {shown(value)}")
        if self.api_key is not None and not self.api_key.strip():
            raise RequestError("the API key is empty; give a key, or leave it out to let everybody in")
