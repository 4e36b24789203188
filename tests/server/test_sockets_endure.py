"""Sessions over WebSockets with clients that leave, wait, do not read, or go on for very long."""

from __future__ import annotations

import gc
import socket
import time
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra server is not installed")

from moss_tts.sessions.turn import Turn
from moss_tts.speaking.listening import MOST_AHEAD
from support.serving import Serving, assert_same_speech, serving, wait_until
from support.sockets import OPTIONS, REALTIME, STREAM, Beep, Talk, talking

TEXT = "Well, this is the first clause, and that is more. It was late!"
# Speech that goes on until somebody stops it.
ENDLESS = {
    "runaway_guard": False,
    "text_temperature": 0.0,
    "seed": 1,
    "max_tokens": 100_000,
    "streaming_interval": 0.32,
}
SEND_BUFFER = 2**15


@pytest.fixture(scope="module")
def served(checkpoints, tmp_path_factory) -> Any:
    directory = tmp_path_factory.mktemp("voices")
    with serving(checkpoints["delay"], directory, max_batch=2, send_buffer=SEND_BUFFER) as running:
        yield running


def wait_until_nobody_is_here(running: Serving) -> None:
    wait_until(lambda: running.counter("moss_tts_sessions") == 0 and not running.device.running)


# ------------------------------------------------------------------------------------------------ who leaves

STEPS = [
    ("session.config", {"session": OPTIONS | {"max_tokens": 400}}),
    ("turn.start", {"turn_id": "t"}),
    ("input.text", {"turn_id": "t", "text": TEXT}),
    ("input.text", {"turn_id": "t", "text": TEXT}),
    ("input.done", {"turn_id": "t"}),
]


@pytest.mark.parametrize("hears", [False, True], ids=["at once", "after an answer"])
@pytest.mark.parametrize("steps", range(len(STEPS) + 1))
def test_a_client_that_vanishes_leaves_nothing(served, steps, hears):
    with talking(served) as talk:
        for type_, fields in STEPS[:steps]:
            talk.send(type_, **fields)
            if hears:
                talk.receive()
        talk.connection.socket.shutdown(socket.SHUT_RDWR)
    wait_until_nobody_is_here(served)


def test_a_client_that_vanishes_between_two_turns(served):
    with talking(served) as talk:
        talk.configure()
        talk.turn("t", TEXT)
        talk.connection.socket.shutdown(socket.SHUT_RDWR)
    wait_until_nobody_is_here(served)


@pytest.mark.parametrize("text", ["", TEXT])
def test_a_client_that_says_goodbye_within_a_turn(served, text):
    with talking(served) as talk:
        talk.configure(**ENDLESS)
        talk.begin("t", text, ends=False)
        talk.connection.close()
    wait_until_nobody_is_here(served)
    with talking(served, STREAM) as talk:
        talk.send("session.config", **ENDLESS, stream_audio=True)
        talk.send("input.text", text=text)
        talk.connection.close()
    wait_until_nobody_is_here(served)


def test_the_end_of_a_session_stops_its_turn(served):
    with talking(served) as talk:
        talk.configure(**ENDLESS)
        talk.begin("t", TEXT)
        talk.until("audio.start")
        talk.send("session.close")
        heard = talk.until("session.closed")
        assert heard.types == ["audio.done", "turn.done", "session.closed"]
        assert heard.messages[1]["reason"] == "session_closed"
        assert talk.closed() == 1000
    wait_until_nobody_is_here(served)


# --------------------------------------------------------------------------------------------- who does not read


def test_what_is_made_for_a_client_that_does_not_read_waits_as_codes(served, monkeypatch, delay_model):
    """Little of it is decoded, and no other request waits."""
    told, tell = [], Turn.tell

    def counted(turn: Turn, part: Any, segment: int = 0) -> None:
        told.append(part.audio.nbytes)
        tell(turn, part, segment)

    monkeypatch.setattr(Turn, "tell", counted)
    with talking(served, max_queue=1) as talk:
        talk.configure(**ENDLESS | {"max_tokens": 1500, "streaming_interval": 0.32})
        talk.begin("t", TEXT)
        wait_until(lambda: sum(told) > MOST_AHEAD)
        assert_same_speech(
            served.pcm({"input": "Hello there.", "seed": 1, "max_tokens": 12}),
            next(delay_model.generate("Hello there.", seed=1, max_tokens=12)).audio,
        )
        made = -1
        while made != sum(told):
            made = sum(told)
            time.sleep(0.5)
        assert made < 2 * MOST_AHEAD
        # Cancelling is heard at once, however much waits.
        talk.send("turn.cancel", turn_id="t")
        assert talk.until("turn.done").last["reason"] == "client_cancelled"


