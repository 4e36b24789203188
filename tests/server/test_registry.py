"""The registered voices over HTTP: broken ones, a registry that is read-only, and many clients at a time."""

from __future__ import annotations

import errno
import io
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import requests
import soundfile

pytest.importorskip("fastapi", reason="the extra server is not installed")

from moss_tts.voices import Voices
from support.serving import serving

VOICES = "/v1/audio/voices"
SHORT = {"input": "Hello.", "seed": 1, "max_tokens": 4}


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("voices")


@pytest.fixture(scope="module")
def served(checkpoints, directory) -> Any:
    with serving(checkpoints["delay"], directory, max_waiting=200) as running:
        yield running


@pytest.fixture(autouse=True)
def voices(directory) -> Any:
    """The registry, empty."""
    registry = Voices(directory)
    for name in registry.names:
        registry.remove(name)
    return registry


def recording(seed: int, seconds: float = 0.5) -> bytes:
    file = io.BytesIO()
    noise = 0.1 * np.random.default_rng(seed).standard_normal(int(24000 * seconds))
    soundfile.write(file, noise, 24000, format="WAV", subtype="PCM_16")
    return file.getvalue()


def delete(served, name: str) -> requests.Response:
    return requests.delete(f"{served.url}{VOICES}/{name}", timeout=60)


def add(served, name: str, seed: int = 0, **fields: str) -> Any:
    return served.post(VOICES, data={"name": name, **fields}, files={"audio_sample": recording(seed)})


def test_a_broken_voice_is_listed_as_broken_and_can_go(served, voices):
    for way in ("delete", "replace"):
        assert add(served, "bob", replace="true").status_code == 201
        (voices.add("alice", waveform(), replace=True).directory / "voice.json").write_text('{"mood": "calm"}')
        listed = served.get(VOICES).json()
        assert [(voice["id"], "broken" in voice) for voice in listed["data"]] == [("alice", True), ("bob", False)]
        assert [voice["id"] for voice in listed["voices"]] == ["default", "bob"]
        assert served.get(f"{VOICES}/alice").json() == listed["data"][0]
        spoken = served.post(json=SHORT | {"voice": "alice"})
        assert (spoken.status_code, spoken.json()["error"]["code"]) == (400, "voice_broken")
        assert served.get(f"{VOICES}/alice/sample").status_code == 404
        assert served.post(json=SHORT | {"voice": "bob"}).status_code == 200
        if way == "delete":
            assert delete(served, "alice").status_code == 200
        else:
            assert add(served, "alice").status_code == 409
            assert add(served, "alice", replace="true").status_code == 201
            assert served.post(json=SHORT | {"voice": "alice"}).status_code == 200


def waveform() -> tuple[np.ndarray, int]:
    return soundfile.read(io.BytesIO(recording(0)))


def test_no_answer_names_a_path_of_the_server(served, voices, monkeypatch):
    voice = voices.add("alice", waveform())
    voice.sample.write_bytes(b"nothing")
    answers = [served.post(json=SHORT | {"voice": "alice"})]
    (voice.directory / "voice.json").unlink()
    (voice.directory / "voice.json").mkdir()
    answers += [add(served, "alice"), served.get(f"{VOICES}/alice"), delete(served, "alice")]

    def refuse(path: Path, **_: object) -> NoReturn:
        raise OSError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("moss_tts.voices.atomic_directory", refuse)
    monkeypatch.setattr("moss_tts.voices.remove_directory", refuse)
    voices.directory.joinpath("alice").rename(voices.directory / ".alice")
    answers += [add(served, "bob")]
    for answer in answers:
        assert 400 <= answer.status_code < 500, answer.text
        assert str(voices.directory.parent) not in answer.text


def test_a_registry_that_is_read_only_is_spoken_from(served, voices, monkeypatch):
    voices.add("alice", waveform())

    def refuse(path: Path, **_: object) -> NoReturn:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    for place in ("audio.voice_files.atomic_file", "voices.atomic_directory", "voices.remove_directory"):
        monkeypatch.setattr(f"moss_tts.{place}", refuse)
    heard = [served.pcm(SHORT | {"voice": "alice"}) for _ in range(2)]
    np.testing.assert_array_equal(*heard)
    for answer in (delete(served, "alice"), add(served, "bob"), add(served, "alice", replace="true")):
        assert answer.status_code == 400
        assert "Read-only" in answer.json()["error"]["message"]


def test_many_who_change_one_voice_and_speak_in_it(served):
    """All that they ever hear is the recording, whole, or that there is no such voice now."""

    def work(number: int) -> tuple[int, bool]:
        match number % 5:
            case 0:
                answer = add(served, "alice", replace="true")
            case 1:
                answer = add(served, "alice")
            case 2:
                answer = delete(served, "alice")
            case 3:
                answer = served.post(json=SHORT | {"voice": "alice"})
            case _:
                answer = served.get(f"{VOICES}/alice/sample")
                return answer.status_code, answer.status_code == 404 or answer.content == recording(0)
        return answer.status_code, True

    with ThreadPoolExecutor(10) as clients:
        answers = list(clients.map(work, range(100)))
    assert {status for status, _ in answers} <= {200, 201, 400, 404, 409}
    assert all(whole for _, whole in answers)
    assert served.get(VOICES).status_code == 200


def test_of_many_who_add_one_voice_one_does(served):
    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda seed: add(served, "alice", seed).status_code, range(8)))
    assert sorted(answers) == [201] + [409] * 7


def test_a_sample_that_is_replaced_while_it_is_read_is_heard_to_its_end(served, voices):
    """By a client that reads nothing until the next recording is there."""
    long, short = recording(0, seconds=60), recording(1)
    first = voices.add("alice", soundfile.read(io.BytesIO(long)))
    expected = first.sample.read_bytes()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", served.port))
        client.sendall(f"GET {VOICES}/alice/sample HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        heard = client.recv(1000)
        voices.add("alice", soundfile.read(io.BytesIO(short)), replace=True)
        while part := client.recv(1 << 20):
            heard += part
    assert heard.partition(b"\r\n\r\n")[2] == expected


def test_a_full_registry_takes_a_replacement(checkpoints, tmp_path):
    with serving(checkpoints["delay"], tmp_path, max_voices=1) as running:
        assert add(running, "alice").status_code == 201
        assert add(running, "bob").json()["error"]["code"] == "full"
        assert add(running, "alice", seed=1, replace="true").status_code == 201
