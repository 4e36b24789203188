"""The times of segments over HTTP: as events, and as a part behind the audio."""

from __future__ import annotations

import base64
import email
import email.policy
import json
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the extra server is not installed")

from moss_tts.audio.files import decode_audio
from moss_tts.checkpoints.packaged import packaged_voice
from support.serving import Serving, serving

BODY = {"input": "It was cold.\n\n[pause 1s]\n\nThen it rained.", "seed": 1, "timestamps": "segment"}


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Any:
    with serving(packaged_voice(), tmp_path_factory.mktemp("voices")) as running:
        yield running


@pytest.fixture(scope="module")
def cues(served: Serving) -> list[dict[str, Any]]:
    speech = served.model.say(BODY["input"], seed=1)
    return [{"id": number, **cue.as_json()} for number, cue in enumerate(speech.cues)]


def parts(response: Any) -> tuple[bytes, dict[str, Any]]:
    """The audio and the JSON of an answer, as Python's own parser of such answers sees them."""
    head = f"Content-Type: {response.headers['content-type']}\r\n\r\n".encode()
    message = email.message_from_bytes(head + response.content, policy=email.policy.HTTP)
    audio, told = message.iter_parts()
    assert audio.get_content_maintype() == "audio"
    return audio.get_payload(decode=True), json.loads(told.get_payload(decode=True))


@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_of_two_parts(served, cues, stream):
    response = served.post(json=BODY | {"response_format": "wav", "stream": stream})
    content, told = parts(response)
    assert told["segments"] == cues
    assert (told["seed"], told["finish_reason"]) == (1, "stop")
    assert ("content-length" in response.headers) is not stream
    plain = served.post(json={**BODY, "timestamps": None, "response_format": "wav", "stream": stream})
    assert plain.headers["content-type"] == "audio/wav"
    assert np.array_equal(decode_audio(content).samples, decode_audio(plain.content).samples)


def test_events_come_behind_the_audio_of_their_segments(served, cues):
    body = BODY | {"stream_format": "sse", "response_format": "pcm", "streaming_interval": 0.2}
    lines = served.post(json=body).text.split("\n\n")
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line]
    samples, found = 0, []
    for event in events:
        if event["type"] == "speech.audio.delta":
            samples += len(base64.b64decode(event["audio"])) // 2
        if event["type"] == "speech.segment":
            assert samples / 24000 >= event["end"] - 1e-4
            found.append({name: value for name, value in event.items() if name != "type"})
    assert found == cues
    assert [event["type"] for event in events].index("speech.segment") < len(events) - 3
    assert events[-1]["type"] == "speech.audio.done"


@pytest.mark.parametrize("format_", ["mp3", "aac"])
def test_times_are_those_of_the_decoded_stream(served, cues, format_):
    """These streams begin with silence that decoders do not take away."""
    content, told = parts(served.post(json=BODY | {"response_format": format_}))
    waveform = decode_audio(content)
    late = told["segments"][1]["start"] - cues[1]["start"]
    assert 0.02 < late < 0.05
    middle = told["segments"][0]["end"] + 0.5
    pause = slice(round((middle - 0.4) * waveform.sample_rate), round((middle + 0.4) * waveform.sample_rate))
    assert np.abs(waveform.samples[..., pause]).max() < 1e-3
    assert waveform.seconds == pytest.approx(told["segments"][1]["end"], abs=0.06)


def test_other_kinds_are_refused(served):
    response = served.post(json=BODY | {"timestamps": "word"})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "timestamps"
