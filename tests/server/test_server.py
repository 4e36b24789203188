"""The server: what it speaks is what a single run speaks, whoever else is there; what it refuses, it names."""

from __future__ import annotations

import base64
import http.client
import io
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
import requests
import soundfile

pytest.importorskip("fastapi", reason="the extra server is not installed")

import av

import moss_tts
from moss_tts import cli
from moss_tts.audio.files import encode_audio
from moss_tts.diffusion.request import OPTIONS as SOUND_OPTIONS
from moss_tts.errors import MossTTSError
from moss_tts.prompts.options import OPTIONS
from moss_tts.server.device_thread import Device
from moss_tts.server.formats import FORMATS
from moss_tts.server.schema import OPENAI_FIELDS, SpeechBody
from moss_tts.speaking.engine import SpeechEngine
from moss_tts.voices import Voices
from support.cost import costs_at_most
from support.serving import ENDLESS_FRAMES, PATIENCE, assert_same_speech, is_open, serving, wait_until

TEXTS = [f"Sentence number {number}, and nobody else's." for number in range(24)]


@pytest.fixture(scope="module")
def served(checkpoints, tmp_path_factory) -> Any:
    with serving(checkpoints["delay"], tmp_path_factory.mktemp("voices"), max_batch=8, max_chars=2000) as running:
        yield running


@pytest.fixture(scope="module")
def recording() -> bytes:
    return encode_audio(0.1 * np.random.default_rng(0).standard_normal(24000), 24000, ".wav")


@pytest.fixture(scope="module")
def alice(served, recording) -> str:
    files = {"audio_sample": ("alice.wav", recording)}
    response = served.post("/v1/audio/voices", data={"name": "alice", "transcript": "It was dry."}, files=files)
    assert response.status_code == 201, response.text
    return response.json()["id"]


def data_uri(content: bytes) -> str:
    return "data:audio/wav;base64," + base64.b64encode(content).decode()


# ------------------------------------------------------------------------------------------- the same speech


def test_many_clients_hear_what_each_hears_alone(served, delay_model):
    bodies = [
        {"input": text, "seed": seed, "stream": seed % 3 > 0, "temperature": 0.5 + seed / 10}
        for seed, text in enumerate(TEXTS)
    ]
    with ThreadPoolExecutor(12) as clients:
        heard = list(clients.map(served.pcm, bodies))
    for body, pcm in zip(bodies, heard, strict=True):
        alone = next(delay_model.generate(body["input"], seed=body["seed"], temperature=body["temperature"]))
        assert_same_speech(pcm, alone.audio)


@pytest.mark.parametrize("architecture", ["local", "local_v1_5", "nano"])
def test_other_architectures(checkpoints, models, tmp_path, architecture):
    with serving(checkpoints[architecture], tmp_path) as running:
        for seed in (1, 2):
            alone = next(models[architecture].generate("Hello.", seed=seed, max_tokens=20))
            assert_same_speech(running.pcm({"input": "Hello.", "seed": seed, "max_tokens": 20}), alone.audio)


LONG = "The first one is here. " * 12 + "\n\n" + "And here is another one. " * 12
LONG_OPTIONS = {
    "long_form": True,
    "long_form_min_chars": 40,
    "long_form_target_chars": 80,
    "long_form_max_chars": 160,
    "max_tokens": 12,
}


def test_long_texts_are_spoken_among_others(served, delay_model):
    parallel = {"long_form_prefix_audio_max_tokens": 0, "long_form_prefix_audio_seconds": 0, "long_form_parallel": 3}
    bodies = [
        {"input": LONG, "seed": 5, **LONG_OPTIONS},
        {"input": LONG, "seed": 6, **LONG_OPTIONS, **parallel},
        *({"input": text, "seed": 1} for text in TEXTS[:4]),
    ]
    with ThreadPoolExecutor(len(bodies)) as clients:
        heard = list(clients.map(served.pcm, bodies))
    for body, pcm in zip(bodies, heard, strict=True):
        options = {name: value for name, value in body.items() if name != "input"}
        assert_same_speech(pcm, next(delay_model.generate(body["input"], **options)).audio)


