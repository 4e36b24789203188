"""What the server says of itself: what the model can be asked for, how far a speech is, the schema of its routes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra server is not installed")

import numpy as np

from moss_tts.model import Model
from moss_tts.server.progress import Progress
from moss_tts.speaking.engine import SpeechChunk
from moss_tts.speaking.hosted_texts import SegmentChunk
from support.sentences import is_a_sentence
from support.serving import Serving, serving

TEXT = "The first one is here. " * 12 + "\n\n" + "And here is another one. " * 12
LONG = {"long_form": True, "long_form_min_chars": 40, "long_form_target_chars": 80, "long_form_max_chars": 160}
SSE = {"seed": 5, "max_tokens": 12, "stream_format": "sse", "response_format": "pcm"}


@pytest.fixture(scope="module")
def served(checkpoints, tmp_path_factory) -> Any:
    with serving(checkpoints["delay"], tmp_path_factory.mktemp("voices"), max_frames=500, max_chars=900) as running:
        yield running


@pytest.fixture(scope="module")
def schema(served) -> Any:
    return served.get("/openapi.json").json()


# ----------------------------------------------------------------------------------------------- abilities


def test_the_model_says_what_it_can_be_asked_for(served, delay_model):
    [model] = served.get("/v1/models").json()["data"]
    assert model["fields"] == ["instructions", "reference", "language", "duration_s", "long_form"]
    assert (model["prompt_field"], model["language"], model["voice"]) == ("input", None, None)
    assert model["limits"] == {
        "characters": 900,
        "prompt_rows": 8192,
        "recording_seconds": 120,
        "frames": 500,
        "body_bytes": 32 * 2**20,
    }
    audio = delay_model.request({"text": "Hello."}).sampling.audio
    assert (model["defaults"]["temperature"], model["defaults"]["audio_top_k"]) == (audio.temperature, audio.top_k)


def test_a_default_that_is_given_changes_nothing(served):
    """The defaults that the server names are those that hold."""
    [model] = served.get("/v1/models").json()["data"]
    body = {"input": "Hello there.", "seed": 1}
    # A long text's own options are for long texts.
    given = {name: value for name, value in model["defaults"].items() if not name.startswith("long_form_")}
    given["max_tokens"] = 500
    assert served.post(json={**body, **given}).content == served.post(json=body).content


# ------------------------------------------------------------------------------------------------ progress


def deltas(served: Serving, body: dict[str, Any]) -> list[dict[str, Any]]:
    response = served.post(json={**SSE, **body})
    assert response.status_code == 200, response.text
    *deltas, done = [json.loads(line.removeprefix("data: ")) for line in response.text.split("\n\n") if line]
    assert done["type"] == "speech.audio.done"
    return deltas


@pytest.mark.parametrize("body", [{"input": "Hello there."}, {"input": TEXT, **LONG}])
def test_events_tell_how_far_the_speech_is(served, body):
    shares = [delta["progress"] for delta in deltas(served, {**body, "verbose": True, "streaming_interval": 0.2})]
    assert len(shares) > 2
    assert shares == sorted(shares)
    assert 0 < shares[0] < shares[-1] < 1


def test_events_are_openai_s_unless_more_is_asked_for(served):
    assert all(delta.keys() == {"type", "audio"} for delta in deltas(served, {"input": "Hello there."}))


def seconds(count: float, segment: int) -> SegmentChunk:
    return SegmentChunk(np.zeros(int(count * 1000)), np.zeros((0, 1)), segment=segment)


def test_progress_is_exact_between_segments(delay_model: Model):
    request = delay_model.request({"text": TEXT, **LONG})
    progress = Progress(request, 1000)
    sizes = [len(segment.text) for segment in request.plan]
    for index in range(len(sizes)):
        before = sum(sizes[:index]) / sum(sizes)
        assert before <= progress.after(seconds(0.001, index)) < before + 0.01
        # However long a segment goes on, it is not over before the next one comes.
        assert before < progress.after(seconds(1000, index)) < sum(sizes[: index + 1]) / sum(sizes)


def test_progress_knows_a_length_that_was_asked_for(delay_model: Model):
    half = SpeechChunk(np.zeros(5000), np.zeros((0, 1)))
    text = delay_model.request({"text": "Hello there, how are you?", "duration_s": 10.0})
    sound = delay_model.request({"preset": "soundeffect", "ambient_sound": "Rain", "duration_s": 10.0})
    for request in (text, sound):
        assert Progress(request, 1000).after(half) == pytest.approx(0.5)
    unknown = delay_model.request({"preset": "soundeffect", "ambient_sound": "Rain"})
    assert Progress(unknown, 1000).after(half) is None


# -------------------------------------------------------------------------------------------------- schema


def operations(schema: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{method} {path}": operation for path, all_ in schema["paths"].items() for method, operation in all_.items()
    }


def test_every_operation_is_described_with_its_answers(schema):
    for name, operation in operations(schema).items():
        assert operation["description"], name
        assert len(operation["tags"]) == 1, name
        good, *bad = sorted(operation["responses"])
        assert good in ("101", "200", "201"), name
        assert bad or name in ("get /v1/models", "get /v1/audio/voices", "get /metrics"), name
        for status, response in operation["responses"].items():
            assert response["description"] not in ("", "Successful Response"), (name, status)
            is_json = "application/json" in response.get("content", {})
            if status < "400" and is_json:
                assert response["content"]["application/json"]["example"], (name, status)


def test_fastapi_s_own_errors_are_not_promised(schema):
    assert "ValidationError" not in json.dumps(schema)


def test_errors_have_the_shape_that_is_described(served, schema):
    error = schema["components"]["schemas"]["Error"]["properties"]["error"]
    answer = served.post(json={"input": "Hi.", "seed": -1}).json()["error"]
    assert answer.keys() == set(error["required"]) == error["properties"].keys()
    assert schema["components"]["schemas"]["Error"]["example"]["error"] == answer


def test_every_field_is_described(schema):
    for kind in ("SpeechBody", "VoiceBody", "BatchBody"):
        for name, field in schema["components"]["schemas"][kind]["properties"].items():
            assert field.get("description"), name


def test_what_is_required_is_marked(served, schema):
    schemas = schema["components"]["schemas"]
    assert schemas["SpeechBody"]["anyOf"] == [{"required": ["input"]}, {"required": ["conversation"]}]
    for name in schemas["VoiceBody"]["required"]:
        body = {"name": "bob", "audio_sample": "data:audio/wav;base64,AAAA"}
        refused = served.post("/v1/audio/voices", json={field: value for field, value in body.items() if field != name})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, name)


def descriptions(described: Any) -> Iterator[str]:
    """All descriptions in a schema, however deep."""
    for name, value in described.items() if isinstance(described, dict) else enumerate(described):
        if name == "description" and isinstance(value, str):
            yield value
        elif name not in ("example", "examples") and isinstance(value, dict | list):
            yield from descriptions(value)


def test_descriptions_are_sentences(schema):
    found = set(descriptions(schema))
    assert len(found) > 80
    assert not [text for text in found if not is_a_sentence(text)]


def test_defaults_are_the_loaded_model_s(served, schema):
    [model] = served.get("/v1/models").json()["data"]
    properties = schema["components"]["schemas"]["SpeechBody"]["properties"]
    assert {name: properties[name]["default"] for name in model["defaults"]} == model["defaults"]
    assert properties["response_format"]["default"] == "mp3"


def test_examples_are_what_the_server_takes(served, schema):
    """Those that this model has no use for are refused for that alone."""
    body = schema["paths"]["/v1/audio/speech"]["post"]["requestBody"]["content"]["application/json"]
    for name, example in body["examples"].items():
        response = served.post(json={**example["value"], "max_tokens": 4})
        expected = {"voice": "no voice 'alice'", "dialogue": "no voice 'alice'", "sound": "The text is empty"}.get(name)
        assert response.status_code == (400 if expected else 200), (name, response.text)
        assert expected is None or expected in response.text


def test_items_of_a_batch_are_requests_for_speech(schema):
    items = schema["components"]["schemas"]["BatchBody"]["properties"]["items"]
    assert (items["items"], items["maxItems"]) == ({"$ref": "#/components/schemas/SpeechBody"}, 32)


def test_the_command_for_a_batch_is_what_the_server_takes(served, schema):
    [sample] = schema["paths"]["/v1/audio/speech/batch"]["post"]["x-codeSamples"]
    body = re.search(r"-d '(.*)'", sample["source"])[1]
    answer = served.post("/v1/audio/speech/batch", json=json.loads(body) | {"max_tokens": 4}).json()
    assert answer["succeeded"] == 2


def test_a_key_is_part_of_the_schema_where_the_server_wants_one(checkpoints, schema, tmp_path):
    assert "securitySchemes" not in schema["components"]
    with serving(checkpoints["delay"], tmp_path, api_key="secret") as locked:
        described = locked.get("/openapi.json").json()
    for name, operation in operations(described).items():
        is_open = name == "get /health"
        assert ("security" in operation, "401" in operation["responses"]) == (not is_open, not is_open), name
        for sample in operation.get("x-codeSamples", ()):
            assert "Authorization: Bearer" in sample["source"]
