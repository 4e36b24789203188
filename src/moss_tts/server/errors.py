"""Errors as OpenAI's clients expect them: a status, and which field was wrong."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from moss_tts.errors import AudioError, MossTTSError, RequestError

# A message repeats no more of a value than this.
MOST_CHARACTERS = 400


class ApiError(Exception):
    """An answer that is an error.

    Args:
        status: the status code of HTTP.
        message: what is wrong, what was given, what is allowed.
        param: the field of the request that is wrong.
        code: a word for programs.
        headers: the headers of the response.
    """

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, shortened(message), param, code
        self.headers = headers or {}

    @property
    def body(self) -> dict[str, Any]:
        """The response's JSON."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


def shortened(message: str) -> str:
    """A message of readable length."""
    if len(message) <= MOST_CHARACTERS:
        return message
    half = MOST_CHARACTERS // 2
    return f"{message[:half]} [...] {message[-half:]}"


def invalid_field(error: ValidationError) -> ApiError:
    """The first thing that is wrong with a body."""
    first = error.errors(include_url=False, include_context=False)[0]
    # Of a field that may be several things, pydantic names the branch as well: only the field is the client's.
    path = [str(step) for step in first["loc"] if str(step).isidentifier() or str(step).isdigit()]
    # A field that does not exist may have any name.
    param = path[0][:100] if path else None
    given = "" if first["type"] in ("missing", "json_invalid", "extra_forbidden") else f"; got {_shown(first['input'])}"
    message = "there is no such field" if first["type"] == "extra_forbidden" else first["msg"]
    return ApiError(400, f"{'.'.join(path) or 'body'}: {message}{given}", param, "invalid_value")


def _shown(value: object) -> str:
    """A value in a message, without writing out all of a long one."""
    if isinstance(value, str | bytes) and len(value) > 80:
        return f"{value[:80]!r}... ({len(value)} long)"
    return shortened(repr(value)) if not isinstance(value, dict | list) else type(value).__name__


def refused(error: MossTTSError, fields: Iterable[str]) -> ApiError:
    """What the package refuses, with the field that its message names first.

    Args:
        error: RequestError or AudioError are the client's; others are not.
        fields: the fields that the client gave.
    """
    if not isinstance(error, RequestError | AudioError):
        return ApiError(500, str(error), code="failed")
    places = {name: match.start() for name in fields if (match := re.search(rf"\b{name}\b", str(error)))}
    if isinstance(error, AudioError) and not places:
        places = {"reference": 0}
    return ApiError(400, str(error), min(places, key=places.__getitem__, default=None), "invalid_value")