def test_a_stream_is_the_whole(served):
    body = {"input": "Hello there.", "seed": 1}
    for format_ in FORMATS:
        whole = served.post(json=body | {"response_format": format_, "stream": False})
        streamed = served.post(json=body | {"response_format": format_})
        assert int(whole.headers["content-length"]) == len(whole.content)
        assert streamed.headers["transfer-encoding"] == "chunked"
        assert whole.headers["content-type"] == streamed.headers["content-type"] == FORMATS[format_].media_type
        assert whole.headers["x-seed"] == streamed.headers["x-seed"] == "1"
        assert whole.headers["x-finish-reason"] == "stop"
        if format_ == "pcm":
            assert np.abs(np.frombuffer(whole.content, "<i2") - np.frombuffer(streamed.content, "<i2")).max() <= 1
        else:
            samples = [decoded(content) for content in (whole.content, streamed.content)]
            # The header of a whole MP3 says how much of its padding is none.
            assert abs(len(samples[0]) - len(samples[1])) <= (2000 if format_ == "mp3" else 0)
        if format_ == "wav":
            assert streamed.content[4:8] == streamed.content[40:44] == b"\xff\xff\xff\xff"
            assert soundfile.info(io.BytesIO(whole.content)).frames == len(samples[0])


def decoded(content: bytes) -> np.ndarray:
    with av.open(io.BytesIO(content)) as container:
        assert len(container.streams) == 1
        return np.concatenate([frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)])


def test_events_carry_the_audio(served):
    body = {"input": "Hello there.", "seed": 1, "response_format": "pcm", "stream_format": "sse"}
    response = served.post(json=body)
    assert response.headers["content-type"] == "text/event-stream"
    events = [json.loads(line.removeprefix("data: ")) for line in response.text.split("\n\n") if line]
    assert {event["type"] for event in events[:-1]} == {"speech.audio.delta"}
    audio = b"".join(base64.b64decode(event["audio"]) for event in events[:-1])
    np.testing.assert_array_equal(np.frombuffer(audio, "<i2"), served.pcm({"input": "Hello there.", "seed": 1}))
    done = events[-1]
    assert (done["type"], done["finish_reason"], done["seed"]) == ("speech.audio.done", "stop", 1)
    assert done["usage"]["total_tokens"] == done["usage"]["input_tokens"] + done["usage"]["output_tokens"]


# --------------------------------------------------------------------------------------------------- voices


def test_every_way_to_give_a_voice_is_the_same(served, delay_model, recording, alice, tmp_path):
    (tmp_path / "alice.wav").write_bytes(recording)
    expected = next(delay_model.generate("Hello.", ref_audio=tmp_path / "alice.wav", seed=1, max_tokens=12)).audio
    body = {"input": "Hello.", "seed": 1, "max_tokens": 12}
    for named in ({"voice": alice}, {"voice": {"id": alice}}, {"reference": f"voice:{alice}"}):
        assert_same_speech(served.pcm(body | named), expected)
    for named in ({"reference": data_uri(recording)}, {"ref_audio": [data_uri(recording)], "voice": "alloy"}):
        assert_same_speech(served.pcm(body | named), expected)
    form = {name: str(value) for name, value in body.items()} | {"response_format": "pcm"}
    for field in ("reference", "ref_audio"):
        response = served.post(data=form, files={field: ("a.wav", recording)})
        assert_same_speech(np.frombuffer(response.content, "<i2"), expected)


def test_dialogues_and_continuations_in_registered_voices(served, delay_model, recording, alice, tmp_path):
    (tmp_path / "alice.wav").write_bytes(recording)
    speaker = {"ref_audio": tmp_path / "alice.wav", "ref_text": "It was dry."}
    options = {"seed": 1, "max_tokens": 12}
    expected = next(delay_model.generate("[S1] Hi. [S2] Ho.", dialogue_speakers={"S1": speaker, "S2": None}, **options))
    for entry in ({"voice": alice}, {"ref_audio": data_uri(recording), "ref_text": "It was dry."}):
        heard = served.pcm({"input": "[S1] Hi. [S2] Ho.", "dialogue_speakers": {"S1": entry, "S2": None}, **options})
        assert_same_speech(heard, expected.audio)
    entry = {"S1": {"ref_audio": "upload:bob", "ref_text": "It was dry."}, "S2": None}
    form = {"input": "[S1] Hi. [S2] Ho.", "dialogue_speakers": json.dumps(entry), "response_format": "pcm"}
    response = served.post(data=form | {"seed": "1", "max_tokens": "12"}, files={"bob": recording})
    assert_same_speech(np.frombuffer(response.content, "<i2"), expected.audio)
    expected = next(delay_model.generate("It rained.", mode="continuation", **speaker, **options))
    heard = served.pcm({"input": "It rained.", "mode": "continuation", "voice": alice, **options})
    assert_same_speech(heard, expected.audio)


