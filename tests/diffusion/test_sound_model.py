"""Sounds from a model in memory: options, batches, seeds, progress, cancelling, and others' turns between steps."""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections.abc import Callable, Iterator

import mlx.core as mx
import numpy as np
import pytest

import moss_tts
from moss_tts.device.thread import later_on_device, on_device
from moss_tts.diffusion import model as sound_model
from moss_tts.diffusion.engine import SoundChunk, SoundEngine, SoundJob, SoundParts, make_sound
from moss_tts.diffusion.model import SoundModel
from moss_tts.diffusion.noise import noise
from moss_tts.diffusion.request import resolve_sound_request
from moss_tts.errors import GenerationError, MossTTSError, MossTTSWarning, RequestError, UnknownOptionError
from support.sounds import GOLDEN, PUBLISHED_SOUND

RAIN = {"ambient_sound": "Rain on tin.", "seconds": 0.5, "steps": 3, "seed": 1}


@pytest.fixture(scope="module")
def model() -> SoundModel:
    return moss_tts.load(GOLDEN)


def resolved(**options):
    return resolve_sound_request({"ambient_sound": "Rain.", **options}, PUBLISHED_SOUND)


def test_defaults_are_upstreams_but_the_seed():
    request = resolved()
    assert (request.steps, request.guidance, request.shift, request.negative) == (100, 4.0, 5.0, "")
    assert (request.seconds, request.samples, request.sent) == (10.0, 480_000, "Rain. duration: 10.0s")
    assert resolved().seed != resolved().seed
    assert resolved(duration_suffix=False).sent == "Rain."


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ambient_sound": "  "}, "ambient_sound is empty"),
        ({"text": "Wind."}, "two names of the description"),
        ({"ambient_sound": 3}, "ambient_sound must be text"),
        ({"ambient_sound": "x" * 20_001}, "has 20001 characters; at most 20000"),
        ({"negative_prompt": "x" * 20_001}, "negative_prompt has 20001 characters"),
        ({"seconds": 0.04}, r"seconds must be in 0.1..30 for this model, got 0.04"),
        ({"seconds": 30.06}, r"seconds must be in 0.1..30"),
        ({"seconds": float("nan")}, "seconds must be a number"),
        ({"seconds": 3, "duration_s": 4}, "two names of the same option"),
        ({"steps": 0}, r"steps must be an integer in 1..1000, got 0"),
        ({"steps": 2.5}, "steps must be an integer"),
        ({"shift": 0}, "shift must be a number in 0.01..10000, got 0"),
        ({"guidance": float("inf")}, r"guidance must be a number in -100..100, got inf"),
        ({"seed": 2**32}, "seed must be an integer"),
        ({"noise": np.zeros((3, 4))}, r"noise must have the shape \(channels, latents\) = \(128, 1500\), got \(3, 4\)"),
        ({"noise": np.full((128, 1500), np.nan)}, "noise must hold finite numbers"),
        ({"noise": "loud"}, "noise must be an array"),
        ({"stream": True}, "cannot be streamed"),
        ({"conversation": [{"role": "user"}]}, "takes no conversation"),
        ({"step": 3}, "unknown option 'step'; did you mean 'steps'"),
    ],
)
def test_bad_options_are_refused_in_a_sentence(options, message):
    with pytest.raises(RequestError, match=message):
        resolved(**options)


def test_options_of_speech_are_left_out_with_a_note(model):
    request = resolved(temperature=0.7, stream=False, long_form=False, ref_audio=None)
    assert request.notes == (
        "This model makes sounds by diffusion, for which temperature has no meaning, so it was left out.",
    )
    with pytest.warns(MossTTSWarning, match="temperature has no meaning") as caught:
        model.say(**RAIN, temperature=0.7)
    assert caught[0].filename == __file__


def test_too_many_tokens_are_refused_and_not_cut_off(model):
    for name in ("ambient_sound", "negative_prompt"):
        with pytest.raises(RequestError, match=rf"{name} has \d+ tokens with its duration; at most 512"):
            model.generate(**{**RAIN, name: "gravel and glass, far away " * 60})


