"""`POST /v1/audio/speech/batch`: several requests in one, each as it would be alone."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest
import requests

pytest.importorskip("fastapi", reason="the extra server is not installed")

from moss_tts.audio.files import decode_audio, encode_audio
from support.serving import Serving, assert_same_speech, serving, wait_until

BATCH = "/v1/audio/speech/batch"
ENDLESS = {"input": "A text.", "runaway_guard": False, "text_temperature": 0.0, "seed": 1}
SHORT = {"max_tokens": 8, "response_format": "pcm"}


@pytest.fixture(scope="module")
def served(checkpoints, tmp_path_factory) -> Any:
    with serving(checkpoints["delay"], tmp_path_factory.mktemp("voices"), max_chars=500) as running:
        yield running


def batch(served: Serving, *items: dict[str, Any], **shared: Any) -> dict[str, Any]:
    response = served.post(BATCH, json={"items": items, **shared})
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    answer = response.json()
    assert [result["index"] for result in answer["results"]] == list(range(len(items)))
    succeeded = [result for result in answer["results"] if result["status"] == "success"]
    counts = {"total": len(items), "succeeded": len(succeeded), "failed": len(items) - len(succeeded)}
    assert {name: answer[name] for name in counts} == counts
    assert answer["id"].startswith("speech-batch-")
    return answer


def audio(result: dict[str, Any]) -> bytes:
    return base64.b64decode(result["audio_data"])


def test_each_item_is_what_it_is_alone(served):
    long = {"input": "The first sentence. " * 8, "seed": 3, "long_form": True, "long_form_max_chars": 60}
    long |= {"long_form_min_chars": 20, "long_form_target_chars": 40}
    items = [{"input": "Hello, 3 of you", "seed": 1}, long, {"input": "Slower", "seed": 2, "speed": 0.5}]
    for item, result in zip(items, batch(served, *items, **SHORT)["results"], strict=True):
        alone = served.model.say(
            **{"text" if name == "input" else name: value for name, value in item.items()}, max_tokens=8
        )
        assert_same_speech(np.frombuffer(audio(result), "<i2"), alone.audio)
        assert (result["seed"], result["finish_reason"]) == (item["seed"], alone.finish_reason)
        assert result["usage"]["output_tokens"] == alone.timings.frames
        assert result["media_type"] == "audio/pcm"


def test_other_fields_hold_for_items_that_do_not_have_them(served):
    items = [{"input": "One", "response_format": "wav"}, {"input": "Two", "seed": 9, "timestamps": "segment"}]
    first, second = batch(served, *items, seed=4, max_tokens=8, response_format="flac")["results"]
    assert (first["media_type"], first["seed"], "segments" in first) == ("audio/wav", 4, False)
    assert (second["media_type"], second["seed"]) == ("audio/flac", 9)
    assert second["segments"][0]["end"] == pytest.approx(decode_audio(audio(second)).seconds, abs=1e-3)


def test_a_voice_of_an_item_replaces_that_of_all(served):
    """A voice and a recording together would be an error."""
    recording = (0.1 * np.random.default_rng(0).standard_normal(24000)).astype(np.float32)
    uri = "data:audio/wav;base64," + base64.b64encode(encode_audio(recording, 24000, ".wav")).decode()
    results = batch(served, {"input": "One"}, {"input": "Two", "reference": uri}, voice="nobody", **SHORT)["results"]
    assert (results[0]["status"], results[0]["param"], results[0]["code"]) == ("error", "voice", "voice_not_found")
    assert results[1]["status"] == "success"


@pytest.mark.parametrize(
    ("item", "param"),
    [
        ({"input": "One", "bogus": 1}, "bogus"),
        ({"input": " "}, "input"),
        ({}, "input"),
        ({"input": "x" * 501}, "input"),
        ({"input": "One", "model": "another"}, "model"),
        ({"input": "One", "seed": "x"}, "seed"),
        ({"input": "One", "reference": "/etc/passwd"}, "reference"),
        ({"input": "One", "stream": True}, "stream"),
        ({"input": "One", "stream_format": "sse"}, "stream_format"),
    ],
)
def test_a_failed_item_does_not_lose_the_others(served, item, param):
    before, failed, after = batch(served, {"input": "One"}, item, {"input": "Three"}, **SHORT)["results"]
    assert (failed["status"], failed["param"], "audio_data" in failed) == ("error", param, False)
    assert failed["error"]
    assert len(audio(before)) > 0 < len(audio(after))


@pytest.mark.parametrize(
    ("request_", "status", "param"),
    [
        ({"json": {}}, 400, "items"),
        ({"json": {"items": []}}, 400, "items"),
        ({"json": {"items": [{"input": "a"}] * 33}}, 400, "items"),
        ({"json": {"items": ["a"]}}, 400, "items"),
        ({"json": {"items": [{"input": "a"}], "bogus": 1}}, 400, "bogus"),
        ({"data": {"items": "a"}}, 415, None),
        ({"data": "{", "headers": {"Content-Type": "application/json"}}, 400, None),
    ],
)
def test_a_batch_that_is_none_is_an_error(served, request_, status, param):
    headers = request_.pop("headers", {})
    response = requests.post(served.url + BATCH, headers=headers, timeout=60, **request_)
    assert (response.status_code, response.json()["error"]["param"]) == (status, param)


def test_items_take_places_as_requests_do(checkpoints, tmp_path):
    with serving(checkpoints["delay"], tmp_path, max_batch=2, max_waiting=0, max_frames=10**6) as served:
        answer = batch(served, *({"input": f"Number {number}", "seed": number} for number in range(5)), **SHORT)
        assert answer["succeeded"] == 5
        with served.open(ENDLESS), served.open(ENDLESS):
            wait_until(lambda: served.counter('moss_tts_requests{state="running"}') == 2)
            response = served.post(BATCH, json={"items": [{"input": "One"}]})
            assert (response.status_code, response.json()["error"]["code"]) == (503, "overloaded")
            assert "Retry-After" in response.headers
        served.wait_until_idle()
        # One place is taken: the items have the other one, one after the other.
        with served.open(ENDLESS):
            wait_until(lambda: served.counter('moss_tts_requests{state="running"}') == 1)
            assert batch(served, *({"input": f"Number {number}"} for number in range(3)), **SHORT)["succeeded"] == 3


def test_whoever_leaves_ends_all_items(checkpoints, tmp_path):
    with serving(checkpoints["delay"], tmp_path, max_batch=4) as served:
        with served.open({"items": [{"input": "One", **SHORT}, ENDLESS, ENDLESS]}, BATCH) as connection:
            response = connection.getresponse()
            assert response.status == 200
            start = response.read(200)
            assert json.loads(start.partition(b'"results": [')[0] + b'"results": []}')["id"]
            wait_until(lambda: served.device.running == 2)
        served.wait_until_idle()
        assert served.outcome("cancelled") == 2
        assert served.outcome("ok") == 1


def test_a_key_is_asked_for(checkpoints, tmp_path):
    with serving(checkpoints["delay"], tmp_path, api_key="secret") as served:
        served.headers.clear()
        assert served.post(BATCH, json={"items": [{"input": "One"}]}).status_code == 401