def test_conversations(served, delay_model, recording, alice, tmp_path):
    (tmp_path / "alice.wav").write_bytes(recording)

    def conversation(audio: Any) -> list[dict[str, Any]]:
        return [{"role": "user", "text": "Hi."}, {"role": "assistant", "audio_codes_list": [audio]}]

    expected = next(delay_model.generate(conversation=conversation(tmp_path / "alice.wav"), seed=1, max_tokens=12))
    heard = served.pcm({"conversation": conversation(f"voice:{alice}"), "seed": 1, "max_tokens": 12})
    assert_same_speech(heard, expected.audio)


def test_voices_over_http(served, recording, alice):
    listed = served.get("/v1/audio/voices").json()
    assert [voice["id"] for voice in listed["data"]] == [alice]
    assert [voice["id"] for voice in listed["voices"]] == ["default", alice]
    assert soundfile.info(io.BytesIO(served.get(f"/v1/audio/voices/{alice}/sample").content)).frames == 24000
    body = {"name": "bob", "audio_sample": data_uri(recording)}
    assert served.post("/v1/audio/voices", json=body).status_code == 201
    assert served.post("/v1/audio/voices", json=body).json()["error"]["param"] == "name"
    assert served.post("/v1/audio/voices", json=body | {"replace": True}).status_code == 201
    deleted = requests.delete(f"{served.url}/v1/audio/voices/bob", timeout=60)
    assert deleted.json() == {"id": "bob", "object": "audio.voice.deleted", "deleted": True}
    assert requests.delete(f"{served.url}/v1/audio/voices/bob", timeout=60).status_code == 404


def test_the_operators_voice_speaks_where_none_is_named(checkpoints, delay_model, recording, tmp_path):
    (tmp_path / "alice.wav").write_bytes(recording)
    Voices(tmp_path / "voices").add("alice", tmp_path / "alice.wav")
    expected = next(delay_model.generate("Hello.", ref_audio=tmp_path / "alice.wav", seed=1, max_tokens=12)).audio
    with serving(checkpoints["delay"], tmp_path / "voices", voice="alice") as running:
        for named in ({}, {"voice": "alloy"}, {"voice": "default"}):
            assert_same_speech(running.pcm({"input": "Hello.", "seed": 1, "max_tokens": 12, **named}), expected)


# ------------------------------------------------------------------------------------------------- refusals


def test_every_option_of_generate_is_a_field():
    options = OPTIONS.keys() | SOUND_OPTIONS.keys()
    # Noise is an array of megabytes.
    assert set(SpeechBody.model_fields) - (OPENAI_FIELDS - {"stream", "verbose"}) == options - {
        "text",
        "voice",
        "noise",
    }


BAD = [
    ({"input": ""}, "input"),
    ({}, "input"),
    ({"input": 3}, "input"),
    ({"input": "x" * 2001}, "input"),
    ({"input": "\ud800"}, None),
    ({"voice": "nobody"}, "voice"),
    ({"voice": "../../etc"}, "voice"),
    ({"voice": {"name": "alice"}}, "voice"),
    ({"response_format": "ogg"}, "response_format"),
    ({"stream_format": "websocket"}, "stream_format"),
    ({"speed": 0.2}, "speed"),
    ({"speed": 4.5}, "speed"),
    ({"speed": "fast"}, "speed"),
    ({"seed": -1}, "seed"),
    ({"seed": 2**32}, "seed"),
    ({"seed": True}, "seed"),
    ({"temperature": -1}, "temperature"),
    ({"temperature": float("nan")}, "temperature"),
    ({"text_top_p": 0}, "text_top_p"),
    ({"top_k": 10**30}, "top_k"),
    ({"audio_repetition_penalty": float("inf")}, "audio_repetition_penalty"),
    ({"max_tokens": ENDLESS_FRAMES + 1}, "max_tokens"),
    ({"tokens": 0}, "tokens"),
    ({"duration_s": 0}, "duration_s"),
    ({"preset": "opera"}, "preset"),
    ({"scene": "A café"}, "scene"),
    ({"instruction": "Sad", "instructions": "Glad"}, "instructions"),
    ({"instruction": "Sad", "instruct": "Glad"}, "instruction"),
    ({"temperature": 1.0, "audio_temperature": 0.5}, "temperature"),
    ({"long_form_max_chars": 10}, "long_form_max_chars"),
    ({"long_form": True, "long_form_max_chars": 10}, None),
    ({"mode": "continuation"}, "mode"),
    ({"n_vq_for_inference": 2}, "n_vq_for_inference"),
    ({"temprature": 1.0}, "temprature"),
    ({"dialogue_speakers": {"S1": {"voice": "nobody"}}}, "dialogue_speakers"),
    ({"dialogue_speakers": {"S1": {"path": "/etc/passwd"}}}, "dialogue_speakers"),
    ({"conversation": [{"role": "system"}], "input": None}, "conversation"),
    *(({name: value}, name) for name in ("reference", "ref_audio") for value in ("/etc/passwd", "voice:nobody")),
    ({"reference": "file:///etc/passwd"}, "reference"),
    ({"reference": "http://127.0.0.1/a.wav"}, "reference"),
    ({"reference": "upload:nothing"}, "reference"),
    ({"reference": "data:audio/wav;base64,???"}, "reference"),
    ({"reference": ["data:audio/wav;base64,AAAA"] * 17}, "reference"),
    ({"input": None, "conversation": [{"role": "user", "text": "Hi.", "reference": "/etc/passwd"}]}, "conversation"),
]


