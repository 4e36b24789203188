"""What an operator decides. Every limit has a number here, so that nothing a client sends can grow without one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

MiB = 2**20


@dataclass(frozen=True)
class Settings:
    """Settings of a server.

    Attributes:
        model_id: what clients call the model.
        max_batch: requests spoken side by side.
        max_waiting: requests that may wait for a place; those after them are told to come back later.
        timeout_s: of a request, from its arrival to its last byte.
        grace_s: running requests may go on for so long when the server is stopped.
        max_body: bytes of a request's body.
        max_chars: of a text.
        max_frames: that a request may ask for with max_tokens.
        max_reference_s: of a recording that a client sends.
        max_voices: that clients may register.
        api_key: clients must send it as bearer token; None lets everybody in.
        cors_origins: other sites whose pages may call this server.
        voice: spoken with where a request names none of its own; None is the model's choice.
        voices: directory of the registered voices.
    """

    model_id: str
    max_batch: int = 16
    max_waiting: int = 64
    timeout_s: float = 600.0
    grace_s: float = 30.0
    max_body: int = 32 * MiB
    max_chars: int = 20_000
    max_frames: int = 4096
    max_reference_s: float = 60.0
    max_voices: int = 1000
    api_key: str | None = None
    cors_origins: tuple[str, ...] = ()
    voice: str | None = None
    voices: Path = Path("voices")
