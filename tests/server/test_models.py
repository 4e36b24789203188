"""Several models on a server: which is in memory, which request waits for which, and that nothing is mixed up."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import requests

import moss_tts
from moss_tts.errors import CheckpointError
from moss_tts.server.models import Models
from moss_tts.server.served_model import ModelSource
from moss_tts.server.settings import Settings
from support.serving import ENDLESS_FRAMES, PATIENCE, Serving, assert_same_speech, serving, wait_until
from support.sockets import OPTIONS, STREAM, talking
from support.sounds import GOLDEN

BODY = {"input": "Hello, you two.", "max_tokens": 6, "seed": 1}
ENDLESS = {"input": "A text.", "runaway_guard": False, "text_temperature": 0.0, "max_tokens": ENDLESS_FRAMES}


@pytest.fixture(scope="module")
def pair(checkpoints, tmp_path_factory) -> Iterator[Serving]:
    """Two models, of which one is in memory at a time."""
    voices = tmp_path_factory.mktemp("voices")
    with serving(checkpoints["delay"], voices, more={"fast": checkpoints["nano"]}, max_loaded=1) as running:
        yield running


@pytest.fixture(scope="module")
def alone(models) -> dict[str, np.ndarray]:
    """What each model says by itself."""
    options = {"text": BODY["input"], "max_tokens": BODY["max_tokens"], "seed": BODY["seed"]}
    return {
        name: next(models[architecture].generate(**options)).audio
        for name, architecture in (("demo", "delay"), ("fast", "nano"))
    }


def states(server: Serving) -> dict[str, str]:
    return {model["id"]: model["state"] for model in server.get("/v1/models").json()["data"]}


# ------------------------------------------------------------------------------------------------ the choice


def test_the_field_model_chooses(pair, alone):
    for name in ("demo", "fast", "demo"):
        assert_same_speech(pair.pcm(BODY | {"model": name}), alone[name])
        assert states(pair) == {"demo": "unloaded", "fast": "unloaded"} | {name: "loaded"}


@pytest.mark.parametrize("name", [None, "", "tts-1", "gpt-4o-mini-tts"])
def test_requests_that_name_none_of_them_get_the_first(pair, alone, name):
    assert_same_speech(pair.pcm(BODY | ({} if name is None else {"model": name})), alone["demo"])


def test_an_unknown_name_is_an_error_that_lists_the_names(pair):
    for response in (pair.post(json=BODY | {"model": "huge"}), pair.get("/v1/models/huge")):
        assert response.status_code == 404
        error = response.json()["error"]
        assert (error["param"], error["code"]) == ("model", "model_not_found")
        assert "'huge' is not here; this server has 'demo' and 'fast'" in error["message"]


def test_what_is_wrong_without_a_model_loads_none(pair):
    pair.pcm(BODY | {"model": "demo"})
    for wrong in ({"voice": "nobody"}, {"lexicon": "none"}, {"temperature": -1}, {"input": "x" * 20_001}):
        assert pair.post(json=BODY | {"model": "fast"} | wrong).status_code == 400
    assert states(pair)["fast"] == "unloaded"


# ------------------------------------------------------------------------------------------- load and unload


def test_a_model_is_loaded_and_unloaded_by_hand(pair):
    loaded = pair.post("/v1/models/fast/load").json()
    assert (loaded["id"], loaded["state"]) == ("fast", "loaded")
    assert loaded["memory_bytes"] > 0
    assert states(pair) == {"demo": "unloaded", "fast": "loaded"}
    for _ in range(2):
        unloaded = pair.post("/v1/models/fast/unload").json()
        assert (unloaded["state"], unloaded["memory_bytes"]) == ("unloaded", 0)
    # What it can do stays known.
    described = pair.get("/v1/models/fast").json()
    assert described["defaults"] == loaded["defaults"]
    assert pair.post("/v1/models/huge/load").status_code == 404


def test_health_and_metrics_say_where_models_are(pair):
    pair.post("/v1/models/fast/load")
    health = pair.get("/health").json()
    assert health["status"] == "ok"
    assert {name: model["state"] for name, model in health["models"].items()} == states(pair)
    assert pair.counter('moss_tts_model_loaded{model="fast"}') == 1
    assert pair.counter('moss_tts_model_loaded{model="demo"}') == 0
    assert pair.counter('moss_tts_model_loads{model="fast"}') >= 2


def test_a_model_that_speaks_stays(pair):
    with pair.open(ENDLESS | {"model": "demo"}) as connection:
        assert connection.getresponse().read(10)
        refused = pair.post("/v1/models/demo/unload")
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "model_in_use")
        with pytest.raises(requests.Timeout):
            requests.post(f"{pair.url}/v1/audio/speech", json=BODY | {"model": "fast"}, timeout=0.5)
        assert states(pair) == {"demo": "loaded", "fast": "unloaded"}
    assert pair.pcm(BODY | {"model": "fast"}).size


def test_a_client_that_leaves_the_line_keeps_nobody_out(pair):
    """While one model speaks, a request for the other waits; behind it, another one for the first."""
    with pair.open(ENDLESS | {"model": "demo"}) as connection:
        assert connection.getresponse().read(10)
        with pair.open(BODY | {"model": "fast"}), pair.open(BODY | {"model": "demo"}):
            wait_until(lambda: pair.counter('moss_tts_requests{state="running"}') == 3)
        pair.pcm(BODY | {"model": "demo"})
        assert states(pair) == {"demo": "loaded", "fast": "unloaded"}
    pair.wait_until_idle()


def test_models_that_do_not_fit_together_take_turns(checkpoints, tmp_path, alone):
    """--max-memory is for all of them; each of these alone fits."""
    with serving(checkpoints["delay"], tmp_path, more={"fast": checkpoints["nano"]}, max_memory=2_000_000) as running:
        for name in ("demo", "fast", "demo"):
            assert_same_speech(running.pcm(BODY | {"model": name}), alone[name])
            assert states(running) == {"demo": "unloaded", "fast": "unloaded"} | {name: "loaded"}


# ------------------------------------------------------------------------------------------------ keep-alive


def test_an_idle_model_leaves_and_comes_back(checkpoints, tmp_path, alone):
    clip = (0.1 * np.sin(np.arange(24_000) / 9)).astype(np.float32), 24_000
    moss_tts.voices.Voices(tmp_path).add("alice", clip)
    keep_alive = 1e6
    with serving(checkpoints["delay"], tmp_path, keep_alive_s=keep_alive) as running:
        running.later(keep_alive)
        wait_until(lambda: states(running) == {"demo": "unloaded"})
        assert running.get("/v1/models").json()["data"][0]["memory_bytes"] == 0
        assert_same_speech(running.pcm(BODY), alone["demo"])
        first = running.pcm(BODY | {"voice": "alice"})
        prefixes = len(running.models.first.model.architecture.prefixes)
        with running.passing(keep_alive):
            wait_until(lambda: states(running) == {"demo": "unloaded"})
        running.post("/v1/models/demo/load")
        assert len(running.models.first.model.architecture.prefixes) == prefixes == 1
        np.testing.assert_array_equal(running.pcm(BODY | {"voice": "alice"}), first)


def test_time_that_is_never_over(checkpoints, tmp_path):
    with serving(checkpoints["delay"], tmp_path, keep_alive_s=None) as running:
        running.pcm(BODY)
        running.later(1e6)
        assert states(running) == {"demo": "loaded"}


def test_a_model_is_used_for_as_long_as_it_speaks(checkpoints, tmp_path):
    with serving(checkpoints["delay"], tmp_path, keep_alive_s=0.0) as running:
        with running.open(ENDLESS) as connection:
            response = connection.getresponse()
            for _ in range(5):
                assert response.read(10)
                running.later(1)
            assert states(running) == {"demo": "loaded"}
        wait_until(lambda: states(running) == {"demo": "unloaded"})


# ------------------------------------------------------------------------------------------------- all kinds


def test_a_sound_model_takes_turns_with_one_that_speaks(checkpoints, tmp_path, alone):
    rain = {"model": "sounds", "input": "Rain on tin.", "seconds": 0.5, "steps": 3, "seed": 1}
    with serving(checkpoints["delay"], tmp_path, more={"sounds": GOLDEN}, max_loaded=1) as running:
        first = running.pcm(rain)
        assert_same_speech(running.pcm(BODY), alone["demo"])
        np.testing.assert_array_equal(running.pcm(rain), first)
        wav = running.post(json=BODY | {"response_format": "wav"}).content
        data = {"name": "alice", "model": "sounds"}
        refused = running.post("/v1/audio/voices", data=data, files={"audio_sample": ("a.wav", wav)})
        assert refused.status_code == 400
        assert "makes sounds by diffusion" in refused.json()["error"]["message"]
        added = running.post("/v1/audio/voices", data={"name": "alice"}, files={"audio_sample": ("a.wav", wav)})
        assert added.status_code == 201, added.text


def test_a_session_holds_its_model(pair):
    with talking(pair) as talk:
        talk.configure(model="fast")
        assert talk.turn("one", "Hello there, you two.").sound
        assert states(pair) == {"demo": "unloaded", "fast": "loaded"}
        assert pair.post("/v1/models/fast/unload").status_code == 409
    wait_until(lambda: pair.counter('moss_tts_model_requests{model="fast"}') == 0)
    assert pair.post("/v1/models/fast/unload").status_code == 200


def test_a_session_that_changes_its_model_lets_the_first_one_go(pair):
    with talking(pair, STREAM) as talk:
        for name in ("fast", "demo"):
            talk.send("session.config", model=name, stream_audio=True, **OPTIONS)
            talk.send("input.text", text="Hello there, you two.")
            talk.send("input.done")
            assert talk.until("session.done").sound
            assert states(pair)[name] == "loaded"
        talk.send("session.config", model="fast", voice="nobody")
        assert talk.answer()["param"] == "voice"
        assert talk.closed() == 1008


def test_adapters_belong_to_their_model(pair):
    refused = pair.post(json=BODY | {"model": "fast", "adapters": {"ada": 1.0}})
    assert refused.status_code == 400
    assert "ada" in refused.json()["error"]["message"]


# ------------------------------------------------------------------------------------------------- under load


@pytest.mark.slow
def test_two_hundred_mixed_requests(pair, models):
    """One model in memory at a time: every request has its audio, and it is that of its own model."""
    rng = random.Random(1)
    wanted = [(rng.choice(["demo", "fast"]), rng.randrange(5)) for _ in range(200)]
    alone = {
        (name, seed): next(models[kind].generate(text=BODY["input"], max_tokens=6, seed=seed)).audio
        for name, kind in (("demo", "delay"), ("fast", "nano"))
        for seed in range(5)
    }

    def ask(one: tuple[str, int]) -> np.ndarray:
        return pair.pcm(BODY | {"model": one[0], "seed": one[1]})

    before = sum(served.loads for served in pair.models)
    with ThreadPoolExecutor(12) as clients:
        heard = list(clients.map(ask, wanted))
    for one, audio in zip(wanted, heard, strict=True):
        assert_same_speech(audio, alone[one])
    # Those that wait for a model share its turn.
    assert sum(served.loads for served in pair.models) - before < 100


@pytest.mark.slow
def test_loading_does_not_hold_up_a_model_that_speaks(checkpoints, tmp_path, monkeypatch):
    """No model is loaded before more of the other's speech was heard."""
    heard, stop, load, loads = threading.Event(), threading.Event(), moss_tts.load, []

    def held(*given: Any, **named: Any) -> Any:
        model = load(*given, **named)
        if listener.is_alive():
            heard.clear()
            assert heard.wait(PATIENCE)
            loads.append(model)
        return model

    def listen() -> None:
        while not stop.is_set():
            response.read(1920)
            heard.set()

    listener = threading.Thread(target=listen)
    monkeypatch.setattr(moss_tts, "load", held)
    pcm = ENDLESS | {"response_format": "pcm"}
    more = {"fast": checkpoints["nano"], "other": checkpoints["local"]}
    with serving(checkpoints["delay"], tmp_path, more=more, max_loaded=2) as running, running.open(pcm) as stream:
        response = stream.getresponse()
        listener.start()
        for _ in range(5):
            for name in more:
                assert running.post(f"/v1/models/{name}/load").status_code == 200
        stop.set()
        listener.join()
        assert len(loads) > 5
        assert running.models.first.loads == 1