@pytest.mark.parametrize(("wrong", "field"), BAD, ids=[str(wrong)[:60] for wrong, _ in BAD])
def test_what_is_wrong_is_named(served, wrong, field):
    body = {"input": "Hello."} | wrong if wrong else {}
    # Python's json writes NaN, which requests would refuse to.
    headers = {"Content-Type": "application/json"}
    response = requests.post(f"{served.url}/v1/audio/speech", data=json.dumps(body), headers=headers, timeout=60)
    assert response.status_code in (400, 422), response.text
    error = response.json()["error"]
    assert field is None or error["param"] == field, error
    assert error["type"] == "invalid_request_error"
    assert len(response.text) < 1500


def bombs() -> dict[str, bytes]:
    hour = soundfile_bytes(np.zeros((3600 * 8000, 1), np.int8), 8000, "FLAC", "PCM_S8")
    wide = soundfile_bytes(np.ones((40 * 96000, 8), np.int16), 96000, "FLAC", "PCM_16")
    nan = soundfile_bytes(np.full((24000, 1), np.nan, np.float32), 24000, "WAV", "FLOAT")
    return {
        "an hour in kilobytes": hour,
        "eight channels": wide,
        "not a number": nan,
        "silence": soundfile_bytes(np.zeros((24000, 1), np.int16), 24000, "WAV", "PCM_16"),
        "a header that lies": nan[:40] + b"\xff\xff\xff\x7f" + nan[44:60],
        "a playlist": b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
        "text": b"Hello.",
        "nothing": b"",
    }


def soundfile_bytes(samples: np.ndarray, rate: int, container: str, encoding: str) -> bytes:
    file = io.BytesIO()
    scale = {"PCM_S8": np.int16}.get(encoding, samples.dtype)
    soundfile.write(file, samples.astype(scale), rate, format=container, subtype=encoding)
    return file.getvalue()


BOMBS = bombs()


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_do_not_go_off(served, name):
    content = BOMBS[name]
    assert len(content) < 3_000_000
    with costs_at_most(15):
        responses = (
            served.post(data={"input": "Hello."}, files={"reference": content}),
            served.post(json={"input": "Hello.", "reference": data_uri(content)}),
            served.post("/v1/audio/voices", data={"name": "bomb"}, files={"audio_sample": content}),
        )
    for response in responses:
        assert response.status_code == 400, response.text
        assert response.json()["error"]["param"] in ("reference", "audio_sample")
        assert "/tmp" not in response.text
    assert served.get("/v1/audio/voices/bomb").status_code == 404


def test_a_million_characters_cost_nothing(served):
    for body in ({"input": "x" * 10**6}, {"input": "Hi.", "instructions": "x" * 10**6}, {"x" * 10**6: 1}):
        with costs_at_most(2):
            response = served.post(json=body)
        assert response.status_code == 400
        assert len(response.text) < 2000


def test_names_lead_nowhere(served):
    for name in ("..", "../x", "a/b", "A", "default", "", "x" * 65, "\0"):
        body = {"name": name, "audio_sample": data_uri(b"")}
        response = served.post("/v1/audio/voices", json=body)
        assert response.status_code == 400
    for path in (
        "/v1/audio/voices/..%2f..%2fetc/sample",
        "/v1/audio/voices/%2e%2e/sample",
        "/static/..%2fapp.py",
        "/x",
    ):
        response = served.get(path)
        assert (response.status_code, "error" in response.json()) == (404, True), path


