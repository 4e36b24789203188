"""The server against those who mean it no good: bodies, names, keys, other people's pages; and its own mishaps."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import soundfile

pytest.importorskip("fastapi", reason="the extra server is not installed")

from starlette.responses import PlainTextResponse

import moss_tts
from moss_tts import cli
from moss_tts.checkpoints.loading import LazyCodec
from moss_tts.errors import RequestError
from moss_tts.server.device_thread import Device
from moss_tts.server.gate import Gate
from moss_tts.server.settings import Settings
from moss_tts.speaking.engine import SpeechEngine
from support.cost import costs_at_most
from support.serving import PATIENCE, Serving, assert_same_speech, serving, wait_until

ROOT = Path(__file__).parents[2]
ENDLESS = {"input": "A text.", "runaway_guard": False, "text_temperature": 0.0, "seed": 1}
# Seconds that do not pass by themselves while a test waits.
BODY_SECONDS = 1e6


@pytest.fixture(scope="module")
def served(checkpoints, tmp_path_factory) -> Any:
    limits = {"max_chars": 500, "max_prompt": 700, "max_reference_s": 3.0, "body_timeout_s": BODY_SECONDS}
    with serving(checkpoints["delay"], tmp_path_factory.mktemp("voices"), **limits) as running:
        yield running


def data_uri(seconds: float) -> str:
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(-3000, 3000, int(8000 * seconds)).astype(np.int16)
    soundfile.write(file, noise, 8000, format="WAV")
    return "data:audio/wav;base64," + base64.b64encode(file.getvalue()).decode()


# ------------------------------------------------------------------------------------------------- bodies


COSTLY = {
    "fields": {f"field{number}": 0 for number in range(10**5)},
    "entries": {"input": "Hi.", "reference": [None] * 10**5},
    "messages": {"conversation": [{}] * 10**5},
    "speakers": {"input": "Hi.", "dialogue_speakers": {f"S{number}": None for number in range(10**5)}},
    "depth": {"input": "Hi.", "conversation": json.loads("[" * 900 + "]" * 900)},
    "a few too many entries": {"input": "Hi.", "reference": [None] * 17},
    "a few too many messages": {"conversation": [{"role": "user", "text": "Hi."}] * 101},
}


@pytest.mark.parametrize("name", COSTLY)
def test_what_would_cost_is_refused_for_nothing(served, name):
    with costs_at_most(3):
        response = served.post(json=COSTLY[name])
    assert response.status_code == 400, response.text
    assert len(response.text) < 1500


def test_structures_in_forms_are_no_way_around(served):
    form = {"conversation": json.dumps(COSTLY["messages"]["conversation"])}
    response = served.post(data=form, files={"nothing": b""})
    assert (response.status_code, response.json()["error"]["code"]) == (400, "too_large")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"conversation": [{"role": "user", "text": "data:" + "x" * 10**6}]}, "conversation"),
        ({"conversation": [{"role": "user", "text": "x" * 300}] * 2}, "conversation"),
        ({"input": "Hi.", "dialogue_speakers": {"S1": {"ref_text": "x" * 10**6}}}, "dialogue_speakers"),
        ({"input": "x" * 200, "instructions": "x" * 400}, "instructions"),
        ({"input": "x" * 400, "scene": "x" * 200}, "input"),
    ],
)
def test_all_texts_count_together(served, body, field):
    error = served.post(json=body).json()["error"]
    assert (error["param"], error["code"]) == (field, "string_above_max_length")


LARGE = {
    "messages": {"conversation": [{"role": "user", "text": "Hi."}] * 60},
    "voices": {"input": "Hello.", "reference": ["voice:long"] * 16},
    "segments": {"input": "Hello. " * 30, "long_form": True, "reference": ["voice:long"] * 16},
}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("name", LARGE)
def test_a_prompt_counts_with_its_template_and_its_recordings(served, name, stream):
    served.post("/v1/audio/voices", json={"name": "long", "audio_sample": data_uri(2.9), "replace": True})
    response = served.post(json=LARGE[name] | {"stream": stream})
    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_value"), response.text
    assert "700 are the most here" in response.json()["error"]["message"]


def test_recordings_count_together(served):
    two = [data_uri(1.6), data_uri(1.2)]
    assert served.post(json={"input": "Hi.", "max_tokens": 2, "reference": two}).status_code == 200
    response = served.post(json={"input": "Hi.", "max_tokens": 2, "reference": [*two, data_uri(1.0)]})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "reference")


def test_who_sends_slowly_is_not_waited_for(served):
    with socket.create_connection(("127.0.0.1", served.port)) as connection:
        head = "POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: 100\r\n\r\n{{".encode())
        connection.settimeout(PATIENCE)
        with served.passing(BODY_SECONDS):
            assert connection.recv(1000).startswith(b"HTTP/1.1 408 ")
    served.wait_until_idle()


def test_who_leaves_while_sending_is_no_failure(served):
    before = served.outcome("failed"), served.outcome("cancelled")
    with socket.create_connection(("127.0.0.1", served.port)) as connection:
        head = "POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: 100\r\n\r\n{{".encode())
        wait_until(lambda: served.server.server_state.tasks)
    wait_until(lambda: served.outcome("cancelled") == before[1] + 1)
    assert served.outcome("failed") == before[0]


def test_who_is_too_many_is_told_before_sending(checkpoints, tmp_path):
    """Even with a body that takes long to send: the answer is heard."""
    with serving(checkpoints["delay"], tmp_path, max_batch=1, max_waiting=0) as running:
        with running.open(ENDLESS) as first:
            assert first.getresponse().read(10)
            response = running.post(data={"input": "Hi."}, files={"reference": bytes(8 * 2**20)})
            assert (response.status_code, response.headers["retry-after"].isdecimal()) == (503, True)


# ----------------------------------------------------------------------------------- names, keys, pages


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8000", 200),
        ("127.0.0.1", 200),
        ("[::1]:8000", 200),
        ("192.168.1.7:80", 200),
        ("moss-tts:8000", 200),
        ("host.docker.internal:8000", 200),
        ("speech.example", 200),
        ("evil.example:8000", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
    ],
)
def test_names_that_others_may_own(host, status):
    """A page may let its name point here: then it comes from the server's own origin, as far as a browser can tell."""
    gate = gate_of(Settings(hosts=("speech.example",)))
    assert asked(gate, host) == status
    assert asked(gate_of(Settings(api_key="secret")), host, "secret") == 200


