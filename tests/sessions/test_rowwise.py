"""Sessions with Realtime, which reads its text row by row while it speaks."""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import moss_tts
from moss_tts.checkpoints import demo
from moss_tts.checkpoints.tokenizer import load_tokenizer
from moss_tts.errors import GenerationError, MossTTSWarning, RequestError, TurnOverError
from moss_tts.evidence.goldens import cases, golden
from moss_tts.prompts.growing_ids import GrowingIds
from moss_tts.prompts.messages import PromptEncoder
from moss_tts.sessions.rowwise import RowwiseConversation
from moss_tts.speaking.engine import SpeechEngine

GOLDEN = Path(__file__).parents[1] / "golden" / "realtime"
WANTED, CASES = golden(GOLDEN), cases(GOLDEN)
TEXT = 'Nice, "welcome" to Paris! Six hours, 3 of them at night, is enough for a walk'
GREEDY: dict[str, Any] = {"temperature": 0.0, "repetition_penalty": 1.0, "seed": 1, "runaway_guard": False}
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def realtime(tmp_path_factory):
    """Upstream's tiny checkpoint, with a codec of as many codes."""
    directory = tmp_path_factory.mktemp("realtime") / "model"
    shutil.copytree(GOLDEN, directory)
    raw = demo.codec_config()
    raw["quantizer_kwargs"] = raw["quantizer_kwargs"] | {"codebook_size": 24}
    demo._write(directory / "audio_tokenizer", raw, demo._codec_weights(raw, np.random.default_rng(0)))
    with moss_tts.load(directory) as model:
        yield model


@pytest.fixture
def spoken(monkeypatch):
    """The codes (F, Q) of every turn that has ended by itself or at a limit, in order."""
    seen: list[np.ndarray] = []
    settle = moss_tts.sessions.rowwise.RowwiseTurn._end

    def end(turn: Any, reason: Any) -> None:
        seen.append(turn._codes)
        settle(turn, reason)

    monkeypatch.setattr(moss_tts.sessions.rowwise.RowwiseTurn, "_end", end)
    return seen