def test_bodies_have_a_limit(checkpoints, tmp_path):
    with serving(checkpoints["delay"], tmp_path, max_body=10_000) as running:
        assert running.post(json={"input": "x" * 20_000}).status_code == 413
        headers, url = {"Content-Type": "application/json"}, f"{running.url}/v1/audio/speech"
        unsized = requests.post(url, data=iter([b"x" * 6000] * 3), headers=headers, timeout=60)
        assert (unsized.status_code, unsized.json()["error"]["code"]) == (413, "too_large")
        assert running.pcm({"input": "Hi.", "max_tokens": 4}).size


def test_types_of_bodies(served):
    for content_type in ("text/plain", "application/x-www-form-urlencoded", ""):
        headers = {"Content-Type": content_type}
        answer = requests.post(f"{served.url}/v1/audio/speech", data=b'{"input":"x"}', headers=headers, timeout=60)
        assert answer.status_code == 415
    for content in (b"", b"{", b"[]", b"[" * 100_000, b'{"input": "\xff"}'):
        headers = {"Content-Type": "application/json"}
        answer = requests.post(f"{served.url}/v1/audio/speech", data=content, headers=headers, timeout=60)
        assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
    headers = {"Content-Type": "multipart/form-data"}
    assert requests.post(f"{served.url}/v1/audio/speech", data=b"x", headers=headers, timeout=60).status_code == 400


def test_models(served):
    [model] = served.get("/v1/models").json()["data"]
    assert model["id"] == "demo"
    assert served.get("/v1/models/demo").json() == model
    assert served.get("/v1/models/gpt-5").status_code == 404
    for name in ("demo", "tts-1", "gpt-4o-mini-tts"):
        assert served.post(json={"model": name, "input": "Hi.", "max_tokens": 4}).status_code == 200
    wrong = served.post(json={"model": "org/other", "input": "Hi."})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (404, "model")


def test_the_key_and_other_sites(checkpoints, tmp_path):
    with serving(checkpoints["delay"], tmp_path, api_key="secret", cors_origins=("https://good.example",)) as running:
        body = {"input": "Hi.", "max_tokens": 4}
        speech = f"{running.url}/v1/audio/speech"
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "secret"}):
            answer = requests.post(speech, json=body, headers=headers, timeout=60)
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
        assert running.post(json=body).status_code == 200
        for path in ("/", "/health", "/openapi.json", "/static/page.js"):
            assert requests.get(running.url + path, timeout=60).status_code == 200
        assert requests.get(f"{running.url}/metrics", timeout=60).status_code == 401
        for origin, status in ((running.url, 200), ("https://good.example", 200), ("https://evil.example", 403)):
            headers = running.headers | {"Origin": origin}
            assert requests.post(speech, json=body, headers=headers, timeout=60).status_code == status
        asked = {
            "Origin": "https://good.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type,x-stainless-lang",
        }
        allowed = requests.options(speech, headers=asked, timeout=60)
        assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, "https://good.example")
        assert "x-stainless-lang" in allowed.headers["access-control-allow-headers"]


# -------------------------------------------------------------------------------------- coming and going

# The demo's weights go on speaking where the text channel is greedy.
ENDLESS = {"input": "A text.", "runaway_guard": False, "max_tokens": ENDLESS_FRAMES, "text_temperature": 0.0, "seed": 1}


def test_who_leaves_is_let_go(served):
    served.wait_until_idle()
    before = served.outcome("cancelled")
    long = {"input": "A text. " * 100, "long_form": True}
    for more in ({}, {"stream": False}, {"stream_format": "sse"}, long, long | {"stream": False}):
        with served.open(ENDLESS | more) as connection:
            if more.get("stream", True):
                assert connection.getresponse().read(100)
            else:
                wait_until(lambda: served.device.running)
        served.wait_until_idle()
    assert served.outcome("cancelled") == before + 5


def test_health_answers_while_others_speak(served):
    with ExitStack() as speaking:
        for _ in range(4):
            assert speaking.enter_context(served.open(ENDLESS)).getresponse().read(100)
        assert served.get("/health").status_code == 200
    served.wait_until_idle()