def test_a_client_that_takes_nothing_is_given_up(checkpoints, tmp_path):
    reader = 1e6
    with serving(checkpoints["delay"], tmp_path, reader_timeout_s=reader, send_buffer=SEND_BUFFER) as running:
        with talking(running, max_queue=1, close_timeout=0.1) as talk:
            talk.configure(**ENDLESS)
            talk.begin("t", TEXT)
            wait_until(lambda: running.device.running)
            with running.passing(reader):
                wait_until_nobody_is_here(running)
        wait_until(lambda: len(running.server.server_state.connections) <= 1)
        assert running.outcome("cancelled") == 1


# -------------------------------------------------------------------------------------------------- limits


# Seconds that do not pass by themselves while a test waits.
IDLE, TURN, SESSION = 400_000.0, 1_000_000.0, 1_500_000.0
GRACE = 200_000.0


@pytest.fixture(scope="module")
def strict(checkpoints, tmp_path_factory) -> Any:
    limits = {"session_idle_s": IDLE, "turn_timeout_s": TURN, "session_timeout_s": SESSION}
    with serving(checkpoints["delay"], tmp_path_factory.mktemp("voices"), **limits) as running:
        yield running


def ended(talk: Talk) -> tuple[str, int | None]:
    return talk.until("error").last["message"], talk.closed()


def test_a_session_without_messages_ends(strict):
    with talking(strict) as talk:
        talk.configure()
        with strict.passing(IDLE):
            assert ended(talk) == ("a session may be without a message for 400000 s", 1001)
    with talking(strict, STREAM) as talk:
        talk.send("session.config", stream_audio=True)
        talk.send("input.text", text="Well.")
        with strict.passing(IDLE):
            assert ended(talk) == ("a session may be without a message for 400000 s", 1001)
    wait_until_nobody_is_here(strict)


def test_a_turn_that_takes_too_long_ends_alone(strict):
    """While its sound is made, messages are not missed."""
    with talking(strict) as talk:
        talk.configure(**ENDLESS)
        talk.begin("t", TEXT)
        talk.until("audio.start")
        strict.later(TURN)
        heard = talk.until("turn.done")
        assert heard.types == ["error", "audio.done", "turn.done"]
        assert heard.messages[0]["message"] == "the turn took longer than 1e+06 s"
        assert (heard.last["committed"], heard.last["reason"]) == (False, "timeout")
        talk.begin("u", TEXT)
        talk.until("audio.start")
        strict.later(TURN)
        assert talk.until("turn.done").last["reason"] == "timeout"
        assert ended(talk) == ("a session may last 1.5e+06 s", 1001)
    assert strict.outcome("timeout") == 2
    wait_until_nobody_is_here(strict)


def begin_a_turn(talk: Talk, path: str) -> None:
    """Send text that may go on, until sound comes."""
    if path == REALTIME:
        talk.configure()
        talk.begin("t", TEXT, ends=False)
    else:
        talk.send("session.config", stream_audio=True, **OPTIONS)
        talk.send("input.text", text=TEXT)
    talk.until("audio.start")


@pytest.mark.parametrize("path", [STREAM, REALTIME])
def test_a_server_that_stops_lets_turns_end(checkpoints, tmp_path, path):
    with serving(checkpoints["delay"], tmp_path) as running, talking(running, path) as talk, talking(running) as idle:
        idle.configure()
        begin_a_turn(talk, path)
        running.server.should_exit = True
        assert ended(idle) == ("the server is stopping", 1012)
        talk.send("input.done", **({"turn_id": "t"} if path == REALTIME else {}))
        heard = talk.until("turn.done" if path == REALTIME else "session.done")
        assert heard.sound
        assert ended(talk) == ("the server is stopping", 1012)


@pytest.mark.parametrize("path", [STREAM, REALTIME])
def test_a_server_that_stops_says_goodbye_to_those_who_go_on_writing(checkpoints, tmp_path, path):
    with serving(checkpoints["delay"], tmp_path, grace_s=GRACE) as running, talking(running, path) as talk:
        begin_a_turn(talk, path)
        running.server.should_exit = True
        wait_until(lambda: refuses(running))
        running.later(0.95 * GRACE)
        assert ended(talk) == ("the server is stopping", 1012)


def refuses(running: Serving) -> bool:
    """Whether the server has begun to stop: it listens no more."""
    return not any(server.is_serving() for server in running.server.servers)


# --------------------------------------------------------------------------------------------------- very many


def test_a_thousand_turns_take_no_more_memory_than_some(served, monkeypatch):
    """The turns of a model are counted in tests/sessions."""
    monkeypatch.setattr(type(served.model), "_conversation", lambda *_: Beep())
    with talking(served) as talk:
        talk.configure()
        kept = {}
        for number in range(1000):
            assert talk.turn(f"turn {number}", "Hi.").last["reason"] == "stop"
            if number in (299, 999):
                gc.collect()
                kept[number] = len(gc.get_objects())
        assert kept[999] - kept[299] < 300
    wait_until_nobody_is_here(served)