def sound(results) -> np.ndarray:
    """All samples of a turn, which has one final chunk."""
    chunks = list(results)
    assert [chunk.is_final_chunk for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    return np.concatenate([chunk.audio for chunk in chunks])


def equal(made: np.ndarray, wanted: np.ndarray) -> None:
    assert made.shape == wanted.shape
    np.testing.assert_allclose(made, wanted, atol=TOLERANCE, rtol=0)


def in_pieces(text: str, seed: int) -> list[str]:
    draw, at, pieces = random.Random(seed), 0, []
    while at < len(text):
        size = draw.choice([1, 2, 3, 9])
        pieces.append(text[at : at + size])
        at += size
    return pieces


def spoken_codes(name: str) -> np.ndarray:
    """What upstream made in a turn, without the frame that ends it."""
    return WANTED[f"{name}.greedy"][: -1 if CASES[name]["ended"] else None]


def turn_of(session, name: str):
    """A turn with the words of a case, and what the user said and recorded before it."""
    user = {"user_text": CASES[name]["user_text"]} if "user_text" in CASES[name] else {}
    user |= {"user_audio": WANTED[f"{name}.user_codes"]} if f"{name}.user_codes" in WANTED else {}
    turn = session.turn(**user)
    turn.push(CASES[name]["text"])
    return turn


def ended(turn) -> np.ndarray:
    turn.end()
    return sound(turn)


# --------------------------------------------------------------------------------------------- upstream's turns


@pytest.mark.parametrize("marks_ends", [False, True])
def test_turns_in_one_context_are_upstreams(realtime, spoken, marks_ends):
    names = ["turn1", "turn2_end_row"] if marks_ends else ["turn1", "turn2", "turn3"]
    voice = WANTED["voice.codes"]
    with realtime.session(ref_audio=voice, marks_ends=marks_ends, max_tokens=24, **GREEDY) as session:
        for name in names:
            user = WANTED.get(f"{name.removesuffix('_end_row')}.user_codes")
            turn = session.turn(user_text=CASES[name].get("user_text"), user_audio=user)
            turn.push(CASES[name]["text"])
            ended(turn)
    for name, codes in zip(names, spoken, strict=True):
        np.testing.assert_array_equal(codes, spoken_codes(name), name)


def test_ids_one_by_one_give_upstreams_frames(realtime, spoken):
    ids = [int(one) for one in WANTED["plain.text_ids"]]
    with realtime.session(**GREEDY) as session:
        turn = session.turn()
        turn.push_tokens(ids[:13])
        first = next(turn)
        for one in ids[13:]:
            turn.push_tokens([one])
            time.sleep(0.001)
        assert first.token_count in (1, 2)
        ended(turn)
    np.testing.assert_array_equal(spoken[0], spoken_codes("plain"))


@pytest.mark.parametrize(("name", "window"), [("penalty", 3), ("penalty_all", 0), ("penalty_all", 2**30)])
def test_the_penalty_looks_at_the_frames_that_a_caller_names(realtime, spoken, name, window):
    options = GREEDY | {"repetition_penalty": 1.5, "repetition_window": window, "max_tokens": 40}
    with realtime.session(**options) as session:
        whole = sound(session.speak([CASES[name]["text"]]))
    np.testing.assert_array_equal(spoken[0], spoken_codes(name))
    equal(realtime.say(CASES[name]["text"], **options).audio, whole)


# -------------------------------------------------------------------------------------------------------- laws


def test_pieces_do_not_matter_and_generate_says_the_same(realtime):
    options = {"seed": 4, "max_tokens": 30}
    wanted = realtime.say(TEXT, **options).audio
    for seed in range(3):
        with realtime.session(**options) as session:
            equal(sound(session.speak(in_pieces(TEXT, seed))), wanted)


def test_sessions_side_by_side_sound_as_alone(realtime):
    wanted = [realtime.say(TEXT, seed=seed, max_tokens=20).audio for seed in range(4)]

    def slowly(seed: int):
        for piece in in_pieces(TEXT, seed):
            time.sleep(0.001 * (1 + seed % 2))
            yield piece

    sessions = [realtime.session(seed=seed, max_tokens=20) for seed in range(4)]
    streams = [session.speak(slowly(seed)) for seed, session in enumerate(sessions)]
    firsts = [next(stream) for stream in streams]
    for first, stream, whole in zip(firsts, streams, wanted, strict=True):
        equal(np.concatenate([first.audio, *(chunk.audio for chunk in stream)]), whole)
    for session in sessions:
        session.close()


def test_joined_chunks_are_the_whole_decoded(realtime, spoken):
    with realtime.session(seed=3, max_tokens=20) as session:
        made = sound(session.speak([TEXT]))
    equal(made, np.array(realtime.codec().decode(spoken[0].T).audio)[0, 0])


def test_a_cancelled_turn_has_never_been(realtime, spoken):
    """Cancelled before its text, in the middle, or after all its sound was made."""
    voice = WANTED["voice.codes"]
    with realtime.session(ref_audio=voice, max_tokens=24, **GREEDY) as session:
        ended(turn_of(session, "turn1"))
        for moment in range(3):
            turn = turn_of(session, "turn2")
            if moment:
                next(turn)
            if moment == 2:
                turn.end()
                while not turn.is_over:
                    time.sleep(0.001)
            turn.cancel()
        ended(turn_of(session, "turn2"))
        ended(turn_of(session, "turn3"))
    for name, codes in zip(("turn2", "turn3"), spoken[-2:], strict=True):
        np.testing.assert_array_equal(codes, spoken_codes(name), name)


def test_lost_keys_and_values_are_computed_again(realtime, spoken):
    with realtime.session(ref_audio=WANTED["voice.codes"], max_tokens=24, **GREEDY) as session:
        ended(turn_of(session, "turn1"))
        session._conversation.context._caches = None
        ended(turn_of(session, "turn2"))
    np.testing.assert_array_equal(spoken[1], spoken_codes("turn2"))


def test_a_failed_turn_leaves_the_context(realtime, spoken, monkeypatch):
    with realtime.session(ref_audio=WANTED["voice.codes"], max_tokens=24, **GREEDY) as session:
        ended(turn_of(session, "turn1"))
        with monkeypatch.context() as patch:
            patch.setattr(SpeechEngine, "_deliver", lambda _: 1 / 0)
            with pytest.raises(GenerationError, match="division"):
                ended(turn_of(session, "turn2"))
        ended(turn_of(session, "turn2"))
    np.testing.assert_array_equal(spoken[-1], spoken_codes("turn2"))


def test_an_interrupted_turn_keeps_what_was_heard(realtime):
    with realtime.session(**GREEDY) as session:
        turn = session.turn()
        turn.push(CASES["plain"]["text"])
        turn.end()
        list(turn)
        turn.interrupt(heard_seconds=3 * 0.08)
        rows = session._host.call(lambda: session._conversation.context.rows).result()
        wanted = WANTED["plain.rows"][0]
        prompt = WANTED["plain.input_ids"].shape[1] + 12
        np.testing.assert_array_equal(rows[:-1], wanted[: prompt + 3])
        assert rows[-1, 1] == 26
        ended(turn_of(session, "turn3"))


def test_a_closed_session_holds_no_keys_and_values(realtime):
    session = realtime.session(**GREEDY)
    turn = session.turn()
    turn.push(CASES["plain"]["text"])
    next(turn)
    session.close()
    held = session._host.call(lambda: session._host.call(lambda: session._conversation.context._caches)).result()
    assert held.result() is None
    assert not len(session._conversation.context.rows)


def test_nothing_is_computed_while_there_is_no_text(realtime, monkeypatch):
    steps = []
    step = SpeechEngine.step
    monkeypatch.setattr(SpeechEngine, "step", lambda engine: (steps.append(1), step(engine))[1])
    ids = [int(one) for one in WANTED["plain.text_ids"]]
    with realtime.session(**GREEDY) as session:
        turn = session.turn()
        turn.push_tokens(ids[:11])
        time.sleep(0.05)
        assert not steps
        turn.push_tokens(ids[11:15])
        heard = 0
        while heard < 4:
            heard += next(turn).token_count
        before = len(steps)
        time.sleep(0.05)
        assert len(steps) - before <= 1
        assert heard == 4
        turn.cancel()


# -------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"instruct": "Calm."}, "has no place for instruct"),
        ({"language": "English"}, "has no place for language"),
        ({"long_form_prefix_text_chars": 3}, "no option of this model's sessions"),
        ({"lexicon": {"Paris": "Parry"}}, "a lexicon cannot change it"),
        ({"ref_audio": [np.zeros((3, 4), int), np.zeros((3, 4), int)]}, "1 reference at most, got 2"),
        ({"tokens": 4}, "tokens is no option of a session"),
    ],
)
def test_options_without_a_place_are_refused(realtime, options, message):
    with pytest.raises(RequestError, match=message):
        realtime.session(**options)


