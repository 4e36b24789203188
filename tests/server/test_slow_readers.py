"""Clients that leave in the middle of a speech, or do not read it: nobody else waits for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPResponse, IncompleteRead
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the extra server is not installed")

from moss_tts.server import chunk_stream
from moss_tts.server.chunk_stream import ChunkStream, Part
from support.serving import PATIENCE, Serving, serving, wait_until

FRAMES = 100
SAMPLES_PER_FRAME = 1920
ENDLESS = {
    "input": "Hello there.",
    "max_tokens": FRAMES,
    "runaway_guard": False,
    "text_temperature": 0.0,
    "seed": 1,
    "streaming_interval": 0.08,
    "response_format": "pcm",
}
# Two segments side by side, so that the chunks of each come together.
LONG = ENDLESS | {
    "input": "A sentence of some length that is spoken. " * 40,
    "long_form": True,
    "long_form_continuity": "none",
    "long_form_parallel": 2,
}
ONE_SEGMENT = LONG | {"input": "Hello there."}
# The least that the system keeps for a client.
SEND_BUFFER = 4096


@pytest.fixture(autouse=True)
def little_ahead(monkeypatch) -> None:
    """Hardly anything waits for a client."""
    monkeypatch.setattr(chunk_stream, "MOST_AHEAD", 2**14)


@pytest.fixture
def served(checkpoints, tmp_path) -> Iterator[Serving]:
    """One request speaks, one more may wait."""
    with serving(checkpoints["delay"], tmp_path, max_batch=1, max_waiting=1, send_buffer=SEND_BUFFER) as running:
        yield running


@contextmanager
def unread(served: Serving, body: dict[str, Any]) -> Iterator[HTTPResponse]:
    """The answer to a client that has heard the first sample and reads no further."""
    with served.open(body) as connection:
        response = connection.getresponse()
        assert response.status == 200, response.read()
        assert response.read(2)
        yield response


def test_a_client_that_leaves_a_long_text_takes_no_thread_along(served):
    with unread(served, LONG):
        pass
    with unread(served, LONG):
        pass
    wait_until(lambda: served.outcome("cancelled") == 2)
    assert len(served.pcm(ONE_SEGMENT)) == FRAMES * SAMPLES_PER_FRAME


def test_a_long_text_that_is_not_read_keeps_no_other_waiting(served):
    with unread(served, LONG):
        assert len(served.pcm(ONE_SEGMENT)) == FRAMES * SAMPLES_PER_FRAME


def test_what_is_made_for_a_client_that_does_not_read_waits_as_codes(served, monkeypatch):
    """Little of it is decoded before the client reads on, and then it hears the same as everybody."""
    told, tell = [], ChunkStream.tell

    def counted(stream: ChunkStream, part: Part) -> None:
        told.append(len(part.audio))
        tell(stream, part)

    monkeypatch.setattr(ChunkStream, "tell", counted)
    long = ENDLESS | {"max_tokens": 400, "streaming_interval": 0.32}
    with unread(served, long) as answer:
        # One request speaks at a time, so that all rows of the first one are made when the second one is heard.
        assert len(served.pcm(ENDLESS)) == FRAMES * SAMPLES_PER_FRAME
        assert sum(told) < 250 * SAMPLES_PER_FRAME
        heard = np.frombuffer(answer.read(), "<i2")
    # Other chunks give other last bits.
    np.testing.assert_allclose(heard, served.pcm(long)[1:], atol=1)


# ---------------------------------------------------------------------------------------------- places


WHOLE = ENDLESS | {"max_tokens": 400, "streaming_interval": 0.32, "stream": False}


# One request is let in at a time.
NARROW = {"max_batch": 1, "max_waiting": 0, "send_buffer": SEND_BUFFER}
# Seconds that do not pass by themselves while a test waits: for the next piece of an answer, and the next request.
READER, IDLE = 1e6, 1e3


@pytest.fixture
def narrow(checkpoints, tmp_path) -> Iterator[Serving]:
    with serving(checkpoints["delay"], tmp_path, reader_timeout_s=READER, idle_s=IDLE, **NARROW) as running:
        yield running


@pytest.fixture
def impatient(checkpoints, tmp_path) -> Iterator[Serving]:
    with serving(checkpoints["delay"], tmp_path, reader_timeout_s=READER, **NARROW) as running:
        yield running


def test_a_whole_answer_has_its_place_until_it_is_taken(narrow):
    with unread(narrow, WHOLE) as answer:
        assert narrow.post(json=ENDLESS).status_code == 503
        assert len(answer.read()) == int(answer.headers["content-length"]) - 2
    wait_until(lambda: narrow.outcome("ok") == 1)
    assert narrow.post(json=ENDLESS).status_code == 200


@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_that_is_not_read_loses_its_place(impatient, stream):
    with unread(impatient, WHOLE | {"stream": stream}) as answer:
        with impatient.passing(READER):
            wait_until(lambda: impatient.outcome("timeout") == 1)
        assert impatient.post(json=ENDLESS).status_code == 200
        with pytest.raises((IncompleteRead, ConnectionError)):
            answer.read()


def test_an_answer_that_is_read_slowly_comes_whole(narrow):
    with unread(narrow, WHOLE) as answer:
        heard = 2
        while part := answer.read(2**16):
            heard += len(part)
            # The system may hold half of the answer already; while that is read, the server waits for one piece.
            narrow.later(0.05 * READER)
    assert heard == WHOLE["max_tokens"] * SAMPLES_PER_FRAME * 2


def test_the_end_of_an_answer_waits_for_its_client_as_the_rest_does(narrow):
    """All of it is on its way, so that the connection waits for the next request already."""
    with unread(narrow, WHOLE | {"max_tokens": 50}) as answer:
        wait_until(lambda: narrow.outcome("ok") == 1)
        narrow.later(3 * IDLE)
        assert len(answer.read()) == int(answer.headers["content-length"]) - 2


def test_a_file_of_samples_has_its_place_until_it_is_taken(narrow):
    connection = HTTPConnection("127.0.0.1", narrow.port, timeout=PATIENCE)
    with closing(connection):
        path = "/v1/audio/encode?sample_rate=24000&response_format=wav"
        connection.request("POST", path, bytes(2**21), {"Content-Type": "audio/pcm"})
        answer = connection.getresponse()
        assert (answer.status, narrow.post(json=ENDLESS).status_code) == (200, 503)
        assert len(answer.read()) == int(answer.headers["content-length"])
    wait_until(lambda: narrow.post(json=ENDLESS).status_code == 200)
