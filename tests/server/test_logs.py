"""The server's log: a line for each request, with the identifier that the answer names."""

from __future__ import annotations

import json
import logging

import pytest
import requests

from moss_tts.server import logs
from support.serving import Serving, serving, wait_until
from support.sockets import REALTIME, talking

pytest.importorskip("fastapi", reason="the extra server is not installed")


@pytest.fixture(scope="module")
def served(checkpoints, tmp_path_factory):
    with serving(checkpoints["delay"], tmp_path_factory.mktemp("voices")) as server:
        yield server


def lines_of(
    served: Serving, capsys, path: str, *, as_json: bool, **headers: str
) -> tuple[requests.Response, list[str]]:
    """A request's answer, and what the server wrote of it."""
    with logs.shown(as_json):
        response = requests.get(served.url + path, headers=headers, timeout=60)
        # The line comes after the answer.
        wait_until(lambda: not served.server.server_state.tasks)
    return response, [line for line in capsys.readouterr().err.splitlines() if line]


def test_a_line_of_text_says_what_was_answered(served, capsys):
    response, lines = lines_of(served, capsys, "/v1/models", as_json=False)
    (line,) = [line for line in lines if "/v1/models" in line]
    assert f" {response.headers['x-request-id']} " in line
    assert f"GET /v1/models: 200, {len(response.content)} bytes in " in line


def test_a_line_of_json_has_the_same_facts(served, capsys):
    response, lines = lines_of(served, capsys, "/v1/nothing%0Ahere", as_json=True, **{"X-Request-Id": "mine-1"})
    (entry,) = [json.loads(line) for line in lines]
    assert response.headers["x-request-id"] == entry["request"] == "mine-1"
    assert (entry["method"], entry["path"], entry["status"]) == ("GET", "/v1/nothing\nhere", 404)
    assert entry["bytes"] == len(response.content)
    assert entry["seconds"] >= 0
    assert entry["level"] == "info"


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "é"])
def test_an_identifier_that_could_harm_a_log_is_replaced(served, name):
    response = requests.get(served.url + "/health", headers={"X-Request-Id": name.encode()}, timeout=60)
    assert response.headers["x-request-id"] != name
    assert logs.HARMLESS.fullmatch(response.headers["x-request-id"])


def test_probes_write_no_line(served, capsys):
    assert lines_of(served, capsys, "/health", as_json=False)[1] == []


def test_a_model_that_leaves_when_idle_belongs_to_no_request(checkpoints, tmp_path, capsys):
    keep_alive = 1e6
    with serving(checkpoints["delay"], tmp_path, keep_alive_s=keep_alive) as server, logs.shown(as_json=True):
        server.pcm({"input": "Hello.", "max_tokens": 2})
        with server.passing(keep_alive):
            wait_until(lambda: server.get("/v1/models/demo").json()["state"] == "unloaded")
    entries = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    (left,) = [entry for entry in entries if "has left memory" in entry["message"]]
    assert left["request"] == "-"


def test_a_failure_keeps_its_traceback_in_json(capsys):
    with logs.shown(as_json=True):
        try:
            raise ValueError("two\nlines")
        except ValueError:
            logging.getLogger("moss_tts.server").exception("a step failed")
    (line,) = capsys.readouterr().err.splitlines()
    entry = json.loads(line)
    assert entry["level"] == "error"
    assert entry["request"] == "-"
    assert "ValueError: two\nlines" in entry["exception"]


def test_loggers_are_as_before(capsys):
    before = [(logging.getLogger(name).level, logging.getLogger(name).propagate) for name in logs.LOGGERS]
    with logs.shown(as_json=True):
        pass
    assert before == [(logging.getLogger(name).level, logging.getLogger(name).propagate) for name in logs.LOGGERS]
    logging.getLogger("uvicorn").info("nothing")
    assert capsys.readouterr().err == ""


def test_a_session_over_a_websocket_has_one_line(served: Serving, capsys):
    with logs.shown(True):
        with talking(served, headers={"X-Request-Id": "mine-2"}) as talk:
            assert talk.connection.response is not None
            assert talk.connection.response.headers["x-request-id"] == "mine-2"
            talk.configure()
            talk.send("session.close")
            assert talk.closed() == 1000
        wait_until(lambda: not served.server.server_state.tasks)
    (entry,) = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line]
    assert (entry["method"], entry["path"], entry["status"]) == ("WEBSOCKET", REALTIME, 101)
    assert entry["request"] == "mine-2"
    assert entry["bytes"] > 100