def test_other_models_have_no_rows_that_mark_ends(delay_model):
    with pytest.raises(RequestError, match="marks_ends is for models"):
        delay_model.session(marks_ends=True)


def test_turns_that_cannot_be_spoken_fail_and_leave_the_context(realtime):
    with realtime.session(seed=2, max_tokens=5) as session:
        for work, message in (
            (lambda turn: turn.push("..."), "no word"),
            (lambda turn: turn.push_tokens([3, 428]), "id 428 is not one of this model's"),
            (lambda turn: (turn.push("Hello"), turn.push_tokens([1])), "text or ids, not both"),
        ):
            turn = session.turn()
            work(turn)
            turn.end()
            with pytest.raises(RequestError, match=message):
                list(turn)
        assert not len(session._conversation.context.rows)
        equal(sound(session.speak([TEXT])), realtime.say(TEXT, seed=2, max_tokens=5).audio)


@pytest.fixture
def short_context(realtime):
    """A model with a context of 135 rows; the prompt of `plain` has 119, and the first text 12."""
    most = realtime.config.max_positions
    object.__setattr__(realtime.config, "max_positions", 135)
    yield realtime
    object.__setattr__(realtime.config, "max_positions", most)


def test_a_context_has_an_end(short_context):
    with short_context.session(**GREEDY) as session:
        chunks = list(session.speak([CASES["plain"]["text"]]))
        assert chunks[-1].finish_reason == "length"
        assert sum(chunk.token_count for chunk in chunks) == 135 - 119 - 12
        with pytest.raises(
            RequestError, match=r"has \d+ rows, with all turns before it, and this model has room for 135"
        ):
            list(session.speak(["And this is too much for it, that is sure."]))


