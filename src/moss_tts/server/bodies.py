"""Bodies of requests: JSON as it is sent, or a multipart form with files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

import anyio.to_thread
from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request

from moss_tts.server.errors import ApiError, invalid_field

Body = TypeVar("Body", bound=BaseModel)
MAX_FILES, MAX_FIELDS = 32, 200


@dataclass(frozen=True)
class Received(Generic[Body]):
    """A body whose fields are each what they should be, and its files by the names that fields call them."""

    body: Body
    files: Mapping[str, bytes] = field(default_factory=dict)


async def receive(request: Request, kind: type[Body], max_body: int) -> Received[Body]:
    """The body of a request.

    Raises:
        ApiError: another type, or a field that is not what it should be.
    """
    match request.headers.get("content-type", "").partition(";")[0].strip().lower():
        case "application/json":
            content = await request.body()
            # Bodies may hold megabytes of audio, which other requests should not wait for.
            return await anyio.to_thread.run_sync(partial(_from_json, content, kind))
        case "multipart/form-data":
            async with request.form(max_files=MAX_FILES, max_fields=MAX_FIELDS, max_part_size=max_body) as form:
                values, files = await _from_form(form, kind)
            return Received(_validated(kind, values), files)
        case other:
            raise ApiError(
                415, f"send application/json or multipart/form-data; got {other[:100] or 'no content-type'}", None
            )


def _from_json(content: bytes, kind: type[Body]) -> Received[Body]:
    try:
        return Received(kind.model_validate_json(content, strict=True))
    except ValidationError as error:
        raise invalid_field(error) from error


def _validated(kind: type[Body], values: Mapping[str, Any]) -> Body:
    """Values of a form are all text: numbers among them are read, as far as fields are numbers."""
    try:
        return kind.model_validate(values, strict=False)
    except ValidationError as error:
        raise invalid_field(error) from error


async def _from_form(form: FormData, kind: type[Body]) -> tuple[dict[str, Any], dict[str, bytes]]:
    values: dict[str, list[Any]] = {}
    files: dict[str, bytes] = {}
    for name, value in form.multi_items():
        if not isinstance(value, UploadFile):
            values.setdefault(name, []).append(_structured(name, value))
            continue
        is_field = name in kind.model_fields
        key = f"{name}#{len(values.get(name, []))}" if is_field else name
        files[key] = await value.read()
        if is_field:
            values.setdefault(name, []).append(f"upload:{key}")
    return {name: given[0] if len(given) == 1 else given for name, given in values.items()}, files


def _structured(name: str, value: str) -> Any:
    """Lists and objects are sent as JSON."""
    if name not in ("conversation", "dialogue_speakers"):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"{name}: not JSON: {error}", name, "invalid_value") from error
