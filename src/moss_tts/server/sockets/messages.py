"""The messages of clients, field by field. Both protocols have their own; session.config is the same in both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from moss_tts.server.bodies import check_size
from moss_tts.server.errors import ApiError, invalid_field
from moss_tts.server.schema import SpeechBody

SocketFormat: TypeAlias = Literal["pcm", "wav", "opus"]
TurnId = Annotated[str, Field(min_length=1, max_length=200)]
SequenceNumber = Annotated[int, Field(ge=0)]
MOST_IDS: Final = 4096
CONFIG: Final = "session.config"
# Other servers' names of fields -> ours.
OTHER_NAMES: Final = {"speaker": "voice", "max_new_tokens": "max_tokens"}
# Fields of a request that a session has no use for, and why.
NOT_OF_SESSIONS: Final = {
    "input": "the text comes with input.text",
    "conversation": "the text comes with input.text",
    "stream": "sound is sent while it is made; stream_audio says whether in one piece",
    "stream_format": "sound comes in binary messages",
    "timestamps": "a session tells no times",
    "verbose": "a session tells no progress",
}


class Message(BaseModel):
    """A message of a client; unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", strict=True)
    type: str


class User(BaseModel):
    """What the user said before a turn."""

    model_config = ConfigDict(extra="forbid", strict=True)
    text: str | None = None
    audio: str | None = None


class TurnStart(Message):
    """Begins a turn."""

    turn_id: TurnId
    user: User | None = None


class TurnMessage(Message):
    """A message about the turn that was begun."""

    turn_id: TurnId


class TurnInput(TurnMessage):
    """Says that a turn's text has ended, if it is no more than this. One of a number that was there is sent again."""

    seq_no: SequenceNumber | None = None


class TurnText(TurnInput):
    """A piece of a turn's text."""

    text: str


class TurnTokens(TurnInput):
    """A piece of a turn's text as ids of the model's tokenizer."""

    token_ids: list[SequenceNumber] = Field(min_length=1, max_length=MOST_IDS)


class TurnInterrupt(TurnMessage):
    """Stops a turn, of which so much was heard."""

    heard_ms: Annotated[float, Field(ge=0, le=36_000_000)]


class Text(Message):
    """A piece of text, where there are no turns."""

    text: str


class SoundFields(BaseModel):
    """Fields of session.config that a request for speech does not have, or not so."""

    model_config = ConfigDict(extra="forbid", strict=True)
    response_format: SocketFormat | None = None
    sample_rate: int | None = None
    stream_audio: bool | None = None


@dataclass(frozen=True)
class Configuration:
    """What session.config asks for.

    Attributes:
        body: the fields of a request for speech.
        sound: the fields of sessions.
    """

    body: SpeechBody
    sound: SoundFields


def parsed(content: str, kinds: Mapping[str, type[Message]], max_chars: int) -> Message | Configuration:
    """A message of a client.

    Args:
        content: what came.
        kinds: the messages of the protocol by their type, besides session.config.
        max_chars: the most characters of texts.

    Raises:
        ApiError: no message of this protocol.
    """
    check_size(content.encode(errors="replace"), max_chars)
    try:
        message = from_json(content, allow_inf_nan=False)
    except ValueError as error:
        raise ApiError(400, f"a message must be JSON: {error}", code="invalid_value") from error
    if not isinstance(message, dict):
        raise ApiError(400, f"a message must be a JSON object; got {type(message).__name__}", code="invalid_value")
    type_ = message.get("type")
    if type_ == CONFIG:
        return _configuration(message)
    if not isinstance(type_, str) or type_ not in kinds:
        allowed = ", ".join([CONFIG, *kinds])
        raise ApiError(400, f"type must be one of {allowed}; got {str(type_)[:60]!r}", "type", "invalid_value")
    return _validated(kinds[type_], message)


def _configuration(message: Mapping[str, Any]) -> Configuration:
    """Read session.config: its fields stand in `session`, or beside the type."""
    rest = {name: value for name, value in message.items() if name != "type"}
    given = rest if "session" not in rest else rest.pop("session")
    if not isinstance(given, dict) or (given is not rest and rest):
        message_ = "all fields of session.config stand in session, which is an object, or all beside the type"
        raise ApiError(400, message_, "session", "invalid_value")
    for other, name in OTHER_NAMES.items():
        if other in given and name in given:
            raise ApiError(400, f"{other} and {name} are the same field; give only one of them", name, "invalid_value")
    named = {OTHER_NAMES.get(name, name): value for name, value in given.items()}
    for name, reason in NOT_OF_SESSIONS.items():
        if name in named:
            raise ApiError(400, f"{name} is no field of session.config: {reason}", name, "invalid_value")
    of_sessions = {name: named.pop(name) for name in list(named) if name in SoundFields.model_fields}
    return Configuration(_validated(SpeechBody, named), _validated(SoundFields, of_sessions))


def _validated(kind: type[Any], fields: Mapping[str, Any]) -> Any:
    try:
        return kind.model_validate(fields, strict=True)
    except ValidationError as error:
        raise invalid_field(error) from error