def test_a_sound_is_made_and_told_of(model, tmp_path):
    steps, shares, results = [], [], []
    [result] = model.generate(
        **RAIN, on_step=lambda *step: steps.append(step), on_progress=shares.append, on_chunk=results.append
    )
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert results == [result]
    assert (result.samples, result.finish_reason, result.seed, result.audio.dtype) == (600, "stop", 1, np.float32)
    assert 0 < np.abs(result.audio).max() <= 1
    speech = model.say("Rain on tin.", seconds=0.5, steps=3, seed=1)
    np.testing.assert_array_equal(speech.audio, result.audio)
    assert speech.text == "Rain on tin. duration: 0.5s"
    assert moss_tts.read_audio(speech.save(tmp_path / "rain.wav")).samples.size == 600


def test_a_batch_is_each_alone(model):
    others = [
        RAIN,
        {**RAIN, "ambient_sound": "A dog", "seed": 2, "seconds": 1.2},
        {**RAIN, "guidance": 1.0},
        {**RAIN, "negative_prompt": "speech"},
        {**RAIN, "seed": 3},
    ]
    made = dict(model.generate_batch(others, max_batch=2))
    assert sorted(made) == list(range(5))
    for index, options in enumerate(others):
        [alone] = model.generate(**options)
        np.testing.assert_allclose(made[index].audio, alone.audio, atol=1e-4)
        assert made[index].seed == options["seed"]
    with pytest.raises(RequestError, match="max_batch"):
        model.generate_batch(others, max_batch=0)
    with pytest.raises(UnknownOptionError):
        model.generate_batch([RAIN, {"prompt": "x"}])


def test_the_seed_decides_and_noise_replaces_it(model):
    config = model.config
    start = noise(1, (config.transformer.channels, config.latent_frames))
    np.testing.assert_array_equal(model.say(**RAIN).audio, model.say(**{**RAIN, "seed": 9}, noise=start).audio)
    assert not np.array_equal(model.say(**RAIN).audio, model.say(**{**RAIN, "seed": 9}).audio)


def test_the_text_encoder_is_not_in_memory_while_steps_are_made(model):
    kept = []
    model.say(**RAIN, on_step=lambda *_: kept.append(model.parts.encode.in_memory))
    assert kept == [False] * 3


def test_cancelling_ends_it_after_the_step(model):
    cancel, steps = threading.Event(), []

    def on_step(step: int, _steps: int) -> None:
        steps.append(step)
        cancel.set()

    [result] = model.generate(**{**RAIN, "steps": 50}, cancel=cancel, on_step=on_step)
    assert len(steps) <= 2
    assert (result.finish_reason, result.samples) == ("cancelled", 0)


def test_an_error_of_the_caller_stops_the_work(model):
    seen, stopped = [], RuntimeError("enough")

    def on_step(step: int, _steps: int) -> None:
        seen.append(step)
        raise stopped

    with pytest.raises(RuntimeError, match="enough"):
        model.say(**{**RAIN, "steps": 1000}, on_step=on_step)
    assert seen == [1]
    assert on_device(lambda: True), "the device thread is free"


def when_told(monkeypatch: pytest.MonkeyPatch, begun: Callable[[], None], told: threading.Event) -> list[SoundChunk]:
    """The chunks of sounds from now on; after each of them the device waits until it is told to go on."""
    chunks: list[SoundChunk] = []

    def held(parts: SoundParts, job: SoundJob) -> Iterator[SoundChunk | None]:
        for chunk in make_sound(parts, job):
            chunks.append(chunk)
            begun()
            assert told.wait(60)
            yield chunk

    monkeypatch.setattr(sound_model, "make_sound", held)
    return chunks


def test_others_have_their_turn_between_two_steps(model, monkeypatch):
    """A row of speech waits for one step at most, and not for the sound."""
    begun, queued = threading.Event(), threading.Event()
    steps = when_told(monkeypatch, begun.set, queued)
    thread = threading.Thread(target=lambda: model.say(**RAIN))
    thread.start()
    assert begun.wait(60)
    turn = later_on_device(lambda: len(steps))
    queued.set()
    assert turn.result(60) == 1
    thread.join(60)
    assert len(steps) == RAIN["steps"] + 1