# ------------------------------------------------------------------------------------------------- mishaps


def test_a_model_that_cannot_be_loaded_again_is_an_error_and_not_the_end(checkpoints, copied, tmp_path, alone, caplog):
    directory = copied("nano")
    with serving(checkpoints["delay"], tmp_path, more={"fast": directory}, max_loaded=1) as running:
        (directory / "config.json").rename(directory / "gone.json")
        response = running.post(json=BODY | {"model": "fast"})
        assert (response.status_code, response.json()["error"]["code"]) == (503, "model_not_loaded")
        assert str(directory) not in response.text
        (told,) = [record for record in caplog.records if "cannot be loaded" in record.message]
        assert (str(directory) in told.message, told.exc_info) == (True, None)
        assert_same_speech(running.pcm(BODY), alone["demo"])
        (directory / "gone.json").rename(directory / "config.json")
        assert_same_speech(running.pcm(BODY | {"model": "fast"}), alone["fast"])


def test_a_checkpoint_that_is_broken_is_known_at_the_start(checkpoints, tmp_path):
    sources = [
        ModelSource("demo", lambda: moss_tts.load(checkpoints["delay"])),
        ModelSource("broken", lambda: moss_tts.load(tmp_path)),
    ]
    models = Models(sources, Settings())
    with pytest.raises(CheckpointError):
        models.start()
    assert models.stop(PATIENCE)
