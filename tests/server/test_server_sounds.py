"""A server with a sound model: OpenAI's route makes sounds, says how far they are, and stays open for others."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator

import numpy as np
import pytest

import moss_tts
from support.serving import PATIENCE, Serving, serving
from support.sounds import GOLDEN

RAIN = {"input": "Rain on tin.", "seconds": 0.5, "steps": 3, "seed": 1}


@pytest.fixture(scope="module")
def sounds(tmp_path_factory) -> Iterator[Serving]:
    with serving(GOLDEN, tmp_path_factory.mktemp("voices")) as running:
        yield running


@pytest.fixture(scope="module")
def wanted() -> np.ndarray:
    with moss_tts.load(GOLDEN) as model:
        return model.say(ambient_sound="Rain on tin.", seconds=0.5, steps=3, seed=1).audio


def assert_same(heard: np.ndarray, audio: np.ndarray) -> None:
    np.testing.assert_allclose(heard / 32768, audio, atol=2e-3)


@pytest.mark.parametrize("field", ["input", "ambient_sound"])
@pytest.mark.parametrize("stream", [None, False])
def test_a_request_gives_the_sound_of_say(sounds, wanted, field, stream):
    body = {field if name == "input" else name: value for name, value in RAIN.items()} | {"stream": stream}
    response = sounds.post(json=body | {"response_format": "pcm"})
    assert response.status_code == 200, response.text
    assert (response.headers["x-sample-rate"], response.headers["x-channels"]) == ("1200", "1")
    assert response.headers["x-seed"] == "1"
    assert_same(np.frombuffer(response.content, "<i2"), wanted)


def test_events_say_how_far_the_sound_is(sounds, wanted):
    response = sounds.post(json=RAIN | {"response_format": "pcm", "stream_format": "sse", "verbose": True})
    events = [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: ")]
    kinds = [event["type"] for event in events]
    assert kinds == ["speech.audio.progress"] * 3 + ["speech.audio.delta", "speech.audio.done"]
    shares = [event["progress"] for event in events[:4]]
    assert shares == sorted(set(shares))
    assert shares[-1] == 1
    assert_same(np.frombuffer(base64.b64decode(events[3]["audio"]), "<i2"), wanted)
    assert events[4]["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"stream": True}, "cannot be streamed"),
        ({"seconds": 3.5}, "seconds must be in 0.1..3"),
        ({"steps": 0}, "steps"),
        ({"input": " "}, "ambient_sound is empty"),
        ({"input": "gravel and glass " * 100}, "at most 512"),
        ({"conversation": [{"role": "user", "text": "x"}]}, "takes no conversation"),
    ],
)
def test_bad_requests_are_refused(sounds, change, words):
    response = sounds.post(json=RAIN | change)
    assert response.status_code == 400, response.text
    assert words in response.json()["error"]["message"]


def test_options_of_speech_are_named_in_a_header(sounds):
    response = sounds.post(json=RAIN | {"temperature": 0.5, "instructions": "softly"})
    assert response.status_code == 200
    assert "temperature has no meaning" in response.headers["x-warning"]
    assert "instruction has no meaning" in response.headers["x-warning"]


def test_the_model_says_what_it_follows(sounds):
    [model] = sounds.get("/v1/models").json()["data"]
    assert (model["preset"], model["prompt_field"], model["sample_rate"]) == ("soundeffect_v2", "ambient_sound", 1200)
    assert model["fields"] == ["duration_s", "negative_prompt", "steps", "guidance", "shift", "duration_suffix"]
    assert (model["defaults"]["steps"], model["limits"]["seconds"]) == (100, 3)


def test_voices_cannot_be_registered(sounds):
    clip = {"audio_sample": ("a.wav", (GOLDEN / "cases.json").read_bytes())}
    response = sounds.post("/v1/audio/voices", data={"name": "alice"}, files=clip)
    assert response.status_code == 400


def test_others_are_answered_between_two_steps_and_a_client_that_leaves_frees_the_device(sounds):
    long = RAIN | {"steps": 1000, "stream_format": "sse", "verbose": True}
    with sounds.open(long) as connection:
        assert b"progress" in connection.getresponse().readline()
        assert sounds.device.call(lambda: sounds.device.running).result(PATIENCE) == 1
    sounds.wait_until_idle()
    assert sounds.post(json=RAIN).status_code == 200


def test_two_sounds_follow_one_another(sounds, wanted):
    heard: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: heard.append(sounds.pcm(RAIN))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(heard) == 3
    for one in heard:
        assert_same(one, wanted)


def test_a_speech_model_has_no_steps(checkpoints, tmp_path):
    with serving(checkpoints["delay"], tmp_path) as running:
        response = running.post(json={"input": "Hello.", "steps": 3})
        assert response.status_code == 400
        assert "unknown option 'steps'" in response.json()["error"]["message"]
