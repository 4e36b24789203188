"""Sessions with turns over WebSockets, used by a real client."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the extra server is not installed")

from support.serving import assert_same_speech, serving
from support.sockets import OPTIONS, Talk, talking

TEXT = "Well, this is the first clause, and that is more. It was late! Then all went home again."


@pytest.fixture(scope="module")
def served(checkpoints, tmp_path_factory) -> Any:
    with serving(checkpoints["delay"], tmp_path_factory.mktemp("voices"), max_chars=2000) as running:
        yield running


@pytest.fixture
def talk(served) -> Any:
    with talking(served) as connected:
        yield connected


def spoken(model: Any, *texts: str) -> list[np.ndarray]:
    """The sound of the turns of a session of our own."""
    with model.session(**OPTIONS) as session:
        return [np.concatenate([chunk.audio for chunk in session.speak([text])]) for text in texts]


# --------------------------------------------------------------------------------------- the documented conversation


def receive_until(talk: Talk, expected: str, pcm: bytearray | None = None, accepted: int | None = None) -> Any:
    """As SGLang-Omni's documents have a client wait: sound is taken, other messages are passed over, errors raise."""
    while True:
        message = talk.receive()
        if isinstance(message, bytes):
            assert pcm is not None, f"sound while waiting for {expected}"
            pcm.extend(message)
            continue
        assert message["type"] != "error", message
        if message["type"] == expected and accepted in (None, message.get("accepted_seq_no")):
            return message


def test_the_documented_conversation(talk, delay_model):
    """SGLang-Omni's: a session with its fields, two turns in acknowledged pieces, the end."""
    fields = {"model": "demo", "voice": "default", "response_format": "pcm", "sample_rate": 24000}
    sampling = {"temperature": 0.8, "top_p": 0.6, "top_k": 30, "repetition_penalty": 1.1}
    talk.send("session.config", session={**fields, **sampling, "seed": 5, "max_new_tokens": 6})
    configured = receive_until(talk, "session.configured")
    assert (configured["sample_rate"], configured["max_active_turns"]) == (24000, 1)
    assert configured["input_modes"] == ["text"]
    made = []
    for turn_id, pieces in (
        ("turn-1", ["The first ", "assistant response ", "arrives."]),
        ("turn-2", ["A second ", "one."]),
    ):
        talk.send("turn.start", turn_id=turn_id)
        assert receive_until(talk, "turn.started")["next_seq_no"] == 0
        pcm = bytearray()
        for number, text in enumerate(pieces):
            talk.send("input.text", turn_id=turn_id, seq_no=number, text=text)
            receive_until(talk, "input.ack", pcm, number)
        talk.send("input.done", turn_id=turn_id, seq_no=len(pieces))
        assert receive_until(talk, "input.ack", pcm, len(pieces))["next_seq_no"] == len(pieces) + 1
        done = receive_until(talk, "turn.done", pcm)
        assert (done["committed"], done["reason"]) == (True, "length")
        made.append(np.frombuffer(pcm, "<i2"))
    talk.send("session.close")
    assert receive_until(talk, "session.closed")["session_id"] == configured["session_id"]
    assert talk.closed() == 1000
    options = sampling | {"seed": 5, "max_tokens": 6}
    with delay_model.session(**options) as session:
        for heard, text in zip(made, ["The first assistant response arrives.", "A second one."], strict=True):
            assert_same_speech(heard, np.concatenate([chunk.audio for chunk in session.speak([text])]))


def test_a_turn_is_told_in_order(talk):
    configured = talk.configure()
    heard = talk.turn("t", TEXT)
    assert heard.types == ["audio.start", "audio.done", "turn.done"]
    start, done, end = heard.messages
    request = f"{configured['session_id']}:t"
    assert start == {
        "type": "audio.start", "id": request, "turn_id": "t", "format": "pcm", "sample_rate": 24000, "channels": 1,
    }  # fmt: skip
    assert done == {
        "type": "audio.done", "id": request, "turn_id": "t",
        "total_chunks": heard.parts, "total_bytes": len(heard.sound), "error": False,
    }  # fmt: skip
    assert (end["request_id"], end["session_id"]) == (request, configured["session_id"])
