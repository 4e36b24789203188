"""Sessions with turns over WebSockets, used by a real client."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the extra server is not installed")

import av

import moss_tts
from moss_tts.audio.files import encode_audio
from moss_tts.checkpoints.demo import write_demo_checkpoint
from support.serving import assert_same_speech, serving
from support.sockets import OPTIONS, Beep, Talk, talking

TEXT = "Well, this is the first clause, and that is more. It was late! Then all went home again."


@pytest.fixture(scope="module")
def served(checkpoints, tmp_path_factory) -> Any:
    with serving(checkpoints["delay"], tmp_path_factory.mktemp("voices")) as running:
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
    more = {"repetition_window": 50, "seed": 5, "max_new_tokens": 6}
    talk.send("session.config", session={**fields, **sampling, **more})
    configured = receive_until(talk, "session.configured")
    assert configured["warnings"] == ["repetition_window was left out: the penalty of this model looks at all frames."]
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


# ----------------------------------------------------------------------------------------------- what is spoken


def test_turns_are_those_of_a_session_whatever_their_pieces(talk, delay_model):
    talk.configure()
    pieces = [TEXT[at : at + 3] for at in range(0, len(TEXT), 3)]
    heard = [talk.turn("a", *pieces), talk.turn("b", TEXT)]
    for one, wanted in zip(heard, spoken(delay_model, TEXT, TEXT), strict=True):
        assert_same_speech(one.samples, wanted)


def test_sound_comes_before_the_text_has_ended(talk):
    talk.configure()
    talk.begin("t", "Well, this is the first clause, and", ends=False)
    while isinstance(talk.receive(), dict):
        pass
    talk.send("input.text", turn_id="t", text=" that is more.")
    talk.send("input.done", turn_id="t")
    assert talk.until("turn.done").last["committed"]


def test_sessions_and_requests_side_by_side_sound_as_alone(served, delay_model):
    body = {"input": "A request by HTTP.", "seed": 3, "max_tokens": 12}
    alone = next(delay_model.generate(body["input"], seed=3, max_tokens=12)).audio
    with talking(served) as one, talking(served) as other:
        for talk in (one, other):
            talk.configure()
            talk.begin("t", TEXT, ends=False)
        assert_same_speech(served.pcm(body), alone)
        for talk in (one, other):
            talk.send("input.done", turn_id="t")
            assert_same_speech(talk.until("turn.done").samples, spoken(delay_model, TEXT)[0])


@pytest.mark.parametrize("format_", ["wav", "opus"])
def test_sound_in_a_container(talk, delay_model, format_):
    assert talk.configure(response_format=format_)["response_format"] == format_
    heard = talk.turn("t", TEXT)
    assert heard.messages[0]["format"] == format_
    samples, rate = decoded(heard.sound)
    assert abs(len(samples) / rate - len(spoken(delay_model, TEXT)[0]) / 24000) < 0.05


def decoded(content: bytes) -> tuple[np.ndarray, int]:
    with av.open(io.BytesIO(content)) as file:
        parts = [frame.to_ndarray()[0] for frame in file.decode(audio=0)]
        return np.concatenate(parts), file.streams.audio[0].rate


def test_a_voice_by_its_name(served, talk, delay_model, tmp_path):
    recording = encode_audio(0.1 * np.random.default_rng(0).standard_normal(24000), 24000, ".wav")
    file = tmp_path / "alice.wav"
    file.write_bytes(recording)
    served.post("/v1/audio/voices", data={"name": "alice"}, files={"audio_sample": ("alice.wav", recording)})
    talk.configure(voice="alice")
    with delay_model.session(reference=str(file), **OPTIONS) as session:
        wanted = np.concatenate([chunk.audio for chunk in session.speak([TEXT])])
    assert_same_speech(talk.turn("t", TEXT).samples, wanted)


# -------------------------------------------------------------------------------------------- cancel and interrupt


def test_a_cancelled_turn_leaves_no_trace(talk, delay_model):
    talk.configure()
    talk.begin("a", TEXT, ends=False)
    talk.until("audio.start")
    talk.send("turn.cancel", turn_id="a")
    heard = talk.until("turn.done")
    assert heard.types == ["audio.done", "turn.done"]
    assert (heard.last["committed"], heard.last["reason"]) == (False, "client_cancelled")
    assert_same_speech(talk.turn("b", TEXT).samples, spoken(delay_model, TEXT)[0])


def test_cancel_is_read_while_text_waits(served, talk):
    """More text than a turn takes, which nobody can speak in this time."""
    before = served.outcome("cancelled")
    talk.configure(max_tokens=4000)
    talk.begin("t", *["word " * 1000] * 4, ends=False)
    talk.send("turn.cancel", turn_id="t")
    assert talk.until("turn.done").last["reason"] == "client_cancelled"
    served.wait_until_idle()
    assert served.outcome("cancelled") == before + 1


def test_interrupt_keeps_what_was_heard(talk, delay_model):
    """Of a turn that is being spoken, or of one whose sound is all sent."""
    talk.configure()
    first, second = spoken(delay_model, TEXT, TEXT)
    assert_same_speech(talk.turn("a", TEXT).samples, first)
    talk.send("turn.interrupt", turn_id="a", heard_ms=0)
    done = talk.answer()
    assert (done["type"], done["turn_id"], done["reason"]) == ("turn.done", "a", "interrupted")
    assert_same_speech(talk.turn("b", TEXT).samples, first)
    talk.send("turn.interrupt", turn_id="b", heard_ms=60_000)
    assert talk.answer()["committed"]
    talk.begin("c", TEXT, ends=False)
    talk.send("turn.interrupt", turn_id="c", heard_ms=0)
    heard = talk.until("turn.done")
    assert (heard.last["committed"], heard.last["reason"]) == (True, "interrupted")
    assert_same_speech(talk.turn("d", TEXT).samples, second)


# ------------------------------------------------------------------------------------------ messages that are wrong


def refused(talk: Talk, **message: Any) -> tuple[str | None, str]:
    """The field and the code of the answer to a message."""
    talk.connection.send(json.dumps(message))
    error = talk.answer()
    assert error["type"] == "error", error
    assert error["message"]
    return error.get("param"), error["code"]


WRONG: list[Any] = [
    *("", "nothing", "[]", "[[[[[", "1", '"turn.start"', "{}", '{"type": 1}', '{"type": "turn.begin"}'),
    *('{"type": "turn.start"}', '{"type": "turn.start", "turn_id": ""}', '{"type": "turn.start", "turn_id": 7}'),
    '{"type": "turn.start", "turn_id": "t", "more": 1}',
    '{"type": "turn.start", "turn_id": "t", "user": "Hi."}',
    '{"type": "turn.start", "turn_id": "t", "user": {"words": "Hi."}}',
    '{"type": "session.config"}',
    '{"type": "input.text", "turn_id": "t", "text": "\\ud800"}',
    '{"type": "input.text", "turn_id": "t", "seq_no": -1, "text": "a"}',
    '{"type": "input.tokens", "turn_id": "t", "token_ids": []}',
    '{"type": "turn.interrupt", "turn_id": "t"}',
    '{"type": "turn.interrupt", "turn_id": "t", "heard_ms": NaN}',
    b"\x00\x01",
    '{"type": "turn.cancel", "turn_id": "t"}' + "," * 50_000,
]


def test_messages_that_are_none_change_nothing(talk, delay_model):
    talk.configure()
    talk.begin("t", TEXT[:40], ends=False)
    talk.until("audio.start")
    for wrong in WRONG:
        talk.connection.send(wrong)
    talk.send("input.text", turn_id="t", text=TEXT[40:])
    talk.send("input.done", turn_id="t")
    heard = talk.until("turn.done")
    errors = [message for message in heard.messages if message["type"] == "error"]
    assert len(errors) == len(WRONG)
    assert all(error["error_type"] == "invalid_request_error" and len(error["message"]) < 600 for error in errors)
    assert_same_speech(heard.samples, spoken(delay_model, TEXT)[0])


def test_messages_at_the_wrong_time(talk):
    talk.configure()
    text = {"type": "input.text", "turn_id": "t", "text": "Well."}
    assert refused(talk, **text) == ("type", "no_turn")
    assert refused(talk, type="turn.cancel", turn_id="t") == ("type", "no_turn")
    assert refused(talk, type="turn.interrupt", turn_id="t", heard_ms=1) == ("type", "no_turn")
    talk.begin("t", ends=False)
    assert refused(talk, type="turn.start", turn_id="u") == ("turn_id", "turn_active")
    assert refused(talk, **text | {"turn_id": "u"}) == ("turn_id", "no_turn")
    assert refused(talk, **text, seq_no=1) == ("seq_no", "out_of_order")
    assert refused(talk, type="session.config", seed=1) == ("type", "session_configured")
    talk.send(text["type"], turn_id="t", text="Well.", seq_no=0)
    assert talk.answer() == {"type": "input.ack", "turn_id": "t", "accepted_seq_no": 0, "next_seq_no": 1}
    # Sent again as it was, it is acknowledged again, and spoken once.
    talk.send(text["type"], turn_id="t", text="Well.", seq_no=0)
    assert talk.answer()["accepted_seq_no"] == 0
    assert refused(talk, **text | {"text": "Other."}, seq_no=0) == ("seq_no", "out_of_order")
    assert refused(talk, type="input.tokens", turn_id="t", token_ids=[1]) == ("type", "mixed_input")
    talk.send("input.done", turn_id="t", seq_no=1)
    heard = talk.until("turn.done")
    assert heard.last["committed"]
    assert refused(talk, type="turn.start", turn_id="t") == ("turn_id", "turn_id_used")


def test_text_after_its_end_is_refused(talk):
    talk.configure()
    talk.begin("t", TEXT)
    talk.send("input.text", turn_id="t", text="More.")
    heard = talk.until("turn.done")
    [error] = [message for message in heard.messages if message["type"] == "error"]
    assert error["code"] in ("text_ended", "no_turn")
    assert heard.last["committed"]


def test_what_the_model_has_no_place_for(talk):
    talk.configure()
    user = {"text": "Hi.", "audio": "data:audio/wav;base64," + base64.b64encode(recording()).decode()}
    assert refused(talk, type="turn.start", turn_id="t", user=user) == (None, "invalid_value")
    paths = {"audio": "/etc/passwd"}
    assert refused(talk, type="turn.start", turn_id="t", user=paths) == ("user", "invalid_value")
    talk.begin("t", ends=False)
    assert refused(talk, type="input.tokens", turn_id="t", token_ids=[1]) == (None, "invalid_value")


def test_what_the_user_said_and_ids_go_to_a_model_that_takes_them(served, talk, monkeypatch):
    beep = Beep(takes_all=True)
    monkeypatch.setattr(type(served.model), "_conversation", lambda *_: beep)
    assert talk.configure()["input_modes"] == ["text", "tokens"]
    audio = "data:audio/wav;base64," + base64.b64encode(recording()).decode()
    talk.send("turn.start", turn_id="t", user={"text": "Where were you?", "audio": audio})
    assert talk.answer()["type"] == "turn.started"
    talk.send("input.tokens", turn_id="t", token_ids=[7, 8], seq_no=0)
    assert talk.answer()["accepted_seq_no"] == 0
    assert refused(talk, type="input.text", turn_id="t", text="Well.") == ("type", "mixed_input")
    talk.send("input.tokens", turn_id="t", token_ids=[9], seq_no=1)
    talk.send("input.done", turn_id="t")
    assert talk.until("turn.done").last["committed"]
    assert beep.ids == [7, 8, 9]
    assert beep.user.text == "Where were you?"
    assert beep.user.audio is not None


def recording() -> bytes:
    return encode_audio(0.1 * np.random.default_rng(0).standard_normal(8000), 8000, ".wav")


def test_a_text_that_is_too_long_is_not_taken(talk):
    talk.configure()
    talk.begin("t", "Well.", ends=False)
    talk.answer()
    long = {"type": "input.text", "turn_id": "t", "text": "x" * 20_000}
    param, code = refused(talk, **long)
    assert (param, code) == ("text", "string_above_max_length")
    talk.send("input.done", turn_id="t")
    assert talk.until("turn.done").last["committed"]


def test_a_turn_without_a_word_fails_alone(talk, delay_model):
    talk.configure()
    heard = talk.turn("a", "...")
    assert heard.types == ["error", "audio.done", "turn.done"]
    assert heard.messages[0]["code"] == "invalid_value"
    assert heard.messages[1]["error"] is True
    assert (heard.last["committed"], heard.last["reason"]) == (False, "error")
    assert_same_speech(talk.turn("b", TEXT).samples, spoken(delay_model, TEXT)[0])


def test_what_is_done_otherwise_is_told(served, talk, monkeypatch):
    """A part of a text here; an option of the session in session.configured."""
    note = "A part of the text has no word that can be spoken."
    monkeypatch.setattr(type(served.model), "_conversation", lambda *_: Beep(note))
    assert talk.configure()["warnings"] == []
    assert talk.turn("t", TEXT).last["warnings"] == [note]


CONFIGURATIONS: list[tuple[dict[str, Any], str]] = [
    ({"voice": "nobody"}, "voice"),
    ({"model": "gpt-9"}, "model"),
    ({"ref_audio": "/etc/passwd"}, "ref_audio"),
    ({"reference": "https://example.com/a.wav"}, "reference"),
    ({"reference": "file:///etc/passwd"}, "reference"),
    ({"response_format": "mp3"}, "response_format"),
    ({"sample_rate": 16000}, "sample_rate"),
    ({"stream_audio": False}, "stream_audio"),
    ({"seed": -1}, "seed"),
    ({"colour": "red"}, "colour"),
    ({"input": "Hello."}, "input"),
    ({"tokens": 12}, "tokens"),
    ({"max_tokens": 5, "max_new_tokens": 5}, "max_tokens"),
    ({"instructions": "x" * 30_000}, "instructions"),
]


@pytest.mark.parametrize("nested", [True, False])
def test_configurations_that_are_refused_end_the_session(served, nested):
    for fields, param in CONFIGURATIONS:
        with talking(served) as talk:
            talk.send("session.config", **({"session": fields} if nested else fields))
            error = talk.answer()
            assert (error["type"], error["param"]) == ("error", param), error
            assert talk.closed() == 1008


@pytest.mark.parametrize(
    "first", ["", "[]", b"\x00", '{"type": "turn.start", "turn_id": "t"}', '{"type": "session.config", "session": 1}']
)
def test_the_first_message_must_be_the_configuration(served, first):
    with talking(served) as talk:
        talk.connection.send(first)
        assert talk.answer()["type"] == "error"
        assert talk.closed() == 1008


# ------------------------------------------------------------------------------------------------ MOSS-TTS-Realtime


IDS = list(range(5, 25))


@pytest.mark.filterwarnings("ignore:The model ended its speech before its text")
def test_the_model_that_reads_while_it_speaks(tmp_path):
    """Its turns take what the user said, and ids; the sound is that of a session of our own."""
    checkpoint = write_demo_checkpoint(tmp_path / "realtime", "realtime")
    options = {"seed": 5, "max_tokens": 20}
    with serving(checkpoint, tmp_path / "voices") as running, talking(running) as talk:
        talk.send("session.config", session=options)
        assert talk.answer()["input_modes"] == ["text", "tokens"]
        talk.send("turn.start", turn_id="a", user={"text": "Where were you?"})
        talk.send("input.text", turn_id="a", text=TEXT)
        talk.send("input.done", turn_id="a")
        first = talk.until("turn.done")
        talk.send("turn.start", turn_id="b")
        talk.send("input.tokens", turn_id="b", token_ids=IDS)
        talk.send("input.done", turn_id="b")
        second = talk.until("turn.done")
    assert first.last["committed"]
    assert second.last["committed"]
    with moss_tts.load(checkpoint) as model, model.session(**options) as session:
        with session.turn(user_text="Where were you?") as turn:
            turn.push(TEXT)
            turn.end()
            assert_same_speech(first.samples, np.concatenate([chunk.audio for chunk in turn]))
        with session.turn() as turn:
            turn.push_tokens(IDS)
            turn.end()
            assert_same_speech(second.samples, np.concatenate([chunk.audio for chunk in turn]))