def test_a_text_of_its_own_stays_within_the_context(short_context):
    text = CASES["plain"]["text"]
    spoken = short_context.say(text, **GREEDY)
    assert (spoken.finish_reason, len(spoken.audio)) == ("length", (135 - 119 - 12) * 1920)
    with pytest.raises(RequestError, match=r"has 172 rows, .* room for 135; give a shorter recording"):
        short_context.say(text, ref_audio=WANTED["voice.codes"], **GREEDY)
    (_, result), (_, other) = short_context.generate_batch([{"text": text, **GREEDY}] * 2)
    assert result.token_count == other.token_count == 135 - 119 - 12


def test_text_that_the_model_does_not_reach_is_told(realtime):
    with realtime.session(ref_audio=WANTED["voice.codes"], **GREEDY) as session:
        turn = session.turn()
        turn.push(CASES["voice"]["text"])
        turn.end()
        with pytest.warns(MossTTSWarning, match="ended its speech before its text"):
            list(turn)
        assert turn.text_left
        assert CASES["voice"]["text"].endswith(turn.text_left)
    request = {"text": CASES["voice"]["text"], "ref_audio": WANTED["voice.codes"], **GREEDY}
    for speak in (lambda: realtime.say(**request), lambda: list(realtime.generate_batch([request, request]))):
        with pytest.warns(MossTTSWarning, match=f"the last {CASES['voice']['text_left']} tokens were not spoken"):
            speak()


def test_text_that_comes_after_the_end_of_speech_is_told(realtime):
    """The ids that upstream's model has read when it ends, one by one; more of them follow."""
    name = "penalty_all"
    ids = [int(one) for one in WANTED[f"{name}.text_ids"]][: 12 + CASES[name]["frames"] - 1]
    with realtime.session(**GREEDY | {"repetition_penalty": 1.5, "repetition_window": 0}) as session:
        turn = session.turn()
        turn.push_tokens(ids)
        with pytest.warns(MossTTSWarning, match="before its text had ended: what follows is not spoken"):
            assert list(turn)[-1].finish_reason == "stop"
        with pytest.raises(TurnOverError):
            turn.push_tokens([1])


def test_a_text_has_a_longest_speech(realtime, monkeypatch):
    monkeypatch.setattr(RowwiseConversation, "longest", lambda *_: 5)
    with realtime.session(**GREEDY) as session:
        chunks = list(session.speak([CASES["plain"]["text"]]))
        assert sum(chunk.token_count for chunk in chunks) == 5
        assert chunks[-1].finish_reason == "length"
        assert sum(len(chunk.audio) for chunk in chunks) == 5 * 1920


# --------------------------------------------------------------------------------------------------------- ids


@pytest.mark.parametrize("seed", range(30))
def test_ids_are_those_of_the_whole_text(seed):
    encoder, draw = PromptEncoder(load_tokenizer(GOLDEN)), random.Random(seed)
    words = [
        "Nice",
        "e.g.",
        " ",
        "\n",
        "  ",
        "\r\n",
        "it's",
        "3.14",
        "e\u0301",
        "\u0323",
        "...",
        "!?",
        "WE'RE",
        "\u65e5",
        "'",
        "a",
    ]
    text = "".join(draw.choice(words) for _ in range(40))
    growing = GrowingIds(encoder)
    ids = [one for piece in in_pieces(text, seed) for one in growing.push(piece)] + growing.flush()
    assert ids == encoder.encode(text)