@pytest.mark.parametrize("header", ["Host", "Origin"])
@pytest.mark.parametrize("value", ["[", "[::1", "[nowhere]:80", "http://["])
def test_addresses_that_are_none_are_refused(served, header, value, caplog):
    headers = {header: value, "Content-Type": "application/json"}
    response = requests.post(f"{served.url}/v1/audio/speech", data="{}", headers=headers, timeout=PATIENCE)
    assert (response.status_code, header in response.json()["error"]["message"]) == (400, True)
    assert "Traceback" not in caplog.text


def gate_of(settings: Settings) -> Gate:
    return Gate(PlainTextResponse("in"), settings)


def asked(gate: Gate, host: str, key: str = "") -> int:
    """The status of an answer, without a server or a client that has its own idea of headers."""
    headers = [(b"host", host.encode()), (b"authorization", f"Bearer {key}".encode())]
    scope = {"type": "http", "method": "GET", "path": "/v1/audio/voices", "headers": headers}
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(gate(scope, receive, send))
    return int(sent[0]["status"])


@pytest.mark.parametrize("value", [float("inf"), float("nan"), -1.0, 10**400])
@pytest.mark.parametrize("name", ["timeout_s", "grace_s", "max_reference_s", "max_frames"])
def test_a_limit_is_a_number(name, value):
    with pytest.raises(RequestError, match=f"{name} must be a number"):
        Settings("any", **{name: value})


def test_an_empty_key_is_none(checkpoints, capsys, monkeypatch):
    for key in ("", "  "):
        with pytest.raises(RequestError, match="empty"):
            Settings(api_key=key)
    monkeypatch.setenv("MOSS_TTS_API_KEY", " ")
    with pytest.raises(SystemExit) as exit_:
        cli.main(["serve", "--model", str(checkpoints["delay"])])
    assert exit_.value.code == 2
    assert "empty" in capsys.readouterr().err


def test_keys_in_any_script():
    gate = gate_of(Settings(api_key="schlüssel"))
    assert asked(gate, "localhost", "schlüssel") == 200
    assert asked(gate, "localhost", "schlussel") == 401


# -------------------------------------------------------------------------------------------- mishaps


def test_mistakes_of_the_server_are_answered_too(served, monkeypatch):
    def broken(*_: object) -> None:
        raise OSError(28, "No space left on device", "/var/secret")

    monkeypatch.setattr("moss_tts.voices.write_voice", broken)
    body = {"name": "alice", "audio_sample": data_uri(1)}
    response = served.post("/v1/audio/voices", json=body)
    assert (response.status_code, response.json()["error"]["type"]) == (500, "server_error")
    assert "secret" not in response.text


