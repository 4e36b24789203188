"""What clients of OpenAI's send out of habit: other fields, other letters, other paths."""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

pytest.importorskip("fastapi", reason="the extra server is not installed")

from moss_tts.audio.files import encode_audio
from support.serving import serving

CASES = Path(__file__).parent.parent / "cases" / "recordings"
JSON = {"Content-Type": "application/json"}
BODY = {"input": "Hello.", "max_tokens": 4, "seed": 1, "response_format": "pcm"}


@pytest.fixture(scope="module")
def served(checkpoints, tmp_path_factory) -> Any:
    with serving(checkpoints["delay"], tmp_path_factory.mktemp("voices")) as running:
        yield running


@pytest.mark.parametrize(
    "field",
    [
        {"user": "user-1234"},
        {"safety_identifier": "a1b2"},
        {"prompt_cache_key": "x"},
        {"metadata": {"order": "7"}},
        {"service_tier": "auto"},
        {"store": False},
    ],
)
def test_fields_that_mean_no_other_audio_change_none(served, field):
    plain = served.post(json=BODY)
    assert plain.status_code == 200
    assert served.post(json=BODY | field).content == plain.content


@pytest.mark.parametrize("field", [{"store": True}, {"service_tier": "priority"}, {"user": 7}, {"users": "x"}])
def test_what_would_be_a_promise_is_refused(served, field):
    response = served.post(json=BODY | field)
    assert (response.status_code, response.json()["error"]["param"]) == (400, next(iter(field)))


def test_a_byte_order_mark_is_skipped(served):
    content = BOM_UTF8 + json.dumps(BODY).encode()
    response = requests.post(f"{served.url}/v1/audio/speech", content, headers=JSON, timeout=60)
    assert response.status_code == 200, response.text


@pytest.mark.parametrize("voice", ["alloy", "Alloy", "ALLOY", "Default", {"id": "Nova"}])
def test_case_does_not_matter_in_openai_s_names(served, voice):
    assert served.post(json=BODY | {"voice": voice}).status_code == 200


def test_case_does_not_matter_in_names_of_voices(served):
    recording = encode_audio(0.1 * np.random.default_rng(0).standard_normal(24000), 24000, ".wav")
    added = served.post("/v1/audio/voices", data={"name": "carol"}, files={"audio_sample": recording})
    assert added.status_code == 201
    wanted = served.post(json=BODY | {"voice": "carol"}).content
    assert served.post(json=BODY | {"voice": "Carol"}).content == wanted
    assert served.post(json=BODY | {"reference": "voice:CAROL"}).content == wanted
    assert served.post(json=BODY).content != wanted
    assert served.get("/v1/audio/voices/Carol").json()["id"] == "carol"
    assert "no voice 'Dave'" in served.post(json=BODY | {"voice": "Dave"}).json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "nearest"),
    [
        ("/audio/speech", "POST /v1/audio/speech"),
        ("/v1/audio/speach", "POST /v1/audio/speech"),
        ("/v1/audio/speech/", "POST /v1/audio/speech"),
        ("/v1/v1/audio/speech", "POST /v1/audio/speech"),
        ("/models", "GET /v1/models"),
        ("/v1/audio/voice", "GET or POST /v1/audio/voices"),
        ("/audio/voices/bob", "DELETE or GET /v1/audio/voices/bob"),
        ("/heath", "GET /health"),
    ],
)
def test_an_unknown_path_is_told_the_nearest(served, path, nearest):
    response = served.post(path, json=BODY)
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (404, "unknown_url")
    assert error["message"] == f"there is no {path} here; the nearest is {nearest}"


@pytest.mark.parametrize(
    "path", ["/v1/speech", "/v1/chat/completions", "/v1/audio/transcriptions", "/x", "/" + "y" * 5000]
)
def test_other_paths_are_told_where_to_look(served, path):
    response = served.post(path, json=BODY)
    assert response.status_code == 404
    assert "POST /v1/audio/speech" in response.json()["error"]["message"]
    assert len(response.text) < 1000


@pytest.mark.parametrize("path", ["/", "/docs", "/health", "/metrics", "/v1/models", "/static/page.js"])
def test_probes_may_ask_for_the_head_alone(served, path):
    head = requests.head(served.url + path, timeout=60)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == requests.get(served.url + path, timeout=60).headers["content-type"]


def test_the_head_of_what_takes_no_get_is_refused(served):
    assert requests.head(served.url + "/v1/audio/speech", timeout=60).status_code == 405


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/audio/speech", "POST"),
        ("DELETE", "/v1/audio/voices", "GET, POST"),
        ("POST", "/v1/audio/voices/bob", "DELETE, GET"),
        ("POST", "/health", "GET"),
        ("POST", "/", "GET"),
        ("POST", "/static/page.js", "GET"),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(served, method, path, allowed):
    response = requests.request(method, served.url + path, timeout=60)
    assert (response.status_code, response.headers["allow"]) == (405, allowed)
    assert response.json()["error"]["message"] == f"{path} takes {allowed.replace(', ', ' or ')}, not {method}"


@pytest.mark.parametrize("name", sorted(file.name for file in CASES.iterdir()))
def test_recordings_of_all_kinds_are_heard_or_refused(served, name):
    response = served.post(data=BODY, files={"reference": (CASES / name).read_bytes()})
    refused = name in ("out_of_phase.wav", "unknown_codec.webm")
    assert response.status_code == (400 if refused else 200), response.text
    if refused:
        assert "\n" not in response.json()["error"]["message"]
