"""Files of samples that clients have: what comes back is the samples, and what is no samples is refused."""

from __future__ import annotations

import io
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import av
import numpy as np
import pytest
import requests
import soundfile

pytest.importorskip("fastapi", reason="the extra server is not installed")

from moss_tts.server.encode import MOST_AT_ONCE
from moss_tts.server.formats import FORMATS
from support.serving import Serving, serving


@pytest.fixture(scope="module")
def served(checkpoints, tmp_path_factory) -> Any:
    with serving(checkpoints["delay"], tmp_path_factory.mktemp("voices"), max_body=2**21) as running:
        yield running


def encode(served: Serving, body: bytes, kind: str = "audio/pcm", **query: Any) -> requests.Response:
    headers = {"Content-Type": kind}
    url = f"{served.url}/v1/audio/encode"
    return requests.post(url, data=body, params={"sample_rate": 24000, **query}, headers=headers, timeout=60)


def tone(channels: int = 1, seconds: float = 1.0) -> np.ndarray:
    times = np.arange(int(24000 * seconds)) / 24000
    samples = (9000 * np.sin(2 * np.pi * 440 * times)).astype("<i2")
    return samples if channels == 1 else np.stack([samples, samples // 2], axis=1)


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("channels", [1, 2])
def test_every_format_holds_the_samples(served, format_, channels):
    # Longer than what is encoded at a time.
    samples = tone(channels, 12.0)
    response = encode(served, samples.tobytes(), channels=channels, response_format=format_)
    assert (response.status_code, response.headers["content-type"]) == (200, FORMATS[format_].media_type)
    if format_ == "pcm":
        assert response.content == samples.tobytes()
    elif format_ in ("wav", "flac"):
        decoded, rate = soundfile.read(io.BytesIO(response.content), dtype="int16")
        assert rate == 24000
        np.testing.assert_array_equal(decoded, samples)
    else:
        with av.open(io.BytesIO(response.content)) as container:
            frames = list(container.decode(audio=0))
        assert frames[0].layout.nb_channels == channels
        assert sum(frame.samples / frame.sample_rate for frame in frames) == pytest.approx(12.0, abs=0.2)


@pytest.mark.parametrize(
    ("body", "query", "status"),
    [
        (b"", {}, 400),
        (b"\0\0\0", {}, 400),
        (b"\0\0", {"channels": 2}, 400),
        (b"\0\0", {"channels": 3}, 400),
        (b"\0\0", {"sample_rate": 1}, 400),
        (b"\0\0", {"sample_rate": "x"}, 400),
        (b"\0\0", {"response_format": "ogg"}, 400),
        (b"\0\0", {"kind": "application/json"}, 415),
        (b"\0" * (2**21 + 2), {}, 413),
    ],
)
def test_what_is_no_samples_is_refused(served, body, query, status):
    response = encode(served, body, **query)
    assert response.status_code == status, response.text
    assert response.json()["error"]["type"] == "invalid_request_error"


def test_few_are_made_at_a_time_and_slow_bodies_keep_nobody_out(served, monkeypatch):
    head = "POST /v1/audio/encode?sample_rate=24000 HTTP/1.1\r\nHost: x\r\nContent-Type: audio/pcm\r\n"
    with ExitStack() as stack:
        for _ in range(MOST_AT_ONCE):
            slow = stack.enter_context(socket.create_connection(("127.0.0.1", served.port)))
            slow.sendall(f"{head}Content-Length: 4\r\n\r\n".encode())
        assert encode(served, tone().tobytes()).status_code == 200
    go_on, running = threading.Event(), threading.Semaphore(0)

    def waits(*_: Any) -> bytes:
        running.release()
        assert go_on.wait(60)
        return b"made"

    with monkeypatch.context() as patch, ThreadPoolExecutor(MOST_AT_ONCE) as clients:
        patch.setattr("moss_tts.server.encode.encoded", waits)
        busy = [clients.submit(encode, served, tone().tobytes()) for _ in range(MOST_AT_ONCE)]
        for _ in busy:
            assert running.acquire(timeout=60)
        refused = encode(served, tone().tobytes())
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
        assert refused.headers["retry-after"] == "1"
        go_on.set()
        assert [future.result().content for future in busy] == [b"made"] * MOST_AT_ONCE
    assert encode(served, tone().tobytes()).status_code == 200