def test_nobody_hangs_when_the_device_is_lost(checkpoints, tmp_path, monkeypatch):
    """An error outside of any request ends the server, not only its thread."""
    ended: list[bool] = []
    with serving(checkpoints["delay"], tmp_path) as running:
        running.device.on_end = lambda: ended.append(running.device.failed)
        monkeypatch.setattr(SpeechEngine, "step", unforeseen)
        monkeypatch.setattr(SpeechEngine, "__init__", unforeseen)
        response = running.post(json={"input": "Hello."})
        assert (response.status_code, response.json()["error"]["type"]) == (500, "server_error")
        wait_until(lambda: ended == [True])
        assert running.get("/health").status_code == 503
        assert running.post(json={"input": "Hello."}).status_code >= 500


def unforeseen(*_: object) -> None:
    raise KeyError("/var/secret")


@pytest.mark.parametrize("place", ["step", "submit"])
def test_an_error_that_nobody_foresaw_ends_its_batch_alone(served, monkeypatch, place):
    """Clients are told so, but not what files or libraries are called here."""
    body = {"input": "Hello.", "seed": 1, "max_tokens": 4}
    expected = served.pcm(body)
    with monkeypatch.context() as patch:
        patch.setattr(SpeechEngine, place, unforeseen)
        for more in ({}, {"long_form": True}, {"stream": False}):
            response = served.post(json=body | more)
            assert (response.status_code, response.json()["error"]["type"]) == (500, "server_error")
            assert "secret" not in response.text
    np.testing.assert_array_equal(served.pcm(body), expected)


def test_the_first_client_waits_for_nothing_that_is_made_once(checkpoints, monkeypatch):
    device = Device(lambda: moss_tts.load(checkpoints["delay"]), 2, 1000)
    model = device.start()
    try:
        monkeypatch.setattr(LazyCodec, "_load", lambda _: pytest.fail("the codec was not there"))
        assert device.call(lambda: model.codec().config.channels).result() == 1
    finally:
        device.stop()


def test_a_voice_that_was_designed_speaks_on(served):
    """Described in words, listened to, kept, and used again."""
    designed = served.post(json={"input": "Hello.", "instructions": "An old man", "seed": 3, "response_format": "wav"})
    files = {"audio_sample": ("old.wav", designed.content)}
    kept = served.post("/v1/audio/voices", data={"name": "old", "transcript": "Hello."}, files=files)
    assert kept.status_code == 201, kept.text
    body = {"input": "Good morning.", "seed": 1, "max_tokens": 6}
    uri = "data:audio/wav;base64," + base64.b64encode(designed.content).decode()
    np.testing.assert_array_equal(served.pcm(body | {"voice": "old"}), served.pcm(body | {"reference": uri}))
    assert not np.array_equal(served.pcm(body | {"voice": "old"}), served.pcm(body))


# ---------------------------------------------------------------------------------------- the command


def test_a_port_that_is_taken_is_known_before_the_model_is_loaded(checkpoints, capsys, monkeypatch):
    monkeypatch.setattr(Device, "start", lambda _: pytest.fail("loaded"))
    with socket.create_server(("127.0.0.1", 0)) as other:
        with pytest.raises(SystemExit) as exit_:
            cli.main(["serve", "--model", str(checkpoints["delay"]), "--port", str(other.getsockname()[1])])
    assert exit_.value.code == 2
    assert "choose another --host or --port" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_ends_in_good_order(checkpoints, delay_model, tmp_path):
    """SIGTERM in the middle of a response: it is finished, then the signal has its way."""
    command = [sys.executable, "-m", "moss_tts", "serve", "--model", checkpoints["delay"], "--port", "0"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "MOSS_TTS_API_KEY": "secret"}
    with subprocess.Popen(
        [*command, "--voices", tmp_path], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            serving_ = Serving(url, None, None, None, {"Authorization": "Bearer secret"})
            wait_until(lambda: answers(url))
            body = {"input": "Hello there.", "seed": 1}
            assert_same_speech(serving_.pcm(body), next(delay_model.generate("Hello there.", seed=1)).audio)
            with ThreadPoolExecutor(1) as client:
                long = client.submit(serving_.pcm, ENDLESS | {"max_tokens": 200})
                wait_until(lambda: serving_.counter('moss_tts_requests{state="running"}') == 1)
                process.send_signal(signal.SIGTERM)
                assert len(long.result()) == 200 * 1920
            assert process.wait(PATIENCE) == -signal.SIGTERM
        finally:
            process.kill()


def answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/health", timeout=PATIENCE).status_code == 200
    except requests.ConnectionError:
        return False
