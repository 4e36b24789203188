"""Programs with threads, loops and sudden ends: real processes, and their exit codes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.slow

# Where PyTorch is installed, transformers would import it into each of these programs, for seconds.
BEGINNING = """
import asyncio, os, signal, sys, threading, time
sys.modules["torch"] = None
from concurrent.futures import ThreadPoolExecutor
import numpy as np
import moss_tts
from moss_tts.speaking.engine import SpeechEngine

TEXT = "Hello there, 3 times"
LONG = "One sentence follows another, as in a book. " * 20

def in_thread(work):
    kept = []
    thread = threading.Thread(target=lambda: kept.append(work()))
    thread.start()
    thread.join()
    return kept[0]

# Rows that were made, and whether there was a first one.
rows, begun, step = [], threading.Event(), SpeechEngine.step

def counted(engine):
    rows.append(1)
    begun.set()
    return step(engine)

SpeechEngine.step = counted

"""
# The longest wait for what comes sooner or later on any machine.
SECONDS = 600

FINE = {
    "loaded in a thread, used in the main one": """
        model = in_thread(moss_tts.load)
        assert model.say(TEXT, seed=1).finish_reason == "stop"
    """,
    "loaded in the main thread, used in a new one each time": """
        model = moss_tts.load()
        same = {in_thread(lambda: model.say(TEXT, seed=1)).audio.tobytes() for _ in range(3)}
        assert len(same) == 1
    """,
    "a pool": """
        model = moss_tts.load()
        with ThreadPoolExecutor(3) as pool:
            speeches = list(pool.map(lambda seed: model.say(TEXT, seed=seed), [1, 2, 1, 2]))
        first, second, third, fourth = (speech.audio for speech in speeches)
        assert np.array_equal(first, third) and np.array_equal(second, fourth)
    """,
    "two models": """
        first, second = in_thread(moss_tts.load), in_thread(moss_tts.load)
        with ThreadPoolExecutor(2) as pool:
            one, other = pool.map(lambda model: model.say(TEXT, seed=1), [first, second])
        assert np.array_equal(one, other)
    """,
    "a generator that goes from thread to thread": """
        model = moss_tts.load()
        chunks = model.generate(TEXT, seed=1, stream=True)
        parts = []
        while (chunk := in_thread(lambda: next(chunks, None))) is not None:
            parts.append(chunk.audio)
        assert len(parts) > 1
        assert np.allclose(np.concatenate(parts), model.say(TEXT, seed=1), atol=1e-4)
    """,
    "asyncio.to_thread": """
        async def main():
            model = await asyncio.to_thread(moss_tts.load)
            return await asyncio.gather(*(asyncio.to_thread(model.say, TEXT, seed=1) for _ in range(2)))
        first, second = asyncio.run(main())
        assert np.array_equal(first, second)
    """,
    "generate_async": """
        async def speak(model):
            return np.concatenate([part.audio async for part in model.generate_async(TEXT, seed=1, stream=True)])
        ticked = threading.Event()
        def after_a_tick(engine):
            ticked.clear()
            assert ticked.wait(60), "the event loop waits for the speech"
            return step(engine)
        async def tick():
            while True:
                await asyncio.sleep(0.001)
                ticked.set()
        async def main():
            model = moss_tts.load()
            SpeechEngine.step = after_a_tick
            ticking = asyncio.create_task(tick())
            both = await asyncio.gather(speak(model), speak(model))
            SpeechEngine.step = step
            return model, both
        model, (first, second) = asyncio.run(main())
        assert np.array_equal(first, second) and np.allclose(first, model.say(TEXT, seed=1), atol=1e-4)
    """,
    "a cancelled task": """
        async def main():
            model = moss_tts.load()
            async def speak():
                async for part in model.generate_async(LONG, seed=1):
                    raise AssertionError("it was cancelled before it could end")
            task = asyncio.create_task(speak())
            await asyncio.to_thread(begun.wait)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                pass
            assert len(rows) < 400, "half of the text was spoken"
            assert model.say(TEXT, seed=1).finish_reason == "stop"
        asyncio.run(main())
    """,
    "progress told in the event loop": """
        async def main():
            model, loop, told = moss_tts.load(), threading.get_ident(), []
            tell = lambda share: told.append((share, threading.get_ident() == loop))
            async for _ in model.generate_async(LONG[:200], seed=1, on_progress=tell):
                pass
            await asyncio.sleep(0)
            assert told[-1] == (1.0, True) and len(told) > 1, told
        asyncio.run(main())
    """,
    "callbacks in the thread that asks": """
        model, threads = moss_tts.load(), set()
        in_thread(lambda: model.say(LONG[:200], on_segment=lambda _: threads.add(threading.get_ident())))
        assert len(threads) == 1 and threading.get_ident() not in threads
    """,
    "the end while a generator is half used": """
        model = moss_tts.load()
        chunks = model.generate(LONG, seed=1, stream=True)
        next(chunks)
    """,
    "the end while a daemon thread speaks": """
        model = moss_tts.load()
        threading.Thread(target=lambda: model.say(LONG, seed=1), daemon=True).start()
        begun.wait()
    """,
    "the end while a daemon thread loads": """
        threading.Thread(target=moss_tts.load, daemon=True).start()
        time.sleep(1)
    """,
    "a recording encoded in one thread, decoded in another": """
        model = moss_tts.load()
        speech = model.say(TEXT, seed=1)
        codes = in_thread(lambda: model.codec().encode(speech.audio).codes)
        assert model.codec().decode(codes[:, 0]).audio.shape[0] == 1
        assert in_thread(lambda: np.array(model.codec().decode(codes[:, 0]).audio)).shape[0] == 1
    """,
    "a closed model": """
        with moss_tts.load() as model:
            chunks = model.generate(LONG, seed=1, stream=True)
            next(chunks)
        try:
            model.say(TEXT)
        except moss_tts.GenerationError as error:
            assert "closed" in str(error)
        else:
            raise AssertionError
        assert "closed" in repr(model)
        model.close()
        assert moss_tts.load().say(TEXT, seed=1).finish_reason == "stop"
    """,
}


def started(program: str) -> subprocess.Popen[str]:
    code = BEGINNING + textwrap.dedent(program)
    return subprocess.Popen([sys.executable, "-W", "error", "-c", code], stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, errors = process.communicate(timeout=SECONDS)
    return process.returncode, errors


@pytest.mark.parametrize("program", FINE.values(), ids=FINE)
def test_a_program_ends_cleanly(program):
    assert ended(started(program)) == (0, "")


def test_the_exit_code_is_the_programs_own():
    program = """
        chunks = moss_tts.load().generate(LONG, seed=1, stream=True)
        next(chunks)
        sys.exit(3)
    """
    assert ended(started(program)) == (3, "")


@pytest.mark.parametrize("call", ["model.say(LONG, seed=1)", "in_thread(lambda: model.say(LONG, seed=1))"])
@pytest.mark.parametrize("interrupts", [1, 2])
def test_ctrl_c_ends_a_program(call, interrupts):
    process = started(f"""
        model = moss_tts.load()
        def interrupt():
            begun.wait()
            for _ in range({interrupts}):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.05)
        threading.Thread(target=interrupt).start()
        {call}
    """)
    code, errors = ended(process)
    assert code in (-signal.SIGINT, 128 + signal.SIGINT), errors
    assert "KeyboardInterrupt" in errors
    assert "terminate" not in errors


def test_speech_goes_on_after_ctrl_c_was_caught():
    program = """
        model = moss_tts.load()
        def interrupt():
            begun.wait()
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        threading.Thread(target=interrupt).start()
        try:
            model.say(LONG, seed=1)
        except KeyboardInterrupt:
            assert model.say(TEXT, seed=1).finish_reason == "stop"
        else:
            raise AssertionError
    """
    assert ended(started(program)) == (0, "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_is_told_what_to_do():
    program = """
        import multiprocessing
        def work(results):
            try:
                model.say(TEXT)
            except moss_tts.GenerationError as error:
                results.put(str(error))
        model = moss_tts.load()
        model.say(TEXT, seed=1)
        context = multiprocessing.get_context("fork")
        results = context.Queue()
        process = context.Process(target=work, args=(results,))
        process.start()
        assert "spawn" in results.get(timeout=600)
        process.join(60)
        assert process.exitcode == 0, process.exitcode
    """
    assert ended(started(program)) == (0, "")