def test_who_was_dropped_gets_no_further_row(served):
    heard: list[Any] = []
    started = threading.Event()

    def listen(_: Any, result: Any) -> None:
        heard.append(result)
        started.set()

    device, model = served.device, served.model
    options = {name: value for name, value in ENDLESS.items() if name != "input"}
    request = model.request({"text": "A text.", "stream": True, **options})
    voice = device.submit(lambda: model.job(request), listen)
    assert started.wait(PATIENCE)
    device.drop(voice)
    assert device.call(lambda: device.running).result() == 0
    count = len(heard)
    time.sleep(0.1)
    assert len(heard) == count


def test_who_is_too_many_comes_back_later(checkpoints, tmp_path):
    with serving(checkpoints["delay"], tmp_path, max_batch=1, max_waiting=1) as running:
        with running.open(ENDLESS) as first:
            assert first.getresponse().read(10)
            with running.open(ENDLESS):
                wait_until(lambda: running.counter('moss_tts_requests{state="waiting"}') > 0)
                refused = running.post(json=ENDLESS)
                assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
                assert int(refused.headers["retry-after"]) >= 1
        running.wait_until_idle()
        assert running.outcome("overloaded") == 1
        assert running.pcm({"input": "Hi.", "max_tokens": 4}).size


def test_nobody_takes_longer_than_is_allowed(checkpoints, tmp_path):
    limit = 1e6
    with serving(checkpoints["delay"], tmp_path, timeout_s=limit) as running:
        with running.open(ENDLESS | {"stream": False}) as connection:
            wait_until(lambda: running.device.running)
            running.later(limit)
            refused = connection.getresponse()
            assert (refused.status, json.load(refused)["error"]["code"]) == (504, "timeout")
        for form in ({"response_format": "pcm"}, {"stream_format": "sse"}):
            with running.open(ENDLESS | form) as connection:
                response = connection.getresponse()
                assert response.read(10)
                running.later(limit)
                with pytest.raises(http.client.IncompleteRead) as cut:
                    response.read()
        assert b'"type": "error"' in cut.value.partial
        running.wait_until_idle()
        assert running.outcome("timeout") == 3


def test_a_failure_of_the_device_is_not_the_end(checkpoints, tmp_path, monkeypatch):
    with serving(checkpoints["delay"], tmp_path) as running:
        body = {"input": "Hello.", "seed": 1, "max_tokens": 8}
        expected = running.pcm(body)
        with monkeypatch.context() as patch:
            patch.setattr(SpeechEngine, "step", out_of_memory)
            for more in ({}, {"long_form": True}, {"stream": False}):
                response = running.post(json=body | more)
                assert (response.status_code, response.json()["error"]["type"]) == (500, "server_error")
        np.testing.assert_array_equal(running.pcm(body), expected)
        assert running.get("/health").json()["status"] == "ok"
        assert running.outcome("failed") == 3


def out_of_memory(_: SpeechEngine) -> None:
    raise RuntimeError("out of memory")


def test_what_runs_is_finished_when_the_server_stops(checkpoints, tmp_path):
    with serving(checkpoints["delay"], tmp_path) as running:
        with running.open(ENDLESS | {"max_tokens": 150, "response_format": "pcm"}) as connection:
            response = connection.getresponse()
            assert response.read(10)
            running.server.should_exit = True
            wait_until(lambda: not is_open(running.port))
            assert len(response.read()) == 150 * 1920 * 2 - 10


def test_nobody_waits_for_a_server_that_must_stop(checkpoints, tmp_path):
    with serving(checkpoints["delay"], tmp_path, grace_s=1.0) as running:
        with running.open(ENDLESS) as connection:
            response = connection.getresponse()
            assert response.read(10)
            running.server.should_exit = True
            with pytest.raises(http.client.IncompleteRead):
                response.read()


def test_a_model_that_cannot_be_loaded_says_so(tmp_path):
    device = Device(lambda: moss_tts.load(tmp_path), 1, 1000)
    with pytest.raises(MossTTSError):
        device.start()
    with pytest.raises(MossTTSError, match="stopping"):
        device.call(lambda: 1).result()
    assert not device.alive


def test_the_commands_refuse_before_they_listen(checkpoints, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MOSS_TTS_VOICES", str(tmp_path))
    for arguments, said in (
        (["--model", str(tmp_path)], "config.json"),
        (["--model", str(checkpoints["delay"]), "--voice", "nobody"], "no voice 'nobody'"),
        (["--model", str(checkpoints["delay"]), "--max-batch", "0"], "max-batch"),
    ):
        with pytest.raises(SystemExit) as exit_:
            cli.main(["serve", *arguments])
        assert exit_.value.code in (1, 2)
        assert said in capsys.readouterr().err
