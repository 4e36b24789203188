"""The codec beside the rows: many jobs do not wait for it, few do, and all of them fail with it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest

from moss_tts import load
from moss_tts.checkpoints.demo import write_demo_checkpoint
from moss_tts.codec import StreamingDecoder, streaming
from moss_tts.frames import Frames
from moss_tts.model import Model
from moss_tts.speaking import engine as speech
from moss_tts.speaking.decoding import CodecStreams
from moss_tts.speaking.driving import merged
from moss_tts.speaking.engine import ChunkSizes, SpeechChunk, SpeechEngine, SpeechJob, is_last
from support.crossings import counted_crossings

ENDLESS = {"text_temperature": 0.0, "runaway_guard": False}
MOST_PER_CALL = 4


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load(write_demo_checkpoint(tmp_path_factory.mktemp("demo") / "local", "local"))


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """The codec waits until this is set."""
    may_go, decode = threading.Event(), CodecStreams._decode

    def held_decode(self, *given):
        assert may_go.wait(300)
        return decode(self, *given)

    monkeypatch.setattr(CodecStreams, "_decode", held_decode)
    yield may_go
    may_go.set()


def jobs(model: Model, count: int) -> list[SpeechJob]:
    bodies = [{"text": f"Number {n}.", "max_tokens": 12, "stream": True, **ENDLESS} for n in range(count)]
    return [model.job(model.request({"seed": seed, **body})) for seed, body in enumerate(bodies)]


def finished(engine: SpeechEngine, count: int) -> int:
    """Chunks until so many jobs are over."""
    chunks = 0
    while count:
        for _, chunk in engine.step():
            assert isinstance(chunk, SpeechChunk)
            chunks += 1
            count -= is_last(chunk)
    return chunks


def test_many_jobs_go_on_while_the_codec_works(model: Model, held: threading.Event) -> None:
    engine = SpeechEngine(model.architecture, model.codec)
    runs = [engine.submit(job) for job in jobs(model, 5)]
    for _ in range(9):  # the codec is called at the fifth
        assert engine.step() == []
    frames = {sum(len(part.codes) for part in run.undecoded) for run in runs}
    assert frames == {4}
    held.set()
    assert finished(engine, 5) >= 5


@pytest.mark.parametrize(("count", "many"), [(2, False), (5, True)])
def test_rows_that_go_on_beside_the_codec_share_the_cores(model: Model, count: int, many: bool, monkeypatch) -> None:
    shared = [False]
    monkeypatch.setattr(speech, "share_cores", shared.append)
    engine = SpeechEngine(model.architecture, model.codec)
    for job in jobs(model, count):
        engine.submit(job)
    finished(engine, count)
    assert (True in shared) is many
    assert shared[-1] is False


def test_a_job_that_is_dropped_while_the_codec_works_is_forgotten(model: Model, held: threading.Event) -> None:
    engine = SpeechEngine(model.architecture, model.codec)
    runs = [engine.submit(job) for job in jobs(model, 5)]
    for _ in range(9):
        engine.step()
    threading.Timer(0.2, held.set).start()
    for run in runs:
        engine.drop(run)
    assert held.is_set()
    assert engine.idle
    assert engine.step() == []
    engine.submit(jobs(model, 1)[0])
    assert finished(engine, 1) >= 1


def heard_of(engine: SpeechEngine) -> dict[speech.Run, SpeechChunk]:
    """What the engine gives until it has nothing more to do."""
    chunks: dict[speech.Run, list[SpeechChunk]] = {}
    while not engine.idle:
        for run, chunk in engine.step():
            assert isinstance(chunk, SpeechChunk)
            assert len(chunk.frames) <= MOST_PER_CALL
            chunks.setdefault(run, []).append(chunk)
    return {run: merged(parts) for run, parts in chunks.items()}


@pytest.mark.parametrize("n_vq", [3, 2])
def test_a_job_that_is_not_heard_waits_alone_and_as_codes(model: Model, monkeypatch, n_vq: int) -> None:
    """It neither has a row nor keeps one with another number of codebooks waiting once its own rows are made."""
    monkeypatch.setattr(speech, "MOST_PER_CALL", MOST_PER_CALL)
    few = {"stream": True, "streaming_interval": 0.16, "max_tokens": 12, **ENDLESS}
    requests = [{"text": "Number 1.", "seed": 1, **few}, {"text": "Two.", "seed": 2, "n_vq_for_inference": n_vq, **few}]
    first, second = (model.job(model.request(body)) for body in requests)
    alone = []
    for job in (first, second):
        engine = SpeechEngine(model.architecture, model.codec)
        alone.append((engine.submit(job), *heard_of(engine).values())[1])

    is_heard = threading.Event()
    engine = SpeechEngine(model.architecture, model.codec, max_batch=1)
    unheard, other = engine.submit(replace(first, is_heard=is_heard.is_set)), engine.submit(second)
    meanwhile = heard_of(engine)
    assert meanwhile.keys() == {other}
    assert sum(len(part.codes) for part in unheard.undecoded) == 12
    late = engine.submit(second)
    is_heard.set()
    later = heard_of(engine)
    assert later.keys() == {unheard, late}
    for spoken, expected in ((later[unheard], alone[0]), (meanwhile[other], alone[1]), (later[late], alone[1])):
        assert spoken.finish_reason == expected.finish_reason
        np.testing.assert_array_equal(spoken.frames, expected.frames)
        np.testing.assert_allclose(spoken.audio, expected.audio, atol=1e-5)


def test_segments_of_a_long_text_take_turns_with_other_jobs(model: Model) -> None:
    engine = SpeechEngine(model.architecture, model.codec, max_batch=1)
    job = jobs(model, 1)[0]
    first, second, third = (engine.submit(replace(job, owner="a long text")) for _ in range(3))
    engine.step()
    other, alone = engine.submit(replace(job, owner="another one")), engine.submit(job)
    over: list[speech.Run] = []
    while not engine.idle:
        over += [run for run, chunk in engine.step() if is_last(chunk)]
    assert over == [first, second, other, alone, third]


def test_what_fails_on_the_codecs_thread_is_raised(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(CodecStreams, "_decode_once", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        list(model.generate("Hello.", seed=1, max_tokens=5, **ENDLESS))
    monkeypatch.undo()
    assert len(list(model.generate("Hello.", seed=1, max_tokens=5, **ENDLESS))) == 1


def test_streams_go_on_beside_others_that_come_and_go(model: Model) -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 16, (3, 12, model.config.n_vq)).astype(np.int32)
    alone = []
    for frames in codes:
        streams = CodecStreams(model.codec)
        alone.append(np.concatenate(streams.decode({0: [Frames(frames)]}).result()[0]))
    together, received = CodecStreams(model.codec), {name: [] for name in range(3)}
    for waiting in (
        {0: slice(0, 3), 1: slice(0, 1)},
        {0: slice(3, 3), 2: slice(0, 6), 1: slice(1, 9)},
        {2: slice(6, 12), 0: slice(3, 12)},
    ):
        parts = {name: [Frames(codes[name, part])] if part.stop > part.start else [] for name, part in waiting.items()}
        for name, audio in together.decode(parts).result().items():
            received[name] += audio
    for name, audio in received.items():
        joined = np.concatenate(audio)
        np.testing.assert_allclose(joined, alone[name][: len(joined)], atol=1e-5)
    assert [sum(map(len, audio)) for audio in received.values()] == [
        len(alone[0]),
        len(alone[1]) * 9 // 12,
        len(alone[2]),
    ]


@pytest.mark.parametrize("in_c", [True, False])
def test_an_array_changes_its_library_three_times_from_a_row_to_samples(in_c: bool, tmp_path) -> None:
    """A row leaves MLX to be read, frames go back to the codec, and its latents (in C) or its audio come out."""
    model = load(write_demo_checkpoint(tmp_path / "local", "local"))
    if not in_c:
        model.codec().decoder._compiled = None
    elif model.codec().decoder._compiled is None:
        pytest.skip("no OpenBLAS or no C compiler here")
    engine = SpeechEngine(model.architecture, model.codec)
    engine.submit(replace(jobs(model, 1)[0], sizes=ChunkSizes(later=1)))
    for _ in range(5):
        engine.step()
    with counted_crossings() as crossings:
        ((_, chunk),) = engine.step()
    assert len(chunk.frames) == 1
    assert chunk.audio.any()
    assert [crossing.split(" in ")[0] for crossing in crossings] == ["MLX to NumPy", "NumPy to MLX", "MLX to NumPy"]


def test_frames_that_the_runtime_made_are_not_checked_again(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("as_codes", "check_counts"):
        monkeypatch.setattr(streaming, name, lambda *_: pytest.fail("checked"))
    (result,) = model.generate("Hello.", seed=1, max_tokens=5, **ENDLESS)
    assert result.token_count == 5


def test_checked_and_unchecked_frames_sound_the_same(model: Model) -> None:
    codes = np.random.default_rng(0).integers(0, 16, (model.config.n_vq, 2, 6)).astype(np.int32)
    checked, unchecked = StreamingDecoder(model.codec(), 2), StreamingDecoder(model.codec(), 2)
    for part, counts in ((slice(0, 2), None), (slice(2, 6), [4, 4])):
        made = np.asarray(unchecked.push_unchecked(mx.array(codes[:, :, part]), counts))
        np.testing.assert_array_equal(made, np.array(checked.push(codes[:, :, part], counts)))
