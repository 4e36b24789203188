"""Bodies of requests: JSON as it is sent, or a multipart form with files."""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

import anyio.to_thread
from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request

from moss_tts.server.errors import ApiError, invalid_field
from moss_tts.server.settings import Settings
from moss_tts.strict import check_keys_once

Body = TypeVar("Body", bound=BaseModel)
MAX_FILES, MAX_FIELDS = 32, 200
# The most commas and brackets of JSON outside of its texts: no request needs more.
MAX_PUNCTUATION = 10_000


@dataclass(frozen=True)
class Received(Generic[Body]):
    """A body with valid fields, and its files by the names that the fields use."""

    body: Body
    files: Mapping[str, bytes] = field(default_factory=dict)


async def receive(
    request: Request, kind: type[Body], settings: Settings, on_arrived: Callable[[], None] = lambda: None
) -> Received[Body]:
    """The body of a request.

    Args:
        request: its client may still be sending.
        kind: the fields that it may have.
        settings: the settings of the server.
        on_arrived: called when the whole body is here, before it is read.

    Raises:
        ApiError: another type, or a field that is not what it should be.
    """
    match request.headers.get("content-type", "").partition(";")[0].strip().lower():
        case "application/json":
            content = await request.body()
            on_arrived()
            # Bodies may hold megabytes of audio, which other requests should not wait for.
            return await anyio.to_thread.run_sync(partial(_from_json, content, kind, settings.max_chars))
        case "multipart/form-data":
            limits = {"max_files": MAX_FILES, "max_fields": MAX_FIELDS, "max_part_size": settings.max_body}
            async with request.form(**limits) as form:
                on_arrived()
                values, files = await _from_form(form, kind, settings.max_chars)
            return Received(_validated(kind, values), files)
        case other:
            raise ApiError(
                415, f"send application/json or multipart/form-data; got {other[:100] or 'no content-type'}", None
            )


def _from_json(content: bytes, kind: type[Body], max_chars: int) -> Received[Body]:
    check_size(content, max_chars)
    # Windows programs put a byte order mark in front.
    return Received(validated(kind, content.removeprefix(BOM_UTF8)))


def validated(kind: type[Body], content: str | bytes) -> Body:
    """The fields of a body in JSON.

    Raises:
        ApiError: a field that is not what it should be.
    """
    try:
        body = kind.model_validate_json(content, strict=True)
    except ValidationError as error:
        raise invalid_field(error) from error
    _check_keys_once(content)
    return body


def _check_keys_once(content: str | bytes, field: str | None = None) -> None:
    try:
        check_keys_once(content)
    except ValueError as error:
        raise ApiError(400, f"{field or 'the body'}: {error}", field, "invalid_value") from error


def check_size(content: bytes, max_chars: int) -> None:
    """Refuse JSON that is far larger in memory than as text, such as a million fields, before it is read.

    Raises:
        ApiError: it is.
    """
    most = MAX_PUNCTUATION + max_chars
    if sum(map(content.count, (b",", b"[", b"{"))) > most:
        raise ApiError(
            400, f"the body has too many parts; at most {most} commas and brackets are allowed", code="too_large"
        )


def _validated(kind: type[Body], values: Mapping[str, Any]) -> Body:
    """Check the values. A form has only texts, which are read as numbers if their fields are numbers."""
    try:
        return kind.model_validate(values, strict=False)
    except ValidationError as error:
        raise invalid_field(error) from error


async def _from_form(form: FormData, kind: type[Body], max_chars: int) -> tuple[dict[str, Any], dict[str, bytes]]:
    values: dict[str, list[Any]] = {}
    files: dict[str, bytes] = {}
    for name, value in form.multi_items():
        if not isinstance(value, UploadFile):
            values.setdefault(name, []).append(_structured(name, value, max_chars))
            continue
        is_field = name in kind.model_fields
        key = f"{name}#{len(values.get(name, []))}" if is_field else name
        files[key] = await value.read()
        if is_field:
            values.setdefault(name, []).append(f"upload:{key}")
    return {name: given[0] if len(given) == 1 else given for name, given in values.items()}, files


def _structured(name: str, value: str, max_chars: int) -> Any:
    """Lists and objects are sent as JSON."""
    if name not in ("adapters", "conversation", "dialogue_speakers", "metadata"):
        return value
    check_size(value.encode(errors="replace"), max_chars)
    try:
        found = json.loads(value.removeprefix("\ufeff"))
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"{name}: this is not JSON: {error}", name, "invalid_value") from error
    _check_keys_once(value.removeprefix("\ufeff"), name)
    return found
