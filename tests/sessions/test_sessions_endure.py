"""Sessions for a long time, in many threads, and on a server's engine."""

from __future__ import annotations

import gc
import random
import subprocess
import sys
import threading
import time
import weakref
from collections import Counter
from typing import Any

import numpy as np
import pytest

import moss_tts
from moss_tts.errors import GenerationError, TurnOverError
from moss_tts.server.device_thread import Device
from support.serving import PATIENCE, wait_until

OPTIONS: dict[str, Any] = {"seed": 5, "max_tokens": 1, "text_temperature": 0.0, "long_form_retry_attempts": 9}
TEXT = "Well, this is the first clause, and that is more. Then all of them went home again."


def samples(results) -> np.ndarray:
    return np.concatenate([chunk.audio for chunk in results])


def objects() -> Counter[str]:
    gc.collect()
    return Counter(type(one).__name__ for one in gc.get_objects())


@pytest.mark.slow
def test_a_thousand_turns_leave_nothing_behind(delay_model):
    """Neither objects nor threads: whole turns, cancelled ones and failed ones."""

    def failing():
        yield "Well, "
        raise KeyError

    def one_turn(session, number: int) -> None:
        if number % 10 == 3:
            with session.turn() as turn:
                turn.push("Hello there, and more.")
        elif number % 10 == 7:
            with pytest.raises(KeyError):
                list(session.speak(failing()))
        else:
            assert samples(session.speak(["Hello ", "there."])).size

    with delay_model.session(**OPTIONS) as session:
        for number in range(20):
            one_turn(session, number)
        before, threads = objects(), threading.active_count()
        for number in range(1000):
            one_turn(session, number)
        after = objects()
    wait_until(lambda: threading.active_count() <= threads)
    assert {name: count for name, count in (after - before).items() if count > 100} == {}


def test_closed_sessions_leave_nothing_behind(delay_model):
    def one() -> None:
        with delay_model.session(**OPTIONS) as session:
            next(session.speak(["Hello there."]))

    one()
    before = objects()
    for _ in range(20):
        one()
    assert {name: count for name, count in (objects() - before).items() if count > 20} == {}


@pytest.mark.parametrize("is_cancelled", [True, False])
def test_a_turn_that_is_over_is_held_by_nobody(model, is_cancelled):
    """An idle engine keeps nothing of it; the thread that computes may still hold what it has done last."""
    session = model.session(seed=1, max_tokens=6)
    turn = session.turn()
    turn.push("Well, this is the first clause, and that is more.")
    if is_cancelled:
        next(turn)
        turn.cancel()
    turn.end()
    list(turn)
    session.close()
    host, held = session._host, [weakref.ref(turn), weakref.ref(session)]
    del turn, session
    for _ in range(3):
        host.call(lambda: None).result()
    gc.collect()
    assert [one() for one in held] == [None, None]


def test_cancelled_from_another_thread_at_any_moment(delay_model):
    """There is one last chunk, the session goes on, and the context is as before."""
    with delay_model.session(**OPTIONS) as session:
        wanted = samples(session.speak(["The next one."]))
    draw = random.Random(0)
    for _ in range(15):
        with delay_model.session(**OPTIONS) as session:
            turn = session.turn()
            timer = threading.Timer(draw.uniform(0, 0.06), turn.cancel)
            timer.start()
            try:
                for piece in TEXT.split(" "):
                    turn.push(f"{piece} ")
                    time.sleep(0.001)
            except TurnOverError:
                pass
            reasons = [chunk.finish_reason for chunk in turn]
            timer.join()
            assert reasons[-1] == "cancelled"
            assert set(reasons[:-1]) <= {None}
            np.testing.assert_allclose(samples(session.speak(["The next one."])), wanted, atol=1e-4)


def test_threads_may_push_at_once(delay_model):
    """Each piece is spoken whole, in some order; readers in two threads share the chunks."""
    with delay_model.session(**OPTIONS) as session, session.turn() as turn:
        writers = [threading.Thread(target=turn.push, args=(f"Here is sentence {n}. ",)) for n in range(8)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        turn.end()
        taken: list[Any] = []
        readers = [threading.Thread(target=lambda: taken.extend(turn)) for _ in range(2)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(PATIENCE)
            assert not reader.is_alive()
    assert sum(chunk.is_final_chunk for chunk in taken) == 1
    assert turn.is_over


def test_generate_goes_on_beside_a_session(delay_model):
    alone = delay_model.say(TEXT, seed=3, max_tokens=20).audio
    with delay_model.session(**OPTIONS) as session:
        speaking = session.speak([TEXT])
        first = next(speaking)
        np.testing.assert_allclose(delay_model.say(TEXT, seed=3, max_tokens=20).audio, alone, atol=1e-4)
        assert samples([first, *speaking]).size


def test_a_servers_engine_speaks_sessions(checkpoints, delay_model):
    """With its own thread and its own limits, beside its other requests; when it stops, turns fail."""
    with delay_model.session(**OPTIONS) as session:
        wanted = samples(session.speak([TEXT]))
    device = Device(lambda: moss_tts.load(checkpoints["delay"]), 4, 1000)
    model = device.start()
    try:
        with model.session(host=device, **OPTIONS) as session:
            np.testing.assert_allclose(samples(session.speak(TEXT)), wanted, atol=1e-4)
            turn = session.turn()
            turn.push("Well, this is not heard to its end, and ")
            next(turn)
    finally:
        assert device.stop(PATIENCE)
    with pytest.raises(GenerationError, match="stopping"):
        list(model.session(host=device, **OPTIONS).speak([TEXT]))


def test_a_program_may_end_while_a_turn_is_spoken(checkpoints):
    program = """if True:
        import sys, moss_tts
        session = moss_tts.load(sys.argv[1]).session(seed=1)
        turn = session.turn()
        turn.push(20 * "This is a sentence. ")
        next(turn)
        print("over" if turn.is_over else "speaking")
    """
    ended = subprocess.run(
        [sys.executable, "-c", program, str(checkpoints["delay"])], capture_output=True, text=True, timeout=PATIENCE
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "speaking\n", "")
