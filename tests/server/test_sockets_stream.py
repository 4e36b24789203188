"""Utterances over a WebSocket, used by a real client."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

pytest.importorskip("fastapi", reason="the extra server is not installed")

from support.serving import assert_same_speech, serving
from support.sockets import OPTIONS, STREAM, Talk, talking

DOCUMENT = Path(__file__).parents[2] / "docs" / "server.md"
PIECES = ["Well, this is the first ", "clause, and that is more. ", "It was late!"]
TEXT = "".join(PIECES)


@pytest.fixture(scope="module")
def served(checkpoints, tmp_path_factory) -> Any:
    with serving(checkpoints["delay"], tmp_path_factory.mktemp("voices"), max_chars=300) as running:
        yield running


@pytest.fixture
def talk(served) -> Any:
    with talking(served, STREAM) as connected:
        yield connected


@pytest.fixture(scope="module")
def spoken(delay_model) -> list[np.ndarray]:
    """The sound of two turns of a session of our own."""
    with delay_model.session(**OPTIONS) as session:
        return [np.concatenate([chunk.audio for chunk in session.speak([TEXT])]) for _ in range(2)]


def say(talk: Talk, *pieces: str) -> None:
    for piece in pieces:
        talk.send("input.text", text=piece)
    talk.send("input.done")


def test_the_documented_conversation(talk, spoken):
    """vLLM-Omni's: the configuration first, text in pieces, its end; sound streamed as PCM."""
    talk.send("session.config", voice="default", response_format="pcm", stream_audio=True, **OPTIONS)
    say(talk, *PIECES)
    heard = talk.until("session.done")
    assert heard.types == ["audio.start", "audio.done", "session.done"]
    start, done, end = heard.messages
    assert TEXT.startswith(start.pop("sentence_text"))
    of_utterance = {"utterance_index": 0, "sentence_index": 0}
    assert start == {"type": "audio.start", **of_utterance, "format": "pcm", "sample_rate": 24000, "channels": 1}
    assert done == {"type": "audio.done", **of_utterance, "total_bytes": len(heard.sound), "error": False}
    assert end == {"type": "session.done", "utterance_index": 0, "total_sentences": 1}
    assert_same_speech(heard.samples, spoken[0])
    say(talk, *PIECES)
    heard = talk.until("session.done")
    assert heard.last["utterance_index"] == 1
    assert_same_speech(heard.samples, spoken[1])
    talk.send("session.close")
    assert talk.closed() == 1000


def test_the_program_of_the_documents_runs(served, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    [program] = re.findall(r"```python\n(import json\nfrom websockets.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
    exec(program.replace("127.0.0.1:8000", f"127.0.0.1:{served.port}"), {})
    assert (tmp_path / "speech.pcm").stat().st_size > 2000


def test_without_streaming_an_utterance_is_one_whole_file(talk, spoken):
    talk.send("session.config", **OPTIONS)
    say(talk, *PIECES)
    heard = talk.until("session.done")
    assert (heard.messages[0]["format"], heard.parts) == ("wav", 1)
    samples, rate = soundfile.read(io.BytesIO(heard.sound), dtype="int16")
    assert rate == 24000
    assert_same_speech(samples, spoken[0])


def test_what_is_sent_at_once_is_done_one_after_the_other(talk, spoken):
    """Even the end of the session waits for the sound."""
    talk.send("session.config", stream_audio=True, **OPTIONS)
    say(talk, *PIECES)
    say(talk, *PIECES)
    talk.send("session.close")
    for wanted in spoken:
        assert_same_speech(talk.until("session.done").samples, wanted)
    assert talk.closed() == 1000


def test_another_configuration_between_two_utterances(talk, spoken):
    talk.send("session.config", **OPTIONS | {"seed": 6})
    say(talk, "Another voice.")
    talk.send("session.config", stream_audio=True, **OPTIONS)
    say(talk, *PIECES)
    assert talk.until("session.done").messages[0]["format"] == "wav"
    assert_same_speech(talk.until("session.done").samples, spoken[0])
    talk.send("session.config", voice="nobody")
    assert talk.answer()["param"] == "voice"
    talk.send("input.text", text="Well.")
    talk.send("session.config")
    assert talk.until("error").last["code"] == "turn_active"
    talk.send("input.done")
    assert talk.until("session.done").last["total_sentences"] == 1


def test_what_is_left_out_is_told(talk):
    talk.send("session.config", repetition_window=50, **OPTIONS)
    talk.send("input.done")
    assert talk.answer()["warnings"] == [
        "repetition_window was left out: the penalty of this model looks at all frames."
    ]


def test_an_utterance_without_text(talk):
    talk.send("session.config", stream_audio=True, **OPTIONS)
    for index in range(2):
        talk.send("input.text", text="")
        talk.send("input.done")
        assert talk.answer() == {"type": "session.done", "utterance_index": index, "total_sentences": 0}


def test_an_utterance_without_a_word_fails_alone(talk, spoken):
    talk.send("session.config", stream_audio=True, **OPTIONS)
    say(talk, "...")
    heard = talk.until("session.done")
    assert heard.types == ["error", "audio.done", "session.done"]
    assert heard.messages[1]["error"] is True
    say(talk, *PIECES)
    assert_same_speech(talk.until("session.done").samples, spoken[0])


WRONG = [
    "[",
    "[]",
    '{"type": "turn.start", "turn_id": "t"}',
    '{"type": "input.text"}',
    '{"type": "input.text", "text": 1}',
]


def test_messages_that_are_none_change_nothing(talk, spoken):
    talk.send("session.config", stream_audio=True, **OPTIONS)
    talk.send("input.text", text=PIECES[0])
    for wrong in [*WRONG, b"\x00", json.dumps({"type": "input.text", "text": "x" * 301})]:
        talk.connection.send(wrong)
    say(talk, *PIECES[1:])
    heard = talk.until("session.done")
    assert heard.types.count("error") == len(WRONG) + 2
    assert_same_speech(heard.samples, spoken[0])


@pytest.mark.parametrize(
    "first", ['{"type": "input.text", "text": "Hi."}', "[", '{"type": "session.config", "response_format": "aac"}']
)
def test_the_first_message_must_be_a_configuration(talk, first):
    talk.connection.send(first)
    assert talk.answer()["type"] == "error"
    assert talk.closed() == 1008
