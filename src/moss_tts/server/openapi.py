"""The parts of the schema at /openapi.json that FastAPI does not know: bodies, defaults, examples, errors.

Bodies are read by bodies.py, so FastAPI does not see them. What depends on the loaded model (defaults, the field that a
request cannot do without) is filled in when the schema is first asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from fastapi import FastAPI
from pydantic import BaseModel

from moss_tts.server.abilities import Abilities
from moss_tts.server.schema import BatchBody, SpeechBody, VoiceBody
from moss_tts.server.settings import Settings

Json = dict[str, Any]
# The meaning of an error, by its status.
MEANINGS: Final = {
    400: "A field is wrong; error.param names it.",
    401: "The API key is missing or wrong. Send the header Authorization: Bearer KEY.",
    403: "The name in the header Host is not one of the server's, or the page of another site sent the request.",
    404: "There is no such model or voice.",
    408: "The body did not arrive in time.",
    409: "A voice of this name exists already, or requests use the model.",
    413: "The body is too large.",
    415: "The type of the body is not one of those that are allowed.",
    422: "The model made no audio for this request.",
    426: "The request is no WebSocket, and this path takes nothing else.",
    500: "The server failed. Its log says more.",
    503: "Too many requests are running and waiting, the server is stopping (Retry-After says when to try again), or "
    "the model cannot be loaded.",
    504: "The request took longer than the server allows.",
}
ERROR_SCHEMA: Final[Json] = {
    "title": "Error",
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string", "description": "What is wrong and what is allowed, for people."},
                "type": {"type": "string", "enum": ["invalid_request_error", "server_error"]},
                "param": {"type": ["string", "null"], "description": "The field of the request that is wrong."},
                "code": {"type": ["string", "null"], "description": "A word for programs."},
            },
        }
    },
    "example": {
        "error": {
            "message": "seed: Input should be greater than or equal to 0; got -1",
            "type": "invalid_request_error",
            "param": "seed",
            "code": "invalid_value",
        }
    },
}
# Bodies, and their fields that are files in a form; without any, there is no form.
FILES: Final[dict[type[BaseModel], tuple[str, ...]]] = {
    SpeechBody: ("reference", "ref_audio"),
    VoiceBody: ("audio_sample",),
    BatchBody: (),
}
# FastAPI lists its own errors, which this server never sends.
FOREIGN: Final = ("HTTPValidationError", "ValidationError")
# Stands for the server's address in examples.
ADDRESS: Final = "$SERVER"
METHODS: Final = ("get", "post", "delete")


def errors(*statuses: int) -> dict[int | str, Json]:
    """Answers that are errors, for the schema."""
    content = {"application/json": {"schema": _reference("Error")}}
    return {status: {"description": MEANINGS[status], "content": content} for status in statuses}


def answer_like(description: str, example: Json, status: int = 200) -> dict[int | str, Json]:
    """A good answer in JSON, with an example."""
    return {status: {"description": description, "content": {"application/json": {"example": example}}}}


def body_of(kind: type[BaseModel], requests: Json | None = None) -> Json:
    """A body for the schema: JSON with examples, or a form with recordings as files."""
    json_body = {"schema": _reference(kind.__name__), **({"examples": requests} if requests else {})}
    form = {"schema": _reference(_form_name(kind))}
    return {"requestBody": {"required": True, "content": {"application/json": json_body, "multipart/form-data": form}}}


def json_body_of(kind: type[BaseModel], requests: Json) -> Json:
    """A body for the schema that is JSON alone, with examples."""
    body = {"schema": _reference(kind.__name__), "examples": requests}
    return {"requestBody": {"required": True, "content": {"application/json": body}}}


def _reference(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _form_name(kind: type[BaseModel]) -> str:
    return f"{kind.__name__.removesuffix('Body')}Form"


def commands(samples: dict[str, str]) -> Json:
    """Commands that show an operation, by what they do; SERVER stands for its address."""
    return {
        "x-codeSamples": [
            {"lang": "Shell", "label": label, "source": source.replace("SERVER", ADDRESS)}
            for label, source in samples.items()
        ]
    }


def describe(app: FastAPI, settings: Settings, abilities: Abilities) -> None:
    """Complete the schema of an application once all routes are there."""
    generate = app.openapi

    def openapi() -> Json:
        if app.openapi_schema is None:
            app.openapi_schema = _completed(generate(), settings, abilities)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _completed(described: Json, settings: Settings, abilities: Abilities) -> Json:
    schemas = described.setdefault("components", {}).setdefault("schemas", {})
    for kind, files in FILES.items():
        schema = kind.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= schema.pop("$defs", {})
        if kind is SpeechBody:
            _fill_in(schema, abilities)
        if kind is BatchBody:
            schema["properties"]["items"]["items"] = _reference(SpeechBody.__name__)
        schemas[kind.__name__] = schema
        if files:
            properties = schema["properties"] | _as_files(schema, files)
            schemas[_form_name(kind)] = {**schema, "title": _form_name(kind), "properties": properties}
    schemas["Error"] = ERROR_SCHEMA
    for name in FOREIGN:
        schemas.pop(name, None)
    for operation in _operations(described):
        _without_foreign_errors(operation)
    if settings.api_key is not None:
        _with_key(described)
    return described


def _as_files(schema: Json, fields: tuple[str, ...]) -> Json:
    """Fields of a form that are files, several of one name where there are several recordings."""
    described = {name: schema["properties"][name]["description"] for name in fields}
    return {
        name: {"type": "array", "items": {"type": "string", "format": "binary"}, "description": description}
        for name, description in described.items()
    }


def _fill_in(speech: Json, abilities: Abilities) -> None:
    """Fill in what the loaded model decides: default values, and the field that is required."""
    for name, value in abilities.defaults.items():
        speech["properties"][name]["default"] = value
    speech["anyOf"] = [{"required": [name]} for name in (abilities.prompt_field, "conversation")]


def _operations(described: Json) -> Iterator[Json]:
    for path in described["paths"].values():
        yield from (path[method] for method in METHODS if method in path)


def _without_foreign_errors(operation: Json) -> None:
    listed = operation["responses"]
    if any(name in str(listed.get("422")) for name in FOREIGN):
        del listed["422"]
        listed |= {str(status): error for status, error in errors(400).items()}


def _with_key(described: Json) -> None:
    described["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for path, methods in described["paths"].items():
        if not path.startswith("/v1") and path != "/metrics":
            continue
        for operation in methods.values():
            operation["security"] = [{"key": []}]
            operation["responses"] |= {str(status): error for status, error in errors(401).items()}
            for sample in operation.get("x-codeSamples", ()):
                sample["source"] = sample["source"].replace("curl ", "curl -H 'Authorization: Bearer KEY' ")
