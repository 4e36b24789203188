"""Sessions: text goes in while sound comes out, with every architecture."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from typing import Any

import numpy as np
import pytest

import moss_tts
from moss_tts.errors import GenerationError, MossTTSWarning, PendingTextError, RequestError, TurnOverError
from moss_tts.sessions import turn as turns
from moss_tts.sessions.outbox import Outbox
from moss_tts.sessions.turn import MOST_PENDING
from moss_tts.speaking.engine import SpeechEngine
from moss_tts.speaking.listening import HostOnDevice

TEXT = "Well, this is the first clause, and that is more. It was May 5, 2020!\n[pause 0.1s]\nThen all went home again."
OPTIONS: dict[str, Any] = {"seed": 5, "max_tokens": 6, "long_form_retry_attempts": 9}
TOLERANCE = 1e-4


def open_session(model, **options):
    given = OPTIONS | options
    if model.architecture.reads_text_beside:
        # A turn has no segments; in short chunks it has as many as others have in several segments.
        given = {name: value for name, value in given.items() if not name.startswith("long_form_")}
        given["streaming_interval"] = 0.08
    return model.session(**given)


def sound(results) -> np.ndarray:
    """All samples of a turn, which has one final chunk."""
    chunks = list(results)
    assert [chunk.is_final_chunk for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    return np.concatenate([chunk.audio for chunk in chunks])


def in_pieces(text: str, seed: int) -> list[str]:
    draw, at, pieces = random.Random(seed), 0, []
    while at < len(text):
        size = draw.choice([1, 2, 3, 5, 30])
        pieces.append(text[at : at + size])
        at += size
    return pieces


def equal(made: np.ndarray, wanted: np.ndarray) -> None:
    assert made.shape == wanted.shape
    np.testing.assert_allclose(made, wanted, atol=TOLERANCE, rtol=0)


def whole(model, *texts: str, **options) -> list[np.ndarray]:
    """The sound of turns, each with its text given at once."""
    with open_session(model, **options) as session:
        return [sound(session.speak([text])) for text in texts]


# ---------------------------------------------------------------------------------------------------- laws


@pytest.mark.parametrize("options", [{}, {"long_form_continuity": "continue"}], ids=["voice", "continue"])
def test_pieces_do_not_matter(model, options):
    [wanted] = whole(model, TEXT, **options)
    for seed in range(2):
        with open_session(model, **options) as session:
            equal(sound(session.speak(in_pieces(TEXT, seed))), wanted)


def test_the_pace_does_not_matter(delay_model):
    def slowly():
        for piece in in_pieces(TEXT, 3):
            time.sleep(0.004)
            yield piece

    with open_session(delay_model) as session:
        equal(sound(session.speak(slowly())), whole(delay_model, TEXT)[0])


def test_the_packaged_voice_reads_numbers_whole():
    """Its texts are written out in words before they are cut, and so they are in whatever pieces they come."""
    text = "On May 5, 2020, Dr. Smith paid $1,234.50, i.e. too much. It was 5:30 p.m. in St. Louis, at 20 °C."
    with moss_tts.load() as packaged:
        [wanted] = whole(packaged, text)
        for seed in range(2):
            with open_session(packaged) as session:
                equal(sound(session.speak(in_pieces(text, seed))), wanted)


def test_flush_belongs_to_its_place_in_the_text(delay_model):
    made = []
    for seed in range(2):
        with open_session(delay_model) as session, session.turn() as turn:
            for part in ("Well, this is the first clau", "se, and that is more. It was"):
                for piece in in_pieces(part, seed):
                    turn.push(piece)
                turn.flush()
            turn.push(" late.")
            turn.end()
            made.append(sound(turn))
    equal(*made)


def test_sessions_side_by_side_sound_as_alone(model):
    texts = [TEXT, "Another text, by somebody else. It ends soon.", "Hi!"]
    alone = [whole(model, text)[0] for text in texts]
    sessions = [open_session(model) for _ in texts]
    made: list[Any] = [None] * len(texts)

    def speak(place: int) -> None:
        made[place] = sound(sessions[place].speak(in_pieces(texts[place], place)))

    threads = [threading.Thread(target=speak, args=(place,)) for place in range(len(texts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for session in sessions:
        session.close()
    for one, wanted in zip(made, alone, strict=True):
        equal(one, wanted)


def test_turns_go_on_from_each_other(model):
    """The second turn is in the voice of the first one, so it is not what it is alone."""
    first, second = whole(model, "The first of them.", "The second one.")
    again, other = whole(model, "The first of them.", "The second one.")
    equal(again, first)
    equal(other, second)
    [alone] = whole(model, "The second one.")
    assert alone.shape != second.shape or not np.allclose(alone, second, atol=TOLERANCE)


def test_segments_are_numbered_and_one_chunk_is_final(delay_model):
    with open_session(delay_model) as session:
        chunks = list(session.speak([TEXT]))
    assert [chunk.segment_idx for chunk in chunks] == sorted(chunk.segment_idx for chunk in chunks)
    assert {chunk.segment_idx for chunk in chunks} == {0, 1, 2, 3}
    assert all(chunk.seed == 5 and chunk.sample_rate == delay_model.sample_rate for chunk in chunks)
    assert chunks[-1].finish_reason in ("stop", "length")


def test_sound_comes_before_the_text_has_ended(delay_model):
    with open_session(delay_model) as session, session.turn() as turn:
        turn.push("Well, this is the first clause, and")
        first = next(turn)
        assert first.samples
        assert not turn.is_over
        turn.push(" that is more.")
        turn.end()
        assert sound(turn).size
        assert turn.is_over
        assert turn.text_left == ""
        timings = turn.timings
    assert 0 <= timings.first_text <= timings.first_sound


def test_flush_speaks_what_is_there(delay_model):
    with open_session(delay_model) as session, session.turn() as turn:
        turn.push("no end")
        turn.flush()
        assert next(turn).samples
        turn.end()
        sound(turn)


def test_the_end_may_come_late(model):
    """The last chunk is then an empty one."""
    with open_session(model) as session, session.turn() as turn:
        turn.push("Well, this is early.")
        turn.flush()
        chunks = [next(turn)]
        while not turn.is_over and (turn.text_left or turn.pending):
            time.sleep(0.002)
        time.sleep(0.02)
        turn.end()
        equal(sound([*chunks, *turn]), whole(model, "Well, this is early.")[0])


# ------------------------------------------------------------------------------------- cancel and interrupt


@pytest.mark.parametrize("chunks", [0, 1, 2, 4])
def test_a_cancelled_turn_leaves_no_trace(model, chunks):
    wanted = whole(model, "The first of them.", TEXT)
    with open_session(model) as session:
        equal(sound(session.speak(["The first of them."])), wanted[0])
        turn = session.turn()
        turn.push("Something else, which is not heard to its end. It goes on.")
        for _ in range(chunks):
            next(turn)
        turn.cancel()
        assert [chunk.finish_reason for chunk in turn] == ["cancelled"]
        assert turn.is_over
        turn.cancel()
        equal(sound(session.speak([TEXT])), wanted[1])


def test_a_turn_can_be_cancelled_until_its_last_chunk_is_taken(delay_model):
    """How fast it was made must not matter."""
    wanted = whole(delay_model, "The first of them.", "The second one.")
    with open_session(delay_model) as session:
        turn = session.turn()
        turn.push("Something else.")
        turn.end()
        while not turn.is_over:
            time.sleep(0.005)
        turn.cancel()
        assert [chunk.finish_reason for chunk in turn] == ["cancelled"]
        turn = session.turn()
        turn.push("The first of them.")
        turn.end()
        equal(sound(turn), wanted[0])
        turn.cancel()
        equal(sound(session.speak(["The second one."])), wanted[1])


def test_a_host_that_is_late_to_drop_a_segment_changes_no_context(delay_model, monkeypatch):
    wanted = whole(delay_model, "The first of them.", "The second one.")
    with open_session(delay_model) as session:
        equal(sound(session.speak(["The first of them."])), wanted[0])
        monkeypatch.setattr(HostOnDevice, "drop", lambda *_: None)
        turn = session.turn()
        turn.push("Something else.")
        turn.end()
        next(turn)
        turn.cancel()
        time.sleep(0.1)
        equal(sound(session.speak(["The second one."])), wanted[1])


def test_a_failed_turn_leaves_no_trace(delay_model):
    def failing():
        yield "Something else, which is not heard to its end. It"
        raise KeyError("the writer failed")

    wanted = whole(delay_model, "The first of them.", TEXT)
    with open_session(delay_model) as session:
        equal(sound(session.speak(["The first of them."])), wanted[0])
        with pytest.raises(KeyError, match="the writer failed"):
            list(session.speak(failing()))
        with pytest.raises(RequestError, match="no word"):
            list(session.speak(["...", " \n"]))
        with pytest.raises(RequestError, match="a piece of text must be text, got 7"):
            list(session.speak(["And", 7]))
        equal(sound(session.speak([TEXT])), wanted[1])


def test_an_interrupted_turn_keeps_what_was_heard(delay_model):
    """The segments that were heard to their ends, whenever the interruption comes."""
    with open_session(delay_model) as session:
        chunks = list(session.speak([TEXT]))
        heard = sum(chunk.samples for chunk in chunks if chunk.segment_idx < 2) / session.sample_rate
        after_all = sound(session.speak(["And now?"]))

    def interrupted(seconds: float, *, at_end: bool) -> np.ndarray:
        with open_session(delay_model) as session:
            turn = session.turn()
            turn.push(TEXT)
            turn.end()
            taken = [next(turn) for _ in chunks[:-1]] if not at_end else list(turn)
            assert len(taken) >= len(chunks) - 1
            turn.interrupt(seconds)
            return sound(session.speak(["And now?"]))

    part = interrupted(heard, at_end=True)
    equal(interrupted(heard, at_end=False), part)
    assert part.shape != after_all.shape or not np.allclose(part, after_all, atol=TOLERANCE)
    equal(interrupted(1000.0, at_end=True), after_all)
    equal(interrupted(0.0, at_end=True), whole(delay_model, "And now?")[0])


def test_interrupt_is_refused_where_it_cannot_be(delay_model):
    with open_session(delay_model) as session:
        turn = session.turn()
        with pytest.raises(RequestError, match="heard_seconds must be"):
            turn.interrupt(-1)
        turn.cancel()
        with pytest.raises(TurnOverError, match="cannot be interrupted"):
            turn.interrupt(1)


def test_an_iterator_that_leaves_the_thread_fails_the_turn(delay_model):
    """Without a word from it, its listener would wait for ever."""

    def leaving():
        yield "Hello, "
        raise SystemExit

    async def cancelled():
        yield "Hello, "
        raise asyncio.CancelledError

    async def speak() -> None:
        with open_session(delay_model) as session:
            async for _ in session.speak_async(cancelled()):
                pass

    with open_session(delay_model) as session, pytest.raises(GenerationError, match="ended by SystemExit"):
        list(session.speak(leaving()))
    with pytest.raises(GenerationError, match="ended by CancelledError"):
        asyncio.run(speak())


def test_a_generator_is_closed_once_nobody_listens(delay_model):
    closed = threading.Event()

    def writing():
        try:
            while True:
                time.sleep(0.002)
                yield "More and more. "
        finally:
            closed.set()

    with open_session(delay_model) as session:
        speaking = session.speak(writing())
        next(speaking)
        speaking.close()
        assert closed.wait(60)


def test_a_listener_who_leaves_cancels_the_turn(delay_model):
    with open_session(delay_model) as session:
        speaking = session.speak([TEXT])
        next(speaking)
        speaking.close()
        assert sound(session.speak(["Hello there."])).size


# -------------------------------------------------------------------------------------------- slow and fast


def test_a_slow_writer_does_not_stop_others(delay_model):
    with open_session(delay_model) as slow, open_session(delay_model) as quick:
        waiting = slow.turn()
        waiting.push("Well, this waits for mo")
        equal(sound(quick.speak([TEXT])), whole(delay_model, TEXT)[0])
        assert not waiting.is_over


def test_a_slow_listener_stops_the_sound_and_not_the_writer(delay_model, monkeypatch):
    """Sound waits up to a bound, then the frames; text waits up to its own bound, then `push` refuses it."""
    monkeypatch.setattr(turns, "MOST_AHEAD", 1)
    text = 12 * "This is a sentence of the long text that nobody hears. "
    with open_session(delay_model) as session:
        turn = session.turn()
        turn.push(text)
        with pytest.raises(PendingTextError, match=f"at most {MOST_PENDING}"):
            turn.push("x" * MOST_PENDING)
        time.sleep(0.2)
        assert turn.pending > len(text) - 300
        turn.end()
        made = sound(turn)
    monkeypatch.undo()
    equal(made, whole(delay_model, text)[0])


def test_speak_waits_for_room(delay_model, monkeypatch):
    text = 15 * "This is a sentence of it. "
    wanted = whole(delay_model, text)[0]
    for module in ("turn", "feeding"):
        monkeypatch.setattr(f"moss_tts.sessions.{module}.MOST_PENDING", 200)
    monkeypatch.setattr("moss_tts.sessions.feeding._PART", 50)
    with open_session(delay_model) as session:
        equal(sound(session.speak([text])), wanted)


# ------------------------------------------------------------------------------------------------- coroutines


def test_coroutines_hear_the_same(delay_model):
    async def slowly():
        for piece in in_pieces(TEXT, 4):
            await asyncio.sleep(0.001)
            yield piece

    async def speak(deltas) -> np.ndarray:
        with open_session(delay_model) as session:
            return sound([chunk async for chunk in session.speak_async(deltas)])

    async def all_of_it() -> list[np.ndarray]:
        return await asyncio.gather(speak(slowly()), speak([TEXT]))

    for made in asyncio.run(all_of_it()):
        equal(made, whole(delay_model, TEXT)[0])


def test_a_coroutine_that_waits_for_a_while_loses_nothing(delay_model):
    async def impatient() -> np.ndarray:
        with open_session(delay_model) as session, session.turn() as turn:
            turn.push(TEXT)
            turn.end()
            chunks = []
            while not (chunks and chunks[-1].is_final_chunk):
                try:
                    chunks.append(await asyncio.wait_for(anext(turn), 0.002))
                except TimeoutError:
                    continue
            return sound(chunks)

    equal(asyncio.run(impatient()), whole(delay_model, TEXT)[0])


def test_a_failing_asynchronous_writer_fails_the_turn(delay_model):
    async def failing():
        yield "Hello, "
        raise KeyError("the writer failed")

    async def speak() -> None:
        with open_session(delay_model) as session:
            async for _ in session.speak_async(failing()):
                pass

    with pytest.raises(KeyError, match="the writer failed"):
        asyncio.run(speak())


# ------------------------------------------------------------------------------------------- options and ends


@pytest.mark.parametrize(
    "options",
    [{"text": "x"}, {"seconds": 3}, {"long_form_parallel": 2}, {"stream": False}, {"conversation": [{"role": "user"}]}],
)
def test_options_that_a_session_cannot_have(delay_model, options):
    with pytest.raises(RequestError, match=f"{next(iter(options))} is (no option of a session|always True)"):
        delay_model.session(**options)


def test_a_wrong_option_is_refused_at_once(delay_model):
    with pytest.raises(RequestError, match="temperature"):
        delay_model.session(temperature=-1)
    with pytest.raises(RequestError, match="speaks no text"):
        delay_model.session(preset="soundeffect")
    with open_session(delay_model) as session:
        with pytest.raises(RequestError, match="no place for user_text"):
            session.turn(user_text="Hello?")
        with pytest.raises(RequestError, match="iterable of strings"):
            session.speak(7)
        turn = session.turn()
        with pytest.raises(RequestError, match="takes text only"):
            turn.push_tokens([1])
        with pytest.raises(RequestError, match="text must be text"):
            turn.push(None)


def test_one_turn_at_a_time(delay_model):
    with open_session(delay_model) as session:
        turn = session.turn()
        with pytest.raises(TurnOverError, match="not over yet"):
            session.turn()
        turn.end()
        for work in (lambda: turn.push("x"), turn.flush):
            with pytest.raises(TurnOverError, match="ended"):
                work()
        turn.end()
        with pytest.raises(RequestError, match="no word"):
            next(turn)
        assert list(turn) == []
        assert session.turn()
    with pytest.raises(TurnOverError, match="closed"):
        session.turn()
    session.close()


def test_a_voice_is_encoded_once(delay_model, monkeypatch):
    encoded, real = [], type(delay_model).encoded
    monkeypatch.setattr(type(delay_model), "encoded", lambda self, request: encoded.append(1) or real(self, request))
    noise = 0.1 * np.random.default_rng(0).standard_normal(20_000).astype(np.float32)
    with open_session(delay_model, ref_audio=(noise, 24_000)) as session:
        for _ in range(2):
            assert sound(session.speak(["Hello there, this is it."])).size
    assert encoded == [1]


def test_what_cannot_be_spoken_is_told():
    with moss_tts.load() as packaged, packaged.session(seed=1) as session:
        with pytest.warns(MossTTSWarning, match="left out"):
            assert sound(session.speak(["Hello \N{GRINNING FACE}. ", "[laughs]\n\n", "Bye."])).size


def test_a_voice_mark_is_not_spoken_and_told(model):
    [wanted] = whole(model, "The first of them, and the second one.")
    for pieces in (["[voice: ada] The first of them, [voi", "ce: bob] and the second one."], ["[voice: ada]"]):
        with open_session(model) as session:
            turn = session.turn()
            for piece in pieces:
                turn.push(piece)
            turn.end()
            if len(pieces) > 1:
                with pytest.warns(MossTTSWarning, match="was left out: a session has one voice"):
                    equal(sound(turn), wanted)
                assert [note.split("'")[1] for note in turn.notes[:2]] == ["[voice: ada]", "[voice: bob]"]
            else:
                with pytest.raises(RequestError, match="no word"), pytest.warns(MossTTSWarning, match="left out"):
                    list(turn)


def test_a_closed_model_ends_its_sessions(checkpoints):
    model = moss_tts.load(checkpoints["delay"])
    session = open_session(model)
    turn = session.turn()
    turn.push("Hello, this is a text that nobody ends.")
    model.close()
    with pytest.raises(GenerationError, match="closed"):
        list(turn)
    assert session.closed
    with pytest.raises(TurnOverError, match="closed"):
        session.turn()


def test_an_engine_that_fails_fails_the_turn_and_the_next_one_works(delay_model, monkeypatch):
    def fail(_):
        raise RuntimeError("out of memory")

    with open_session(delay_model) as session:
        with monkeypatch.context() as patch:
            patch.setattr(SpeechEngine, "step", fail)
            with pytest.raises(GenerationError, match="out of memory"):
                list(session.speak([TEXT]))
        equal(sound(session.speak([TEXT])), whole(delay_model, TEXT)[0])


def test_nobody_waits_for_a_part_that_does_not_come():
    outbox: Outbox[int] = Outbox()
    waiting = outbox.ready()
    assert not waiting.done()
    outbox.put(1)
    assert waiting.done()
    assert (outbox.take(), outbox.take()) == (1, None)
    waiting, given_up = outbox.ready(), outbox.ready()
    assert given_up.cancel()
    outbox.close()
    assert waiting.done()
    assert outbox.ready().done()