def test_a_coroutine_goes_on_meanwhile(model, monkeypatch):
    """No step is over before it has had a turn."""

    async def main() -> tuple[list[int], list[np.ndarray]]:
        ticked, steps = threading.Event(), []
        when_told(monkeypatch, ticked.clear, ticked)

        async def tick() -> None:
            while True:
                ticked.set()
                await asyncio.sleep(0.001)

        task = asyncio.create_task(tick())
        audio = [r.audio async for r in model.generate_async(**RAIN, on_step=lambda step, _: steps.append(step))]
        task.cancel()
        return steps, audio

    steps, [audio] = asyncio.run(main())
    monkeypatch.undo()
    assert steps == [1, 2, 3]
    np.testing.assert_array_equal(audio, model.say(**RAIN).audio)


def test_an_engine_works_on_the_first_that_has_a_listener(model):
    def alone() -> None:
        engine, heard = SoundEngine(model.parts), []
        first, second = (model.job(model.request({**RAIN, "steps": 2, "seed": seed})) for seed in (1, 2))
        runs = [engine.submit(job) for job in (first, second)]
        while not engine.idle:
            heard += [(runs.index(run), chunk.step, len(chunk.audio)) for run, chunk in engine.step()]
        assert heard == [(0, 1, 0), (0, 2, 0), (0, 2, 600), (1, 1, 0), (1, 2, 0), (1, 2, 600)]
        dropped = engine.submit(first)
        engine.step()
        engine.drop(dropped)
        assert engine.idle
        assert engine.step() == []

    on_device(alone)


def test_a_sound_that_nobody_takes_lets_others_go_first(model):
    from dataclasses import replace

    def alone() -> None:
        engine, free = SoundEngine(model.parts), threading.Event()
        job = model.job(model.request({**RAIN, "steps": 1}))
        waiting, other = engine.submit(replace(job, is_heard=free.is_set)), engine.submit(job)
        ended = [run for _ in range(6) for run, chunk in engine.step() if chunk.finish_reason is not None]
        assert ended == [other]
        free.set()
        assert [run for run, chunk in engine.step() if chunk.finish_reason] == [waiting]

    on_device(alone)


def test_a_closed_model_says_so():
    with moss_tts.load(GOLDEN) as model:
        assert "sounds of up to 3 s, 1200 Hz" in repr(model)
    assert model.closed
    assert "closed" in repr(model)
    with pytest.raises(GenerationError, match="is closed"):
        model.say(**RAIN)


@pytest.mark.parametrize(
    "options",
    [{"codec": "x"}, {"kv_bits": 8}, {"codec_dtype": "8bit"}, {"adapters": {"a": "b"}}, {"tied_heads": "embeddings"}],
)
def test_loading_refuses_options_of_speech(options):
    with pytest.raises(RequestError, match=f"makes sounds by diffusion, and has no {next(iter(options))}"):
        moss_tts.load(GOLDEN, **options)


def test_a_type_that_cannot_be_computed_in_is_refused():
    with pytest.raises(RequestError, match="dtype must be one of float32, bfloat16"):
        moss_tts.load(GOLDEN, dtype="float16")


def test_blocks_in_bfloat16_make_nearly_the_same_sound(model):
    with moss_tts.load(GOLDEN, dtype="bfloat16") as half:
        made, wanted = half.say(**RAIN).audio, model.say(**RAIN).audio
        begun, drawn = (np.array(one.parts.noise(one.request(RAIN))) for one in (half, model))
    assert 1e-4 < np.abs(made - wanted).max() < 0.2
    # Upstream rounds its noise, too.
    np.testing.assert_array_equal(begun, np.array(mx.array(drawn).astype(mx.bfloat16).astype(mx.float32)))


def test_there_is_no_codec(model):
    with pytest.raises(MossTTSError, match="no codec"):
        model.codec()


def test_there_are_no_sessions(model):
    with pytest.raises(MossTTSError, match="no sessions"):
        model.session(seed=1)


def test_speech_is_loaded_as_before():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with moss_tts.load() as voice:
            assert isinstance(voice, moss_tts.Model)
